"""resume: end the pause of a budget."""

from nexus_redis.cli.common_options import By, Create, Key, Name, Namespace, Reason, Url, attribution, target_of


def resume(
    name: Name,
    *,
    reason: Reason = "",
    by: By = None,
    create: Create = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """End a pause.

    \b
    Example:
      nexus-redis resume stripe
    """
    from nexus_redis.cli.operator_change import change

    change(target_of(name, key), url, namespace, creates=create, pause=0.0, **attribution(by, reason))
