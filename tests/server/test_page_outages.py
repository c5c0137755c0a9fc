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


def test_the_server_restarts(one_server: Server, page: Page) -> None:
    """While the server is away the page says since when, and goes on without a reload when it is back."""
    port = free_port()
    with Served(one_server.url, port=port) as served:
        served.put("stripe", rate=100)
        page.goto(f"{served.address}/#/budget/stripe")
        expect(shown(page, "Rate")).to_have_text("100/s")
        page.evaluate("window.isSame = true")
    expect(page.get_by_text("Connection to the server lost since")).to_be_visible()
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
        expect(page.get_by_text("Connection to the server lost since")).to_be_hidden()
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
            expect(page.get_by_text("Redis does not answer since")).to_contain_text(str(redis_server.port))
            expect(row(page, "stripe")).to_contain_text("100/s")
            redis_server = ServerProcess(program, redis_server.port)
            expect(page.get_by_text("Redis does not answer since")).to_be_hidden()
            expect(page.get_by_text("There is no budget yet")).to_be_visible()
            assert served.put("mail", rate=3).is_success
            expect(row(page, "mail")).to_contain_text("3/s")
    finally:
        redis_server.stop()
