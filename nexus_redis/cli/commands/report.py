"""report: send the state of a consumer once, as a shell script or cron does. `--json` prints a `ReportJson`."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from nexus_redis._values.formatting import rate, seconds
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Json, Key, Name, Namespace, Url, target_of
from nexus_redis.cli.exit_codes import Finding, Misuse, as_option
from nexus_redis.cli.output import as_json, print_error, standing
from nexus_redis.errors import INTERVAL, InvalidSetting, ServerRefused

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Standing
    from nexus_redis.cli.context import Context
    from nexus_redis.messages import LoadReport

ONE_A_MINUTE: Final = "60"  # seconds: what cron can do
MISSED_REPORTS: Final = 3
SHORTEST_LIFE: Final = 2.0  # seconds that a report counts, however short the interval is
LOSSLESS: Final = ("queue_limit", "queue_depth", "done", "errors", "in_flight")
# Numbers that may be 0 in a message; here 0 would mean that the consumer can never take anything.
POSITIVE: Final = ("capacity", "queue_limit", "slots")


def report(
    name: Name,
    *,
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="Report for the consumer ID.", show_default="this host")
    ] = None,
    load: Annotated[float | None, typer.Option(metavar="PERCENT", help="State how full the consumer is.")] = None,
    capacity: Annotated[
        str | None, typer.Option(metavar="RATE", help="State the rate that the consumer can take: 400, 400/s.")
    ] = None,
    queue_depth: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State how many tokens wait in the queue.")
    ] = None,
    queue_limit: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State how many tokens the queue can hold.")
    ] = None,
    done: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State the number of successes so far. It only grows.")
    ] = None,
    errors: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State the number of failures so far. It only grows.")
    ] = None,
    in_flight: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State how many tokens are at work.")
    ] = None,
    slots: Annotated[float | None, typer.Option(metavar="TOKENS", help="State how many tokens can be at work.")] = None,
    latency_ms: Annotated[
        str | None, typer.Option(metavar="MS", help="State how long one piece of work takes: 250, 1.5s.")
    ] = None,
    pause: Annotated[
        str | None, typer.Option(metavar="TIME", help="Pause this consumer for TIME: 90, 5m; 0 resumes it.")
    ] = None,
    every: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="State the time to the next report. This report counts for three times as long."
        ),
    ] = ONE_A_MINUTE,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Report the state of a consumer once.

    The verb sends a LoadReport and prints the rate that follows from it.

    \b
    Examples:
      nexus-redis report elasticsearch --id es-1 --load 95 --capacity 400
      nexus-redis report postgres --queue-depth 40 --queue-limit 1000 --done 81250 --every 10
    """
    from nexus_redis._protocol.calls import REPORTED
    from nexus_redis._protocol.json_forms import report_of
    from nexus_redis._values.parse import is_fraction, typed_milliseconds, typed_seconds
    from nexus_redis._values.settings import parse_name, parse_rate
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.fast_signal import host_id
    from nexus_redis.cli.unknown_budgets import VERY_SIMILAR, exists, similar_budgets, suggestion
    from nexus_redis.messages import LoadReport

    target, interval = target_of(name, key), typed_seconds(every, "every", INTERVAL)
    message = LoadReport.of(
        consumer_id=target.name, instance_id=parse_name(id, "id") if id is not None else host_id(), load=load,
        capacity=parse_rate(capacity, "capacity") if capacity is not None else None, queue_depth=queue_depth,
        queue_limit=queue_limit, done=done, errors=errors, in_flight=in_flight, slots=slots,
        latency_ms=typed_milliseconds(latency_ms, "latency_ms") if latency_ms is not None else None,
        interval_ms=interval * 1e3, pause_ms=typed_seconds(pause, "pause") * 1e3 if pause is not None else None,
    )  # fmt: skip
    measures = {field: getattr(message, field) for field in REPORTED}
    _refuse_too_little(measures)
    if load is not None and is_fraction(load):  # before the report: this may be why it is refused
        print_error(texts.load_is_fraction(load))
    with open_context(url, namespace) as context:
        is_new = not context.ask(exists(context.keys(target.name)))[0]
        now = _sent(context, message, measures)
        near = similar_budgets(context, target.name, VERY_SIMILAR)[:1] if is_new and target.parent is None else []
    lives = max(MISSED_REPORTS * interval, SHORTEST_LIFE)
    if near:  # a warning only: the first report of a consumer creates its budget
        print_error(texts.new_budget(target.name, suggestion(near)))
    print(as_json(report_of(message, now, lives)) if json else _in_words(message, now, lives))


def _refuse_too_little(measures: dict[str, float | None]) -> None:
    for field in POSITIVE:
        if measures[field] == 0:
            raise InvalidSetting(field, 0, texts.ZERO_REMEDY)
    if all(value is None for field, value in measures.items() if field != "interval_ms"):
        raise Misuse(texts.NOTHING_TO_REPORT)


def _sent(context: "Context", message: "LoadReport", measures: dict[str, float | None]) -> "Standing":
    from nexus_redis._protocol import calls
    from nexus_redis._protocol.calls import text
    from nexus_redis._protocol.fields import instant
    from nexus_redis._protocol.plans import Command

    call = calls.report(context.keys(message.consumer_id), message.instance_id, measures)
    began = context.ask(Command(("TIME",), lambda reply: int(reply[0]) + int(reply[1]) // 1000 / 1000))[0]
    try:
        now: Standing = context.ask(call)[0]
    except (ServerRefused, InvalidSetting) as error:
        raise _in_options(error, message.consumer_id, measures) from None
    context.list_budget(message.consumer_id)
    # Redis answers a report that comes too soon after the last one, and does not keep it.
    kept = context.ask(Command(("HGET", call.keys[-2], "reported_at"), lambda reply: instant(text(reply))))[0]
    if kept < began - 0.0005:  # both are whole milliseconds
        raise Finding(texts.report_too_soon(message.instance_id, message.consumer_id, (message.interval_ms or 0) / 1e3))
    return now


def _in_options(error: Exception, budget: str, measures: dict[str, float | None]) -> Exception:
    """Return a refusal that depends on the state of the budget, in terms of the options."""
    # The load is within its range, so Redis refuses it only if no law computes a rate from the report.
    if getattr(error, "code", "") == "NEXUS_NO_LAW" or getattr(error, "field", "") == "load":
        load = measures["load"]
        return Misuse(texts.no_law(budget) if load is None else texts.load_alone(load, budget))
    if isinstance(error, InvalidSetting) and error.field in LOSSLESS and measures[error.field] is None:
        return InvalidSetting(error.field, remedy=texts.lossless_remedy(", ".join(map(as_option, LOSSLESS))))
    return error


def _in_words(message: "LoadReport", now: "Standing", lives: float) -> str:
    capacity = f", capacity {rate(now.capacity)}" if now.capacity else ""
    return (
        f"{message.consumer_id}: {message.instance_id} can take {rate(now.rate)} (law {now.law}{capacity}) for the "
        f"next {seconds(lives)}; the budget: {standing(now.budget_rate, now.level, now.reason, now.load)}"
    )
