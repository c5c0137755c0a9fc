"""The page while the server or Redis is away: it says since when, and goes on by itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from nexus_redis._redis.embedded import ServerProcess
from tests.harness.servers import Server, binary
from tests.harness.support import free_port
from tests.server.browsing import GROUP, NO_BROWSER, row, shown
from tests.server.served import Served

pytestmark = [GROUP, NO_BROWSER]
LOST = "The connection to the server has been lost since"
REDIS_AWAY = "Redis has not answered since"

# Has the stream end in silence when `isSilent` is set, as behind a network that drops all packets.
MUTE = """(() => {
    const plain = window.fetch;
    const mute = () => new TransformStream({transform: (part, to) => window.isSilent || to.enqueue(part)});
    window.fetch = async (...args) => {
        const answer = await plain(...args);
        return String(args[0]).includes("v1/events") ? new Response(answer.body.pipeThrough(mute()), answer) : answer;
    };
})()"""


def test_the_server_restarts(one_server: Server, page: Page) -> None:
    """While the server is away the page says since when, and goes on without a reload when it is back."""
    port = free_port()
    with Served(one_server.url, port=port) as served:
        served.put("stripe", rate=100)
        page.goto(f"{served.address}/#/budget/stripe")
        expect(shown(page, "Rate")).to_have_text("100/s")
        page.evaluate("window.isSame = true")
    expect(page.get_by_text(LOST)).to_be_visible()
    expect(page.get_by_text("Not live")).to_be_visible()
    expect(shown(page, "Rate")).to_have_text("100/s")
    page.get_by_role("button", name="Pause…").click()
    page.get_by_label("Reason").fill("in vain")
    page.get_by_role("button", name="Pause the budget").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.keyboard.press("Escape")
    with Served(one_server.url, port=port) as served:
        served.put("stripe", rate=50)
        expect(shown(page, "Rate")).to_have_text("50/s")
        expect(page.get_by_text(LOST)).to_be_hidden()
        page.get_by_role("link", name="All budgets").click()
        expect(row(page, "stripe")).to_contain_text("50/s")
        assert page.evaluate("window.isSame")


@pytest.mark.hurried
def test_redis_restarts(page: Page) -> None:
    """While Redis is away the page says so with its address, and it shows the new state when Redis is back."""
    program = binary("valkey")
    assert program is not None
    redis_server = ServerProcess(program, free_port())
    try:
        with Served(f"redis://127.0.0.1:{redis_server.port}") as served:
            served.put("stripe", rate=100)
            page.goto(served.address)
            expect(row(page, "stripe")).to_contain_text("100/s")
            redis_server.stop()
            expect(page.get_by_text(REDIS_AWAY)).to_contain_text(str(redis_server.port))
            expect(row(page, "stripe")).to_contain_text("100/s")
            redis_server = ServerProcess(program, redis_server.port)
            expect(page.get_by_text(REDIS_AWAY)).to_be_hidden()
            expect(page.get_by_text("There is no budget yet")).to_be_visible()
            assert served.put("mail", rate=3).is_success
            expect(row(page, "mail")).to_contain_text("3/s")
    finally:
        redis_server.stop()


def test_a_silent_server_is_not_live(served: Served, page: Page) -> None:
    """Seconds after the last sign of the server the page is not live any more, and says how old its figures are."""
    page.clock.install()
    page.add_init_script(MUTE)
    served.put("stripe", rate=100)
    page.goto(served.address)
    expect(page.get_by_text("Live, ")).to_be_visible()
    page.evaluate("new Promise((done) => { window.isSilent = true; requestAnimationFrame(() => setTimeout(done)); })")
    newest = page.locator("#connection").inner_text().split()[-1]
    page.clock.fast_forward(8_000)
    expect(page.get_by_text("Not live")).to_be_visible()
    expect(page.get_by_text(LOST)).to_contain_text(f"The figures are those of {newest}.")


def test_the_charts_say_what_the_figures_say(served: Served, page: Page) -> None:
    """The sentences of the charts end with the newest figures, and know nothing where nothing was known."""
    page.goto(served.address)
    found = page.evaluate(
        """async () => {
        const {Store} = await import("/static/store.js");
        const {Charts} = await import("/static/charts.js");
        const store = new Store();
        const row = {name: "api", rate: 10, granted_per_s: 5, load: 40, level: 0};
        const look = (at, fields) => store.apply("budgets",
            {at, is_whole: true, gone: [], budgets: [{...row, ...fields}]});
        const said = () => {
            const charts = new Charts();
            charts.update(store.detail.series, store.at);
            return [...charts.node.querySelectorAll(".says")].map((each) => each.textContent);
        };
        store.watch("api");
        store.apply("series", {at: [1], rate: [10], granted: [5], load: [40], level: [0]});
        store.apply("trouble", {text: "no answer", since: 2});
        const away = said();
        look(9, {});
        store.apply("budget", {at: 9.1, budget: {...row, rate: 0, granted_per_s: null, load: null, level: 3},
            consumers: [], gone_consumers: [], producers: [], gone_producers: []});
        return [away, said(), store.detail.series.rate];
    }"""
    )
    away, back, rates = found
    assert all(" now" not in text for text in away)
    assert rates == [10, None, 0]
    assert "Rate: 0/s now" in back[0]
    assert "Granted: not known now" in back[0]
    assert "Load: not known now" in back[1]
