"""signal, report: the protocol's messages from a shell. Each is one call that leaves nothing running."""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nexus_redis._values.parse import budget_name
from nexus_redis.cli.exit_codes import Finding, Misuse
from nexus_redis.cli.unknown_budgets import VERY_ALIKE, alike, either, is_there, require
from nexus_redis.cli.common_options import Create, Json, Key, Name, Namespace, Url
from nexus_redis.cli.output import as_json, rate, seconds, standing
from nexus_redis.errors import INTERVAL, InvalidSetting, ServerRefused

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Standing
    from nexus_redis.cli.context import Place
    from nexus_redis.messages import LoadReport

ONE_A_MINUTE: Final = "60"  # seconds: what cron can do
MISSED_REPORTS: Final = 3
LOSSLESS: Final = ("queue_limit", "queue_depth", "done", "errors", "in_flight")
# A number that may be 0 in a message, where 0 would say that nothing is ever possible.
POSITIVE: Final = ("capacity", "queue_limit", "slots")


def signal(
    name: Name,
    *,
    rate: Annotated[
        str,
        typer.Option(metavar="RATE", help='State the rate that you would send: 10000, "100/s".', show_default=False),
    ],
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="Ask as the producer ID.", show_default="this host")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="N", help="Set the weight of its share.", show_default="1")
    ] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Set the priority: high, normal or low.", show_default="normal")
    ] = None,
    create: Create = False,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Ask, as a producer, at which rate to send.

    The verb sends a CapacitySignal and prints the FlowControl. It counts in the running epoch, takes no token and
    leaves no producer behind.

    \b
    Example:
      nexus-redis signal elasticsearch --rate 10000 --id filebeat-1
    """
    from nexus_redis._protocol import calls
    from nexus_redis._values.parse import parse_rate
    from nexus_redis.cli import fast_parser
    from nexus_redis.cli.context import place

    parent = name if key is not None else None
    name = budget_name(name, key)
    told = fast_parser.signal(name, rate, id, weight, priority, url=url, namespace=namespace, creates=create)
    if told is None:
        asked, _ = fast_parser.question(name, rate, id, weight, priority, namespace)
        with place(url, namespace) as here:
            if not create:
                require(here, name, parent, can_create=True)
            told = {**calls.flow_fields(name, here.ask(asked)[0]), "requested": parse_rate(rate)}
            here.list_budget(name)
    print(fast_parser.shown(told, json=json))


def report(
    name: Name,
    *,
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="Report for the consumer ID.", show_default="this host")
    ] = None,
    load: Annotated[float | None, typer.Option(metavar="PERCENT", help="State how full the consumer is.")] = None,
    capacity: Annotated[
        str | None, typer.Option(metavar="RATE", help="State the rate that it can take: 400, 400/s.")
    ] = None,
    queue_depth: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State how many tokens wait in its queue.")
    ] = None,
    queue_limit: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State how many tokens its queue can hold.")
    ] = None,
    done: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State its successes so far. The count only grows.")
    ] = None,
    errors: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="State its failures so far. The count only grows.")
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
            metavar="TIME", help="State the time to the next report. This one counts for three times as long."
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
    from nexus_redis._values.parse import FRACTION, is_fraction, typed_milliseconds, typed_seconds
    from nexus_redis._values.settings import parse_name, parse_rate
    from nexus_redis.cli.context import place
    from nexus_redis.cli.fast_parser import host
    from nexus_redis.messages import LoadReport

    name = budget_name(name, key)
    interval = typed_seconds(every, "every", INTERVAL)
    message = LoadReport.of(
        consumer_id=name, instance_id=parse_name(id, "id") if id is not None else host(), load=load,
        capacity=parse_rate(capacity, "capacity") if capacity is not None else None, queue_depth=queue_depth,
        queue_limit=queue_limit, done=done, errors=errors, in_flight=in_flight, slots=slots,
        latency_ms=typed_milliseconds(latency_ms, "latency_ms") if latency_ms is not None else None,
        interval_ms=interval * 1e3, pause_ms=typed_seconds(pause, "pause") * 1e3 if pause is not None else None,
    )  # fmt: skip
    said = {field: getattr(message, field) for field in REPORTED}
    _refuse_too_little(said)
    with place(url, namespace) as here:
        is_new = not here.ask(is_there(here.keys(name)))[0]
        now = _sent(here, message, said)
        near = alike(here, name, VERY_ALIKE)[:1] if is_new and key is None else []
    lives = max(MISSED_REPORTS * interval, 2.0)
    if is_fraction(load):
        print(f"nexus-redis: --load {load:g} is {load:g} %. {FRACTION}", file=sys.stderr)
    if near:  # a warning only: the first report of a consumer creates its budget
        print(f"nexus-redis: the budget {name} is new. Did you mean {either(near)}?", file=sys.stderr)
    print(as_json(_fields(message, now, lives)) if json else _came_to(message, now, lives))


def _sent(here: "Place", message: "LoadReport", said: dict[str, float | None]) -> "Standing":
    from nexus_redis._protocol import calls
    from nexus_redis._protocol.calls import text
    from nexus_redis._protocol.plans import Command
    from nexus_redis._protocol.snapshot import instant

    report = calls.report(here.keys(message.consumer_id), message.instance_id, said)
    began = here.ask(Command(("TIME",), lambda reply: int(reply[0]) + int(reply[1]) // 1000 / 1000))[0]
    try:
        now: Standing = here.ask(report)[0]
    except (ServerRefused, InvalidSetting) as error:
        raise _explained(error, said) from None
    here.list_budget(message.consumer_id)
    # One that comes too soon after the one before is answered and not kept, since its differences would say little.
    kept = here.ask(Command(("HGET", report.keys[-2], "reported_at"), lambda reply: instant(text(reply))))[0]
    if kept < began - 0.0005:  # both are whole milliseconds
        raise Finding(
            f"not taken: the last report of {message.instance_id} is less than half of --every "
            f"{(message.interval_ms or 0) / 1e3:g} old; wait, or say with --every how often you report"
        )
    return now


def _refuse_too_little(said: dict[str, float | None]) -> None:
    for field in POSITIVE:
        if said[field] == 0:
            raise InvalidSetting(field, 0, "use more than 0; to take nothing for a while, --pause SECONDS")
    if all(value is None for field, value in said.items() if field != "interval_ms"):
        raise Misuse(f"nothing to report: {_ENOUGH}")


_ENOUGH: Final = (
    "say how full (--load, --queue-depth with --queue-limit, or --in-flight with --slots) and how fast (--capacity); "
    "or --done with --queue-depth, --errors or --latency-ms"
)


def _explained(error: Exception, said: dict[str, float | None]) -> Exception:
    """What Redis refuses for what it knows of the budget, in terms of the options."""
    # The load that was sent is within its range, so one that is refused is one that no law follows from.
    if getattr(error, "code", "") == "NEXUS_NO_LAW" or getattr(error, "field", "") == "load":
        if said["load"] is not None:
            return Misuse(
                f"load={said['load']:g} says how full, not how fast: add --capacity or --done, "
                "or set a rate on the budget (nexus-redis set NAME --rate)"
            )
        return Misuse(f"no law follows from this: {_ENOUGH}")
    if isinstance(error, InvalidSetting) and error.field in LOSSLESS and said[error.field] is None:
        options = ", ".join(f"--{field.replace('_', '-')}" for field in LOSSLESS)
        return InvalidSetting(error.field, remedy=f"missing: the budget is lossless, so report all of {options}")
    return error


def _came_to(message: "LoadReport", now: "Standing", lives: float) -> str:
    capacity = f", capacity {rate(now.capacity)}" if now.capacity else ""
    return (
        f"{message.consumer_id}: {message.instance_id} can take {rate(now.rate)} (law {now.law}{capacity}) for the "
        f"next {seconds(lives)}; the budget: {standing(now.budget_rate, now.level, now.reason, now.load)}"
    )


def _fields(message: "LoadReport", now: "Standing", lives: float) -> dict[str, Any]:
    return {
        "consumer_id": message.consumer_id,
        "instance_id": message.instance_id,
        "rate": now.rate,
        "capacity": now.capacity,
        "law": now.law,
        "budget_rate": now.budget_rate,
        "backpressure_level": now.level,
        "current_load": now.load,
        "reason": now.reason,
        "birth": now.birth,
        "lives_s": lives,
    }
