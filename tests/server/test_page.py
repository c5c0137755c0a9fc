"""What a person sees on the page, in a real browser: all budgets, and one of them."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from nexus_redis import Nexus
from nexus_redis._protocol.history import SILENT
from nexus_redis._protocol.states import State
from nexus_redis._values import formatting
from tests.harness.servers import Server
from tests.server.browsing import GROUP, NO_BROWSER, claim, open_budgets, row, shown
from tests.server.served import Served

pytestmark = [GROUP, NO_BROWSER]
HOSTILE = "<img src=x onerror=document.title='owned'>\u202egnorw"
PLAIN = "<img src=x onerror=document.title='owned'>\ufffdgnorw"


def names(page: Page) -> list[str]:
    """The budgets or members in the document, from the top."""
    return page.locator("table.live tbody th").all_inner_texts()


def test_one_producer(served: Served, one_server: Server, page: Page) -> None:
    """A person finds a budget, opens it, and sees its figures, its members, and why it has its rate."""
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("elasticsearch", rate="2000/s")
        with budget.consumer("es-1", capacity=400) as consumer, budget.producer("filebeat-1", weight=2) as producer:
            consumer.report(load=95, queue_depth=30, queue_limit=100)
            producer.signal(10_000)
            page.goto(served.address)
            expect(row(page, "elasticsearch")).to_contain_text("100/s")
            expect(row(page, "elasticsearch")).to_contain_text("Nearly full")
            page.get_by_role("link", name="elasticsearch").click()
            expect(page.get_by_role("heading", name="elasticsearch")).to_be_focused()
            expect(shown(page, "Rate")).to_have_text("100/s")
            expect(shown(page, "Load")).to_have_text("95 %")
            expect(row(page, "es-1")).to_contain_text("Live")
            expect(row(page, "es-1")).to_contain_text("queue 30 of 100")
            expect(row(page, "es-1")).to_contain_text("400/s")
            expect(row(page, "filebeat-1").locator("td.cell-waiting")).to_have_text("-")  # it is elsewhere
            expect(page.get_by_role("region", name="Why this rate")).to_contain_text("es-1")
            expect(page.get_by_role("row", name="rate 2,000/s code")).to_be_visible()
            expect(page.get_by_role("img", name="Rate and granted")).to_be_visible()
            page.get_by_text("As a table, by the minute").first.click()
            expect(page.get_by_role("table", name="Rate and granted, by the minute")).to_contain_text("100/s")
        expect(page.get_by_text("No producer claims.")).to_be_visible()
        page.get_by_role("link", name="All budgets").click()
        expect(page.get_by_role("link", name="elasticsearch")).to_be_focused()


def test_a_hundred_producers(served: Served, one_server: Server, page: Page) -> None:
    """A press on a header sorts the producers by it, and another press the other way round."""
    served.put("crowd", rate=500)
    claim(one_server.client(), "crowd", [f"web-{n}" for n in range(1, 100)])
    claim(one_server.client(), "crowd", ["greedy"], rate=400)
    page.goto(f"{served.address}/#/budget/crowd")
    expect(page.get_by_role("heading", name="Producers")).to_contain_text("100 producers")
    table = page.get_by_role("table", name="Producers")
    demand, name = table.get_by_role("button", name="Demand"), table.get_by_role("button", name="Producer")
    demand.click()
    expect(table.get_by_role("columnheader", name="Demand")).to_have_attribute("aria-sort", "descending")
    expect(table.locator("tbody th").first).to_have_text("greedy")
    name.click()
    expect(table.locator("tbody th").nth(2)).to_have_text("web-2")  # and not web-10
    name.click()
    expect(table.get_by_role("columnheader", name="Producer")).to_have_attribute("aria-sort", "descending")
    expect(table.locator("tbody th").first).to_have_text("web-99")
    expect(table.locator("[aria-sort]")).to_have_count(1)


def test_two_thousand_producers(served: Served, one_server: Server, page: Page) -> None:
    """All of 2,000 producers can be reached, while the document has only those in view."""
    served.put("crowd", rate=50_000)
    claim(one_server.client(), "crowd", [f"p-{n}" for n in range(1, 2001)])
    page.goto(f"{served.address}/#/budget/crowd")
    expect(page.get_by_role("heading", name="Producers")).to_contain_text("2,000 producers")
    table = page.get_by_role("table", name="Producers")
    table.get_by_role("button", name="Producer").click()
    expect(table).to_have_attribute("aria-rowcount", "2001")
    expect(table.locator("tbody th").first).to_have_text("p-1")
    assert table.locator("tbody tr").count() < 100
    page.get_by_role("region", name="Producers").get_by_role("region").press("End")
    expect(row(page, "p-2000")).to_be_in_viewport()
    expect(row(page, "p-2000")).to_have_attribute("aria-rowindex", "2001")


def test_a_thousand_budgets(served: Served, one_server: Server, page: Page) -> None:
    """Of 1,000 budgets, those in trouble come first; a filter and a choice leave the others out."""
    open_budgets(one_server.client(), {f"api-{number}": 100 + number for number in range(1000)})
    served.post("/v1/budgets/api-500/pause", {"seconds": None, "reason": "provider incident"})
    page.goto(served.address)
    expect(page.get_by_text("1,000 budgets, 1 in trouble")).to_be_visible()
    expect(page).to_have_title("1 in trouble - nexus-redis")
    assert names(page)[:2] == ["api-500", "api-0"]
    assert len(names(page)) < 100
    expect(row(page, "api-500")).to_contain_text("paused: provider incident")
    page.get_by_label("Filter").fill("api-77")
    expect(page.get_by_text("11 of 1,000 budgets")).to_be_visible()
    assert names(page) == ["api-77", *[f"api-{n}" for n in range(770, 780)]]
    page.get_by_label("Filter").fill("incident")
    expect(page.get_by_text("1 of 1,000 budgets")).to_be_visible()
    page.get_by_label("Filter").fill("")
    page.get_by_label("Show").select_option("In trouble")
    expect(page.get_by_text("1 of 1,000 budgets")).to_be_visible()
    page.get_by_label("Show").select_option("All")
    page.get_by_role("button", name="Rate").click()
    expect(page.locator("table.live tbody th").first).to_have_text("api-999")


def test_only_changed_rows_are_touched(served: Served, page: Page) -> None:
    """An update writes the cells that changed, and leaves all other rows of the document alone."""
    for name in ("a", "b", "c"):
        served.put(name, rate=10)
    page.goto(served.address)
    for name in ("a", "b", "c"):  # what is granted is known from the second look on
        expect(row(page, name).get_by_role("cell", name="0/s", exact=True)).to_be_visible()
    page.evaluate("""() => {
        window.touched = new Set();
        new MutationObserver((list) => list.forEach(({target}) => {
            const node = target.nodeType === 1 ? target : target.parentElement;
            if (node.closest("td:last-child")) return;  // the time since the last call goes on
            window.touched.add(node.closest("tr")?.querySelector("th").textContent ?? "table");
        })).observe(document.querySelector("tbody"), {subtree: true, childList: true, characterData: true});
    }""")
    served.put("b", rate=20)
    expect(row(page, "b")).to_contain_text("20/s")
    assert page.evaluate("[...window.touched]") == ["b"]


def test_focus_and_place_are_kept(served: Served, page: Page) -> None:
    """A row with the focus, or under the pointer, keeps its place and the focus while others change."""
    for name in ("a", "b", "c"):
        served.put(name, rate=10)
    page.goto(served.address)
    page.get_by_role("link", name="b", exact=True).focus()
    served.post("/v1/budgets/c/pause", {"seconds": None, "reason": "why"})
    expect(row(page, "c")).to_contain_text("Paused")
    expect(page.get_by_role("link", name="b", exact=True)).to_be_focused()
    assert names(page) == ["a", "b", "c"]
    page.get_by_label("Filter").focus()
    expect(page.locator("table.live tbody th").first).to_have_text("c")
    row(page, "b").hover()
    served.post("/v1/budgets/b/pause", {"seconds": None, "reason": "why"})
    expect(row(page, "b")).to_contain_text("Paused")
    assert names(page) == ["c", "a", "b"]


def test_a_screen_reader_hears_of_trouble(served: Served, page: Page) -> None:
    """Trouble that comes and goes is announced. Figures that change are not."""
    served.put("stripe", rate=10)
    page.goto(served.address)
    expect(row(page, "stripe")).to_be_visible()
    announcer = page.locator("[aria-live=polite]")
    served.put("stripe", rate=20)
    expect(row(page, "stripe")).to_contain_text("20/s")
    expect(announcer).to_be_empty()
    served.post("/v1/budgets/stripe/pause", {"seconds": None, "reason": "why"})
    expect(announcer).to_have_text("stripe: Paused.")
    served.post("/v1/budgets/stripe/resume", {"reason": "why"})
    expect(announcer).to_have_text("stripe: OK.")


def test_hostile_texts_stay_texts(served: Served, one_server: Server, page: Page) -> None:
    """Names, ids, reasons and labels from anybody who can write to Redis are shown, and never run."""
    client, long = one_server.client(), "k" * 255
    served.put("stripe", rate=10, reason=HOSTILE)
    keyed = served.client.put("/v1/budgets/stripe", params={"key": long}, json={"settings": {"rate": 1}, "reason": "x"})
    served.post("/v1/budgets/stripe/pause", {"seconds": None, "reason": HOSTILE})
    claim(client, "stripe", ["web-1"])
    client.zadd("nexus:{stripe}:producers", {HOSTILE: 1.9e15})
    client.hset(f"nexus:{{stripe}}:producer:{HOSTILE}", mapping={"weight": "1", "priority": "normal"})
    page.goto(served.address)
    expect(page.get_by_role("link", name=keyed.json()["name"], exact=True)).to_be_visible()
    expect(row(page, "stripe")).to_contain_text(PLAIN)
    page.get_by_role("link", name="stripe", exact=True).click()
    expect(row(page, PLAIN)).to_be_visible()
    expect(page.get_by_role("region", name="Why this rate").get_by_text(PLAIN).first).to_be_visible()
    expect(page.get_by_role("region", name="Settings").get_by_text(PLAIN).first).to_be_visible()
    expect(page.get_by_role("region", name="History").get_by_text(PLAIN).first).to_be_visible()
    page.get_by_role("button", name="Resume…").click()
    expect(page.get_by_role("dialog")).to_contain_text(PLAIN)
    assert page.locator("img").count() == 0
    expect(page).to_have_title("stripe: Paused - nexus-redis")


def test_a_damaged_budget_says_so(served: Served, one_server: Server, page: Page) -> None:
    """A budget that cannot be read stands first, with the command that repairs it."""
    served.put("good", rate=10)
    served.put("torn", rate=10)
    one_server.client().hset("nexus:{torn}", "rate_per_s", "much")
    page.goto(served.address)
    expect(row(page, "torn")).to_contain_text("Damaged")
    assert names(page) == ["torn", "good"]
    page.get_by_role("link", name="torn").click()
    expect(page.get_by_text("repair torn")).to_be_visible()


def test_a_budget_that_is_not_there(served: Served, page: Page) -> None:
    """A link to a budget that does not exist says so, and the budget appears when it is made."""
    page.goto(f"{served.address}/#/budget/later")
    expect(page.get_by_text("There is no budget of this name")).to_be_visible()
    served.put("later", rate=7)
    expect(shown(page, "Rate")).to_have_text("7/s")


def test_waiters_and_denials_of_the_server(served: Served, page: Page) -> None:
    """Callers that wait in this server and those that it denied are counted under the budget, by producer."""
    served.put("api", rate="1/h")
    for _ in range(3):
        served.post("/v1/try", {"budget": "api", "cost": 1, "producer_id": "web-1"})
    page.goto(f"{served.address}/#/budget/api")
    table = page.get_by_role("table", name="Top denials")
    expect(table.get_by_role("row").filter(has_text="web-1")).to_contain_text("2")
    for who in ("web-1", "web-2", "web-2"):
        body = {"budget": "api", "cost": 1, "producer_id": who, "timeout_ms": 60_000}
        served.begin("/v1/acquire", json.dumps(body).encode())
    waiting = page.get_by_role("table", name="Callers that wait here")
    expect(waiting.locator("tbody tr")).to_have_text(["web-22", "web-11"])  # the id and the count
    own = page.get_by_role("table", name="Producers").locator("tbody tr")
    expect(own.locator("td.cell-waiting")).to_have_text("3")


def test_a_rate_of_zero_is_trouble(served: Served, page: Page) -> None:
    """A budget whose rate somebody has set to 0 stands among those in trouble, with a word of its own."""
    served.put("a", rate=10)
    served.put("slow", rate=0)
    page.goto(served.address)
    expect(row(page, "slow")).to_contain_text(State.RATE_0)
    assert names(page) == ["slow", "a"]
    expect(page).to_have_title("1 in trouble - nexus-redis")
    expect(row(page, "a").locator(".shape")).to_have_attribute("data-shape", "ok")
    expect(row(page, "slow").locator(".shape")).to_have_attribute("data-shape", "stop")


def test_the_way_back_keeps_the_place(served: Served, one_server: Server, page: Page) -> None:
    """Back from a budget far down, the list stands where it stood, and the budget has the focus."""
    open_budgets(one_server.client(), {f"api-{number}": 100 for number in range(500)})
    page.goto(served.address)
    expect(page.get_by_text("500 budgets")).to_be_visible()
    page.evaluate("scrollTo(0, 7000)")
    expect(page.locator("tbody a", has_text="api-0")).to_have_count(0)
    seen = page.evaluate(
        "[...document.querySelectorAll('tbody a')].find((a) => a.getBoundingClientRect().top > 300).textContent"
    )
    page.get_by_role("link", name=seen, exact=True).click()
    expect(page.get_by_role("heading", name=seen)).to_be_focused()
    page.go_back()
    expect(page.get_by_role("link", name=seen, exact=True)).to_be_focused()
    assert page.evaluate("scrollY") == 7000


def test_letters_and_numbers_in_order(served: Served, page: Page) -> None:
    """Numbers in names sort as numbers, and the digits of a hash as letters."""
    page.goto(served.address)
    code = """async (names) => {
        const {natural} = await import("/static/table.js");
        return names.toSorted((a, b) => (natural(a) < natural(b) ? -1 : 1));
    }"""
    assert page.evaluate(code, ["web10", "web2", "t/_23a", "t/_9fa", "t/_15c"]) == [
        "t/_15c", "t/_23a", "t/_9fa", "web2", "web10"
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["#/budget/%3Cb%3E", "#/budget/%"])
def test_a_link_that_names_no_budget(served: Served, page: Page, place: str) -> None:
    """A link whose name is none says so, and the page does not go on reading for good."""
    page.goto(f"{served.address}/{place}")
    expect(page.locator("#banner")).to_be_visible()
    expect(page.get_by_text("The server does not show this budget.")).to_be_visible()
    page.get_by_role("link", name="All budgets").click()
    expect(page.get_by_text("There is no budget yet")).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()


def test_a_stale_consumer_is_not_of_now(served: Served, page: Page) -> None:
    """A consumer that has stopped reporting has an age beside it, and the history says what ended."""
    served.put("es", rate=100)
    report = {"consumer_id": "es", "instance_id": "es-1", "load": 10, "capacity": 50, "interval_ms": 500}
    assert served.post("/v1/report", report).is_success
    page.goto(f"{served.address}/#/budget/es")
    expect(row(page, "es-1")).to_contain_text("Stale")
    expect(row(page, "es-1").locator("td.cell-age")).to_contain_text("s ago")
    expect(page.get_by_role("table", name="History").locator("tbody tr").first).to_contain_text(SILENT)
    expect(shown(page, "Load")).to_have_text("-")


def test_the_theme_follows_and_is_kept(served: Served, page: Page) -> None:
    """The page follows the system's theme until the button says otherwise, also after a reload."""
    page.goto(served.address)
    color = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(color)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(color)
    assert light != dark
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").wait_for()
    assert page.evaluate(color) == light
    page.reload()
    page.get_by_role("button", name="Theme: light").click()
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate(color) == dark


NUMBERS = (0, 0.26, 1 / 3, 0.0001234, 1, 9.5, 99.94, 100, 999.96, 1000, 1234.56, 2500.5, 9999.9, 10_000, 12345.6, 1e6)


def test_numbers_are_those_of_the_command_line(served: Served, page: Page) -> None:
    """The page writes rates, numbers, durations and percentages as the command line does."""
    page.goto(served.address)
    code = """async (numbers) => {
        const {number, rate, seconds, percent} = await import("/static/format.js");
        return numbers.map((x) => [number(x), rate(x), seconds(x), percent(x)]);
    }"""
    wanted = [[formatting.number(x), formatting.rate(x), formatting.seconds(x), formatting.percent(x)] for x in NUMBERS]
    assert page.evaluate(code, list(NUMBERS)) == wanted


def test_a_stream_in_pieces(page: Page, served: Served) -> None:
    """Events that arrive in pieces, with a letter cut in two, are read whole."""
    data = {"at": 1.0, "is_whole": True, "gone": [], "budgets": []}
    body = f": hello\n\nevent: trouble\ndata: {json.dumps({'text': 'é', 'since': 1}, ensure_ascii=False)}\n\n"
    body += f"event: budgets\ndata: {json.dumps(data)}\n\n"
    page.goto(served.address)
    found = page.evaluate(
        """async (body) => {
        const bytes = new TextEncoder().encode(body);
        const stream = new ReadableStream({start(to) {
            for (const byte of bytes) to.enqueue(new Uint8Array([byte]));
            to.close();
        }});
        const {read} = await import("/static/feed.js");
        const events = [];
        await read(stream, () => {}, (name, data) => events.push([name, data]));
        return events;
    }""",
        body,
    )
    assert found == [["trouble", {"text": "é", "since": 1}], ["budgets", data]]
