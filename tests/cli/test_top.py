"""`nexus-redis top`, as a person sees and steers it: on a small and on a large terminal, with a real server."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from nexus_redis import Nexus
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import listed
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._protocol.states import State
from nexus_redis._values.identity import whoami
from nexus_redis._values.parse import micro, micro_rate
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.cli import texts
from nexus_redis.cli.context import Context, open_context
from nexus_redis.cli.exit_codes import SIGNALLED
from nexus_redis.cli.top.application import Top
from nexus_redis.cli.top.detail import NO_HISTORY
from nexus_redis.cli.top.past import BARS, Past, curve
from nexus_redis.cli.top.rows import Rows
from tests.harness.chaos import Proxy
from tests.harness.command_line import Shell
from tests.harness.servers import Server
from tests.harness.support import eventually, finish, patient, run
from tests.harness.terminal import gone, lines, seen, typed, until

TINY, SMALL, LARGE = (40, 10), (80, 24), (200, 50)
sizes = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])
HOSTILE = "[bold red]x[/] \x1b[2J \u202e [link=file:///etc]y[/link]"
Body = Callable[[Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture
def shell(one_server: Server) -> Shell:
    return Shell(one_server.url, one_server.client(decode_responses=True))


@pytest.fixture
def context(one_server: Server) -> Iterator[Context]:
    with open_context(one_server.url, None) as context:
        yield context


@asynccontextmanager
async def started(url: str, size: tuple[int, int] = SMALL, every: float = 0.3) -> AsyncIterator[Pilot[None]]:
    """The application on a terminal of this size."""
    with open_context(url, None) as context:
        async with Top(context, every).run_test(size=size, notifications=True) as pilot:
            yield pilot


def on(url: str, body: Body, size: tuple[int, int] = SMALL, every: float = 0.3) -> None:
    """Run `body` with the application on a terminal of this size."""

    async def main() -> None:
        async with started(url, size, every) as pilot:
            await body(pilot)

    run(main())


def place(text: str, *words: str) -> list[int]:
    """Return the line of each word."""
    rows = text.splitlines()
    return [next(at for at, row in enumerate(rows) if word in row) for word in words]


def claim(keys: BudgetKeys, number: int, name: str = "filebeat-{:04}") -> Call[calls.Answer]:
    """A claim of a producer that stays, with a demand of its own."""
    ask = calls.Claim(
        requested_rate=micro_rate(1 + number), weight=micro(1), priority="normal", incarnation=f"{number:016x}", seq=1
    )
    return calls.claim(keys, name.format(number), ask, with_all_keys=True)


# --- all budgets -----------------------------------------------------------------------------------------------------


@sizes
def test_all_budgets_are_seen(shell: Shell, size: tuple[int, int]) -> None:
    """A budget has its state, rate, level, load and members in a line; there is a line of keys."""
    shell("set", "stripe", "--rate", "5000")
    shell("report", "es", "--id", "es-1", "--load", "95", "--capacity", "400")

    async def body(pilot: Pilot[None]) -> None:
        text = await seen(pilot, "2 budgets, 0 in trouble", "5,000/s", State.NEARLY_FULL, "100/s", "95 %")
        assert all(len(line) <= size[0] for line in text.splitlines())
        await seen(pilot, "Pause", "Resume", "Filter", "Sort", "Help", "Quit")
        assert place(text, State.NEARLY_FULL) == place(text, "100/s")

    on(shell.url, body, size)


def test_nothing_is_there(shell: Shell) -> None:
    """A namespace without a budget says so, and a budget that is made meanwhile appears."""

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "no budgets")
        await pilot.press("enter", "p", "r", "end")
        shell("set", "stripe", "--rate", "5000")
        await seen(pilot, "stripe", "1 budget,")

    on(shell.url, body)


def test_trouble_comes_first(shell: Shell) -> None:
    """Budgets stand in the order of how much they need a person, and each says its state in words."""
    shell("set", "a-fine", "--rate", "5000")
    shell("report", "b-busy", "--id", "1", "--load", "95", "--capacity", "400")
    shell("report", "c-full", "--id", "1", "--load", "100", "--capacity", "400")
    shell("set", "d-unset", "--burst", "1")
    shell("report", "e-gone", "--id", "1", "--load", "50", "--capacity", "400", "--every", "0.1")
    shell("set", "f-stopped", "--rate", "5000")
    shell("pause", "f-stopped")
    shell("set", "h-zero", "--rate", "0")
    shell("set", "g-wrong", "--rate", "5")
    shell.client.hset("nexus:{g-wrong}", "rate_by_operator", "much")
    assert eventually(lambda: shell("status", "e-gone", "--json").json["reason"] == "no_consumers")

    async def body(pilot: Pilot[None]) -> None:
        text = await seen(pilot, "8 budgets, 5 in trouble")
        names = ("g-wrong", "e-gone", "h-zero", "c-full", "f-stopped", "b-busy", "d-unset", "a-fine")
        words = tuple(each for each in State if each not in (State.NO_RATE, State.BLOCKED, State.BUSY))
        assert place(text, *names) == sorted(place(text, *names)) == place(text, *words)

    on(shell.url, body)


def test_sort_by_each_column(shell: Shell) -> None:
    """`s` sorts by the next column, `S` the other way round, and a click on a title by that column."""
    for name, rate in (("b", 100), ("a", 300), ("c", 200)):
        shell("set", f"svc-{name}", "--rate", str(rate))

    async def body(pilot: Pilot[None]) -> None:
        def order(text: str) -> str:
            return "".join(re.findall(r"svc-(\w)", text))

        await until(pilot, lambda text: order(text) == "abc" and "STATE▲" in text)
        await pilot.press("s")
        await until(pilot, lambda text: order(text) == "acb" and "RATE▼" in text)
        await pilot.press("S")
        await until(pilot, lambda text: order(text) == "bca" and "RATE▲" in text)
        await pilot.click(Rows, offset=(2, 0))
        await until(pilot, lambda text: order(text) == "abc" and "BUDGET▲" in text)
        await pilot.click(Rows, offset=(2, 0))
        await until(pilot, lambda text: order(text) == "cba" and "BUDGET▼" in text)

    on(shell.url, body)


def test_the_filter_finds_words(shell: Shell) -> None:
    """The filter finds a budget by its state and by the reason of its pause, too."""
    for name in ("es", "mail", "stripe"):
        shell("set", name, "--rate", "5" if name != "mail" else "0")
    shell("pause", "stripe", "--reason", "Night shift")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "3 budgets")
        for words, name in (("paus", "stripe"), ("night", "stripe"), ("rate 0", "mail"), ("ES", "es")):
            await pilot.press("slash", "ctrl+u")
            await typed(pilot, words)
            found = partial(re.search, rf"1 of 3 budgets[\s\S]*^{name} ", flags=re.MULTILINE)
            await until(pilot, found)
            await pilot.press("enter")

    on(shell.url, body)


def test_a_pause_says_why_in_the_list(shell: Shell) -> None:
    """Where there is room, the list shows the reason of a pause, and names in full; on a small one the name stays."""
    shell("set", "stripe-of-the-shop-in-the-north", "--rate", "5")
    shell("pause", "stripe-of-the-shop-in-the-north", "--reason", "the bank asked for it until its upgrade is done")

    async def large(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe-of-the-shop-in-the-north", "the bank asked for it until its upgrade is done")

    async def small(pilot: Pilot[None]) -> None:
        text = await seen(pilot, "stripe-o", State.PAUSED)
        assert "the bank" not in text

    on(shell.url, large, LARGE)
    on(shell.url, small, SMALL)


def test_names_stand_in_natural_order(shell: Shell, context: Context) -> None:
    """Producers with the most unmet demand stand first, those with as much by name, host-2 before host-10."""
    shell("set", "es", "--rate", "5000")
    context.ask(*[claim(context.keys("es"), number, "host-{}") for number in (10, 2, 1, 90_000)])

    async def body(pilot: Pilot[None]) -> None:
        await until(pilot, lambda text: re.search(r"es .* 4$", text, re.MULTILINE))
        await pilot.press("enter", "3")
        text = await seen(pilot, "host-1 ", "host-2 ", "host-10 ", "host-90000 ")
        assert re.findall(r"^host-(\d+)", text, re.MULTILINE) == ["90000", "1", "2", "10"]

    on(shell.url, body)


@sizes
def test_a_thousand_budgets(shell: Shell, context: Context, size: tuple[int, int]) -> None:
    """Of 1,000 budgets those that fit are seen; keys move through all, and a typed part of a name finds one."""
    names = [f"svc-{i:04}" for i in range(1000)]
    for at in range(0, 1000, 100):
        jobs = [
            calls.configure(context.keys(name), BudgetSettings.of(rate=1 + i), source="operator")
            for i, name in enumerate(names[at : at + 100])
        ]
        context.ask(*jobs, *[listed("nexus", name, is_kept=True) for name in names[at : at + 100]])

    async def body(pilot: Pilot[None]) -> None:
        text = await seen(pilot, "1,000 budgets, 0 in trouble", names[0])
        assert size[1] - 6 < text.count("svc-") < size[1]
        await pilot.press("end")
        await seen(pilot, names[-1])
        await pilot.press("home", "pagedown")
        await gone(pilot, names[-1])
        await seen(pilot, names[size[1] - 5])
        await pilot.press("slash")
        await typed(pilot, "VC-077")
        text = await seen(pilot, "10 of 1,000 budgets")
        assert text.count("svc-") == 10
        await pilot.press("enter", "down", "enter")
        await seen(pilot, "svc-0771", "1 Why")
        await pilot.press("escape")
        await seen(pilot, "10 of 1,000 budgets")
        await pilot.press("escape")
        await seen(pilot, names[768], names[771])

    on(shell.url, body, size, every=5)


# --- one budget ------------------------------------------------------------------------------------------------------


@sizes
def test_one_budget_is_seen(shell: Shell, size: tuple[int, int]) -> None:
    """A budget opens with its curves and its reason; each tab has what its name says."""
    shell("set", "es", "--rate", "5000", "--by", "anna@ops1", "--reason", "night shift")
    shell(
        "report", "es", "--id", "es-1", "--load", "95", "--capacity", "400", "--queue-depth", "7", "--queue-limit", "9"
    )
    shell("report", "es", "--id", "es-2", "--load", "10", "--capacity", "400", "--every", "0.1")
    assert eventually(lambda: not all(each["is_live"] for each in shell("status", "es", "--json").json["consumers"]))
    explained = shell("explain", "es", "--json").json

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, State.NEARLY_FULL)
        await pilot.press("enter")
        text = await seen(pilot, f"es  {State.NEARLY_FULL}  100/s", "rate ", "granted ", "load ", "level ", *BARS[-1])
        assert " ".join(explained["because"][0].split()[:3]) in text
        assert explained["remedies"][0].partition(" ")[0] in text
        await pilot.press("2")
        text = await seen(pilot, "es-1", "es-2")
        live, stale = (text.splitlines()[at] for at in place(text, "es-1", "es-2"))
        assert re.search(r"es-1 +live +95 % +7/9 .*400/s +range +100/s", live)
        assert re.search(r"es-2 +stale +10 %", stale)
        await pilot.press("4")
        await seen(pilot, "anna@ops1", "night shift", "WHAT")
        await pilot.press("5")
        await seen(pilot, "rate 5,000/s (operator anna@ops1")
        await pilot.press("escape")
        await seen(pilot, "BUDGET")

    on(shell.url, body, size)


@pytest.mark.parametrize(("count", "size"), [(1, SMALL), (100, LARGE), (2000, SMALL), (2000, LARGE)])
def test_producers_are_seen(shell: Shell, context: Context, size: tuple[int, int], count: int) -> None:
    """Each of 1, 100 and 2,000 producers has its demand, share, held tokens, weight and priority."""
    shell("set", "es", "--rate", "5000")
    for at in range(0, count, 500):
        context.ask(*[claim(context.keys("es"), number) for number in range(at, min(at + 500, count))])

    async def body(pilot: Pilot[None]) -> None:
        await until(pilot, lambda text: re.search(rf"es .* {count:,}( |$)", text, re.MULTILINE))
        await pilot.press("enter", "3")
        text = await seen(pilot, f"{count:,} producer", "UNMET▼", f"filebeat-{count - 1:04}  ", "normal")
        assert re.search(rf"filebeat-{count - 1:04} +{count:,}/s", text)
        await until(pilot, lambda text: f"filebeat-{count - 1:04}" in text.partition("UNMET▼")[2].splitlines()[1])
        await pilot.click("#producers Rows", offset=(2, 0))
        await seen(pilot, "PRODUCER▲", "filebeat-0000  ")
        await pilot.press("end")
        await seen(pilot, f"filebeat-{count - 1:04}  ")

    on(shell.url, body, size)


def test_granted_tokens_are_counted(shell: Shell, one_server: Server) -> None:
    """The tokens granted between two looks are seen as a rate, in the table and in the curve."""
    with Nexus(one_server.client()) as nexus:
        budget = nexus.budget("es", rate=50)

        async def body(pilot: Pilot[None]) -> None:
            def take(text: str) -> object:
                budget.try_acquire(1)
                return re.search(rf"es +{State.OK} +50/s +[1-9][\d.,]*/\w+ ", text)

            await until(pilot, take)
            await pilot.press("enter")
            await until(pilot, lambda text: re.search(r"granted .*█.*most [1-9]", text))

        on(shell.url, body, LARGE)


def test_a_pause_is_told_once(shell: Shell) -> None:
    """The tab of the reason tells of a pause once; a history without entries is a sentence."""
    shell("set", "stripe", "--rate", "5000")
    shell("pause", "stripe", "--reason", "night shift")
    shell.client.delete("nexus:{stripe}:history")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, State.PAUSED)
        await pilot.press("enter")
        text = await seen(pilot, "night shift")
        assert text.count("night shift") == 1
        await pilot.press("4")
        await seen(pilot, NO_HISTORY)

    on(shell.url, body)


def test_a_deleted_budget_says_so(shell: Shell) -> None:
    """A budget that somebody deletes while it is open says that it is gone, and comes back when it is made again."""
    shell("set", "stripe", "--rate", "5000")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe")
        await pilot.press("enter")
        await seen(pilot, "1 Why", "5,000/s")
        shell("delete", "stripe", "--yes")
        await seen(pilot, "stripe  is gone")
        await pilot.press("p", "r")
        shell("set", "stripe", "--rate", "20")
        await seen(pilot, "20/s")
        await gone(pilot, "is gone")

    on(shell.url, body)


def test_damage_hides_nothing_else(shell: Shell) -> None:
    """A damaged budget can be opened: the line above says what cannot be read."""
    shell("set", "broken", "--rate", "5")
    shell("set", "fine", "--rate", "5")
    shell.client.hset("nexus:{broken}", "rate_by_operator", "much")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, State.DAMAGED, "fine")
        await pilot.press("enter")
        await seen(pilot, "! ", "rate_by_operator")
        await pilot.press("p", "escape")
        await seen(pilot, "fine")

    on(shell.url, body)


# --- changes ---------------------------------------------------------------------------------------------------------


def events(shell: Shell, name: str) -> list[tuple[str, str, str]]:
    """What the history says that people did: who, what, why; the newest first."""
    return [(each["who"], each["what"], each["why"]) for each in shell("explain", name, "--json").json["history"]]


@pytest.mark.parametrize(
    ("size", "keys"), [(SMALL, ()), (LARGE, ("enter",))], ids=["80x24 in the table", "200x50 opened"]
)
def test_pause_and_resume(shell: Shell, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    """A pause and its end are confirmed with budget and effect, and stand in Redis with who and why."""
    shell("set", "stripe", "--rate", "5000")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe")
        await pilot.press(*keys)
        await seen(pilot, "stripe", *(["1 Why"] if keys else []))
        await until(pilot, lambda text: "5,000/s" in text)
        await pilot.press("p")
        await seen(pilot, "Pause stripe?", "No process on any host", "5,000/s")
        await typed(pilot, "30m")
        await pilot.press("enter")
        await typed(pilot, "night shift")
        await pilot.press("enter")
        assert not shell("status", "stripe", "--json").json["is_paused"]
        await pilot.press("enter")
        await seen(pilot, "stripe: paused for 30 min (night shift)")
        await gone(pilot, "Pause stripe?")
        found = shell("status", "stripe", "--json").json
        assert (found["pause_who"], found["pause_reason"], found["pause_by"]) == (whoami(), "night shift", "operator")
        assert 1700 < found["paused_for"] <= 1800
        await pilot.press("r")
        await seen(pilot, "Resume stripe?", "night shift")
        await typed(pilot, "done")
        await pilot.press("enter", "enter")
        await gone(pilot, "Resume stripe?")
        assert eventually(lambda: not shell("status", "stripe", "--json").json["is_paused"])
        assert [(who, why) for who, _, why in events(shell, "stripe")[:2]] == [
            (whoami(), "done"), (whoami(), "night shift"),
        ]  # fmt: skip
        await until(pilot, lambda text: f"  {State.OK}" in text)

    on(shell.url, body, size)


@pytest.mark.parametrize("keys", [("escape",), ("tab", "tab", "tab", "enter")], ids=["escape", "the button"])
@pytest.mark.parametrize("key", ["p", "r"])
def test_what_is_cancelled_writes_nothing(shell: Shell, key: str, keys: tuple[str, ...]) -> None:
    """Neither Escape nor `Cancel` changes anything, also after something was typed."""
    shell("set", "stripe", "--rate", "5000")
    if key == "r":
        shell("pause", "stripe")
    before = events(shell, "stripe")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe")
        await pilot.press(key)
        await seen(pilot, "stripe?")
        await typed(pilot, "30")
        await pilot.press(*(keys if key == "p" else keys[len(keys) > 1 :]))
        await gone(pilot, "stripe?")

    on(shell.url, body)
    assert events(shell, "stripe") == before
    assert shell("status", "stripe", "--json").json["is_paused"] == (key == "r")


@pytest.mark.parametrize(("time", "reason"), [("soon", ""), ("9d", ""), ("30", "x" * 300)])
def test_a_wrong_answer_is_refused(shell: Shell, time: str, reason: str) -> None:
    """A time or a reason that cannot be taken is refused in the dialog, with the remedy; nothing is written."""
    shell("set", "stripe", "--rate", "5000")
    before = events(shell, "stripe")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe")
        await pilot.press("p")
        await seen(pilot, "Pause stripe?")
        await typed(pilot, time)
        await pilot.press("enter")
        if reason:
            pilot.app.screen.query_one("#reason").post_message(Paste(reason))
        await pilot.press("enter", "enter")
        await seen(pilot, "! ", "reason=" if reason else f"pause='{time}'")
        await pilot.press("escape")
        await gone(pilot, "Pause stripe?")

    on(shell.url, body)
    assert events(shell, "stripe") == before


def test_nothing_to_resume(shell: Shell) -> None:
    """`r` on a budget that is not paused says so, and asks nothing."""
    shell("set", "stripe", "--rate", "5000")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe")
        await pilot.press("r")
        await seen(pilot, "stripe is not paused")

    on(shell.url, body)


def test_a_change_may_be_refused(shell: Shell) -> None:
    """A budget that is deleted while the dialog is open is not made again, and the screen says so."""
    shell("set", "stripe", "--rate", "5000")

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe")
        await pilot.press("p")
        await seen(pilot, "Pause stripe?")
        shell("delete", "stripe", "--yes")
        await pilot.press("enter", "enter", "enter")
        await seen(pilot, "Nothing was changed")

    on(shell.url, body)
    assert shell("status", "--json").json == []


def test_a_tiny_terminal_is_enough(shell: Shell, context: Context) -> None:
    """On 40 columns and 10 lines, rates are whole and the dialog has all its fields and buttons, also at a refusal."""
    shell("set", "stripe-of-the-shop-in-the-north", "--rate", "5000")
    shell("report", "stripe-of-the-shop-in-the-north", "--id", "es-1", "--load", "50", "--capacity", "4000")
    context.ask(*[claim(context.keys("stripe-of-the-shop-in-the-north"), number) for number in range(1000, 1020)])

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "stripe", State.OK, "4,000/s")
        await pilot.press("p")
        await seen(pilot, "Pause", "stripe", "No process", "Time", "no end.", "Reason", "Cancel")
        await typed(pilot, "soon")
        await pilot.press("enter", "enter", "enter")
        text = await seen(pilot, "! ", "Time", "soon", "Reason", "Cancel")
        assert all(len(line) <= TINY[0] for line in text.splitlines())
        await pilot.press("escape", "enter", "2")
        await seen(pilot, "es-1", "4,000/s")
        await pilot.press("3")
        await until(pilot, lambda text: re.search(r"^fil.*19 .*/s", text, re.MULTILINE))

    on(shell.url, body, TINY)


# --- trouble ---------------------------------------------------------------------------------------------------------


def test_redis_stops_and_returns(shell: Shell, one_server: Server) -> None:
    """While Redis is away, a line says so above the last state; the screen goes on when Redis is back."""
    shell("set", "stripe", "--rate", "5000")
    with Proxy(one_server.port) as proxy:

        async def body(pilot: Pilot[None]) -> None:
            await seen(pilot, "stripe", "5,000/s")
            proxy.refuse()
            proxy.reset()
            text = await seen(pilot, "! ", str(proxy.port), "stripe", "5,000/s")
            assert " ".join(texts.watch_shows_old("", "").split()[1:4]) in " ".join(text.split())
            await pilot.press("p")
            await typed(pilot, "30")
            await pilot.press("enter", "enter", "enter")
            await seen(pilot, "Nothing was changed")
            shell("set", "stripe", "--rate", "20")
            proxy.accept()
            await until(pilot, lambda text: "20/s" in text and "! " not in text)

        on(proxy.url, body)


def test_redis_is_away_from_the_start(shell: Shell, one_server: Server) -> None:
    """An application that begins without Redis says so, and shows the budgets when Redis is there."""
    shell("set", "stripe", "--rate", "5000")
    with Proxy(one_server.port) as proxy:
        proxy.refuse()

        async def body(pilot: Pilot[None]) -> None:
            await seen(pilot, "! ", str(proxy.port))
            await pilot.press("enter", "p", "slash", "escape")
            proxy.accept()
            await seen(pilot, "stripe", "5,000/s")

        on(proxy.url, body)


def test_keys_work_while_redis_is_silent(shell: Shell, one_server: Server) -> None:
    """No look stops a key: while Redis does not answer, help opens, and a budget opens and closes."""
    shell("set", "stripe", "--rate", "5000")
    with Proxy(one_server.port) as proxy:

        async def body(pilot: Pilot[None]) -> None:
            await seen(pilot, "stripe", "5,000/s")
            proxy.is_deaf = True
            await pilot.pause(0.2)  # a look has begun by now, and does not end
            await pilot.press("question_mark")
            await seen(pilot, "quit, on")
            await pilot.press("escape", "enter")
            await seen(pilot, "1 Why")
            await pilot.press("escape")
            await seen(pilot, "BUDGET")
            proxy.is_deaf = False
            proxy.reset()

        on(patient(proxy.url), body)


@sizes
def test_hostile_text_stays_text(shell: Shell, size: tuple[int, int]) -> None:
    """Names, notes and reasons from Redis are shown as they are: no markup, no link, no control character."""
    shell("set", "es", "--rate", "5000", "--reason", HOSTILE)
    shell("report", "es", "--id", "es-1", "--load", "95", "--capacity", "400")
    shell("signal", "es", "--rate", "50", "--id", "p-1")
    shell("pause", "es", "--reason", HOSTILE)
    shell.client.rename("nexus:{es}:consumer:es-1", f"nexus:{{es}}:consumer:{HOSTILE}")
    score = shell.client.zscore("nexus:{es}:consumers", "es-1")
    assert isinstance(score, float)
    shell.client.zadd("nexus:{es}:consumers", {HOSTILE: score})
    shell.client.zadd("nexus:{es}:producers", {HOSTILE: 1e15})
    shell.client.hset(f"nexus:{{es}}:producer:{HOSTILE}", mapping={"weight": "1", "priority": "high"})

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, State.PAUSED)
        await pilot.press("enter")
        for tab in "12345":
            await pilot.press(tab)
            text = await seen(pilot, "[bold red]" if tab not in "23" or size == LARGE else "[bold")
            assert all(line.isprintable() for line in text.splitlines())
            assert "file:///etc" not in re.findall(r'href="([^"]*)"', pilot.app.export_screenshot())
        await pilot.press("r")
        await seen(pilot, "Resume es?", "[bold red]x")

    on(shell.url, body, size)


def test_no_color_takes_nothing_away(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the screen has shades of grey only, and the same words."""
    shell("set", "stripe", "--rate", "5000")
    shell("pause", "stripe")

    def hues(pilot: Pilot[None]) -> set[str]:
        found = set(re.findall(r"fill: ?#(\w{6})", pilot.app.export_screenshot()))
        return {each for each in found if len({each[:2], each[2:4], each[4:]}) > 1}

    texts_seen, colours = [], []

    async def body(pilot: Pilot[None]) -> None:
        texts_seen.append((await seen(pilot, "stripe", State.PAUSED, "1 in trouble", "Quit")).partition("BUDGET")[2])
        colours.append(hues(pilot))

    on(shell.url, body)
    monkeypatch.setenv("NO_COLOR", "1")
    on(shell.url, body)
    assert texts_seen[0] == texts_seen[1]
    assert colours[0]
    assert colours[1] <= {"ff5f57", "febc2e", "28c840", "c5c8c6"}  # the frame that textual draws around a picture


@sizes
def test_help_names_each_key(shell: Shell, size: tuple[int, int]) -> None:
    """`?` explains the keys and the states, and `?` or Escape closes it."""

    async def body(pilot: Pilot[None]) -> None:
        await seen(pilot, "no budgets")
        await pilot.press("question_mark")
        await seen(pilot, "Enter", "filter", "sort", "pause or resume", "quit", State.DAMAGED)
        assert all(len(line) <= size[0] for line in lines(pilot))
        await pilot.press("question_mark")
        await gone(pilot, "pause or resume")
        await pilot.press("q")

    on(shell.url, body, size)


# --- curves ----------------------------------------------------------------------------------------------------------


def test_a_curve_is_scaled_from_zero() -> None:
    """A curve has its last values, scaled from 0 to the largest value or to what is given."""
    assert curve([], 5) == ""
    assert curve([7, 0, 50, 100], 3) == "▁▅█"
    assert curve([1, 2, 3], 3, most=3) == "▃▆█"
    assert curve([0, 0], 2) == "▁▁"
    assert curve([1], 0) == ""


def test_the_past_forgets_what_is_gone(shell: Shell, context: Context) -> None:
    """Budgets that are gone have no samples, and a new life of a state grants nothing at first."""
    from nexus_redis.cli.top.looks import look

    shell("set", "stripe", "--rate", "5000")
    past = Past()
    first = look(context, None).budgets
    past.add(first, 1.0)
    past.add(first, 2.0)
    assert [each.rate for each in past.of("stripe")] == [5000, 5000]
    assert past.granted("stripe") == 0
    past.add([], 3.0)
    assert len(past.of("stripe")) == 0


# --- the verb --------------------------------------------------------------------------------------------------------


def test_the_verb_needs_a_terminal(shell: Shell) -> None:
    """Without a terminal the verb says what to use instead."""
    ended = shell("top")
    assert (ended.code, ended.error) == (2, texts.TOP_NEEDS_TERMINAL)
    assert shell("top", "--every", "0").code == 2


def test_the_verb_needs_its_extra(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without textual the verb says in one line what to install."""
    monkeypatch.setattr("nexus_redis.cli.extras.find_spec", lambda _: None)
    ended = shell("top")
    assert (ended.code, ended.error) == (2, texts.install_extra("top", "textual"))


@pytest.mark.parametrize(("end", "code"), [("q", 0), ("\x03", 0), (signal.SIGTERM, SIGNALLED + signal.SIGTERM)])
def test_the_terminal_is_left_as_it_was(shell: Shell, end: str | signal.Signals, code: int) -> None:
    """`q`, Ctrl-C and SIGTERM end the verb and leave the other screen."""
    shell("set", "stripe", "--rate", "5000")
    ours, theirs = os.openpty()
    process = shell.patient.start("top", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""

    def has_drawn() -> bool:
        nonlocal written
        written += os.read(ours, 1 << 16)
        return b"stripe" in written

    assert eventually(has_drawn)
    if isinstance(end, signal.Signals):
        process.send_signal(end)
    else:
        os.write(ours, end.encode())

    def has_ended() -> bool:
        nonlocal written
        try:
            written += os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            return True
        return False

    assert eventually(has_ended)
    finish(process)
    os.close(ours)
    assert process.returncode == code
    assert written.rindex(b"\x1b[?1049l") > written.rindex(b"\x1b[?1049h")


def test_the_extra_is_only_needed_by_top() -> None:
    """The module of the verb imports without textual."""
    assert importlib.util.find_spec("textual") is not None
    assert "textual" not in vars(importlib.import_module("nexus_redis.cli.commands.top"))
