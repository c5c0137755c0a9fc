"""Metrics: what the fleet does, and what this process does, for Prometheus, Datadog and OpenTelemetry.

    REGISTRY.register(NexusCollector(nexus))                      for prometheus_client, extra `metrics`
    body, content_type = await exposition(nexus)                  the page of a /metrics of your own
    with nexus_redis.metrics.datadog.Emitter(nexus): ...          DogStatsD, extra `datadog`
    nexus_redis.metrics.otel.observe(nexus)                       OpenTelemetry, extra `otel`

All of them have the same metrics, which `CATALOGUE` lists. docs/metrics.md shows them as a table.
"""

from typing import TYPE_CHECKING, Any

from nexus_redis.metrics.catalogue import CATALOGUE, Metric

if TYPE_CHECKING:
    from nexus_redis.metrics.prometheus import NexusCollector, exposition

__all__ = ["CATALOGUE", "Metric", "NexusCollector", "exposition"]


def __getattr__(name: str) -> Any:
    """Import prometheus_client when a name is used that needs it: Datadog and OpenTelemetry do without."""
    if name not in ("NexusCollector", "exposition"):
        raise AttributeError(name)
    from nexus_redis.metrics import prometheus

    return getattr(prometheus, name)
