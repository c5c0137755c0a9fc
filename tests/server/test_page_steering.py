"""What an operator does on the page: sign in, pause, resume and set, each confirmed, and each with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from nexus_redis.server import access
from nexus_redis.server.access import new_token
from tests.harness.servers import Server
from tests.server.browsing import GROUP, NO_BROWSER, row, shown
from tests.server.served import Served

pytestmark = [GROUP, NO_BROWSER]


class Guarded:
    """A server with tokens: those of anna, an operator, and of reader, an observer."""

    def __init__(self, url: str, file: Path) -> None:
        lines, self.tokens = {}, {}
        for name, role in (("anna", "operator"), ("reader", "observer")):
            self.tokens[name], lines[name] = new_token(name, [role], ["*"])
        self.lines, self.file = lines, file
        self.allow("anna", "reader")
        self.served = Served(url, tokens=file)

    def allow(self, *names: str) -> None:
        """Write the file with the tokens of these only."""
        self.file.write_text("\n".join([self.lines[name] for name in names] or ["# nobody"]))

    def put(self, name: str, **settings: Any) -> None:
        """Set settings as anna."""
        headers = {"authorization": f"Bearer {self.tokens['anna']}"}
        fields = {"settings": settings, "reason": "begin"}
        assert self.served.client.put(f"/v1/budgets/{name}", json=fields, headers=headers).status_code in (200, 201)


@pytest.fixture
def guarded(one_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """A server that needs tokens, and looks at its file with each request."""
    monkeypatch.setattr(access, "LOOK_EACH", 0.0)
    guarded = Guarded(one_server.url, tmp_path / "tokens")
    with guarded.served:
        guarded.put("stripe", rate=100)
        yield guarded


def sign_in(page: Page, token: str) -> None:
    """Enter a token."""
    page.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Token").fill(token)
    dialog.get_by_role("button", name="Sign in").click()


def confirm(page: Page, reason: str, button: str) -> None:
    """Give a reason, and press the button of the dialog."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=button).click()


def test_pause_and_resume(guarded: Guarded, page: Page) -> None:
    """A pause and its end change the budget, and the history says who did it and why."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    expect(page.get_by_role("button", name="Signed in as anna")).to_be_visible()
    page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog", name="Pause stripe?")
    expect(dialog).to_contain_text("from 100/s to 0/s")
    dialog.get_by_role("spinbutton").fill("10")
    confirm(page, "provider incident", "Pause")
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("Paused", exact=True)).to_be_visible()
    expect(shown(page, "Rate")).to_have_text("0/s")
    history = page.get_by_role("table", name="History")
    first = history.locator("tbody tr").first
    expect(first).to_contain_text('paused for 10 min by anna: "provider incident"')
    page.get_by_role("button", name="Resume…").click()
    expect(page.get_by_role("dialog", name="Resume stripe?")).to_contain_text('by anna: "provider incident"')
    confirm(page, "it is over", "Resume")
    expect(shown(page, "Rate")).to_have_text("100/s")
    expect(first).to_contain_text('by anna: "it is over"')
    expect(page.get_by_role("button", name="Pause…")).to_be_focused()


def test_a_pause_has_a_length_and_a_reason(guarded: Guarded, page: Page) -> None:
    """A pause of no length, which would end a pause, and a reason of spaces are not sent; one without an end is."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("spinbutton").fill("0")
    confirm(page, "why", "Pause")
    expect(dialog.get_by_role("spinbutton")).to_be_focused()
    dialog.get_by_label("Until somebody").check()
    confirm(page, "   ", "Pause")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    confirm(page, "why", "Pause")
    expect(page.get_by_role("region", name="Why this rate")).to_contain_text("until it is resumed")


CHANGES = (
    ("rate", "50/min", "50/min"), ("min_rate", "5/h", "5/h"), ("burst", "2.5", "2.5 s"), ("law", "drain", "drain"),
    ("combine", "min", "min"), ("latency_target_ms", "250", "250 ms"), ("transit", "3", "3 s"), ("grace", "20", "20 s"),
)  # fmt: skip


def test_each_setting_can_be_set(guarded: Guarded, page: Page) -> None:
    """Each setting is set with a reason, which the table shows with who set it, and can be taken away again."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    for field, value, said in CHANGES:
        page.get_by_role("button", name=f"Change {field}", exact=True).click()
        dialog = page.get_by_role("dialog", name=f"Change {field} of stripe?")
        entry = dialog.get_by_label(f"New value of {field}")
        if field in ("law", "combine"):
            entry.select_option(value)
        else:
            entry.fill(value)
        confirm(page, f"for {field}", f"Change {field}")
        line = row(page, field)
        expect(line.locator("strong")).to_have_text(said)
        expect(line).to_contain_text("anna (operator)")
        expect(line).to_contain_text(f"for {field}")
    page.get_by_role("button", name="Remove the override of min_rate").click()
    confirm(page, "not needed", "Remove the override")
    expect(row(page, "min_rate").locator("strong")).to_have_text("0/s")
    expect(row(page, "min_rate")).to_contain_text("default")
    expect(page.get_by_role("table", name="History").locator("tbody tr").first).to_contain_text("not needed")


def test_a_refused_value_changes_nothing(guarded: Guarded, page: Page) -> None:
    """The dialog shows what the server says of a value that it refuses, and stays open. Escape closes it."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    change = page.get_by_role("button", name="Change rate", exact=True)
    change.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New value of rate").fill("fast")
    dialog.get_by_role("button", name="Change rate").click()
    expect(dialog.get_by_label("Reason")).to_be_focused()  # it is required
    confirm(page, "why", "Change rate")
    expect(dialog.get_by_role("alert")).to_contain_text("rate='fast'")
    dialog.get_by_label("New value of rate").fill("7/s")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(change).to_be_focused()
    expect(shown(page, "Rate")).to_have_text("100/s")


def test_the_keyboard_is_enough(served: Served, page: Page) -> None:
    """From the address to a confirmed pause, a person needs the keyboard only."""
    served.put("stripe", rate=100)
    page.goto(served.address)
    expect(row(page, "stripe")).to_be_visible()

    def tab_to(target: Any) -> None:
        for _ in range(40):
            if target.evaluate("node => node === document.activeElement"):
                return
            page.keyboard.press("Tab")
        expect(target).to_be_focused()

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the budgets")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    tab_to(page.get_by_role("link", name="stripe"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="stripe")).to_be_focused()
    pause = page.get_by_role("button", name="Pause…")
    expect(pause).to_be_visible()
    tab_to(pause)
    assert pause.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    tab_to(page.get_by_label("Reason"))
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume…")).to_be_focused()
    expect(page.get_by_role("table", name="History")).to_contain_text("by hand")


def test_an_observer_looks_and_does_not_touch(guarded: Guarded, page: Page) -> None:
    """Without the role the controls are absent, and a sentence says what they need."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["reader"])
    expect(shown(page, "Rate")).to_have_text("100/s")
    expect(page.get_by_text("sign in with an operator's token")).to_be_visible()
    expect(page.get_by_role("button", name="Pause…")).to_have_count(0)
    expect(page.get_by_role("button", name="Change")).to_have_count(0)


def test_a_token_is_asked_for_and_kept(guarded: Guarded, page: Page) -> None:
    """Without a token the page says so; a wrong one is refused in the dialog; a right one lasts over a reload."""
    page.goto(guarded.served.address)
    expect(page.locator("#banner")).to_contain_text("This server needs a token")
    sign_in(page, "nxr_wrong")
    expect(page.get_by_role("alert")).to_contain_text("does not accept this token")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Token").fill(guarded.tokens["reader"])
    dialog.get_by_role("button", name="Sign in").click()
    expect(row(page, "stripe")).to_contain_text("100/s")
    expect(page.locator("#banner")).to_be_hidden()
    page.reload()
    expect(row(page, "stripe")).to_contain_text("100/s")
    assert guarded.tokens["reader"] not in page.content()
    page.get_by_role("button", name="Signed in as reader").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#banner")).to_contain_text("This server needs a token")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_token_that_was_withdrawn(guarded: Guarded, page: Page) -> None:
    """A change with a token that holds no longer is refused with a plain sentence."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    page.get_by_role("button", name="Pause…").click()
    guarded.allow()
    confirm(page, "too late", "Pause")
    expect(page.get_by_role("alert")).to_contain_text("does not accept this token")
    guarded.lines["anna"] = guarded.lines["anna"].replace("operator", "observer")
    guarded.allow("anna")
    confirm(page, "still too late", "Pause")
    expect(page.get_by_role("alert")).to_contain_text("Your token does not allow this")
    expect(shown(page, "Rate")).to_have_text("100/s")


def test_a_token_that_ends_while_watching(guarded: Guarded, page: Page) -> None:
    """When the stream is refused, the page asks for a token, and shows no name, no action and no figure any more."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    expect(page.get_by_role("button", name="Pause…")).to_be_visible()
    guarded.allow()
    page.evaluate("location.hash = '#/'")  # the page asks for another stream, as after the end of this one
    expect(page.locator("#banner")).to_contain_text("does not accept this token")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_text("Not live")).to_be_visible()
    expect(row(page, "stripe")).to_have_count(0)
    page.evaluate("location.hash = '#/budget/stripe'")
    expect(page.get_by_text("The server does not show this budget.")).to_be_visible()
    expect(page.get_by_role("button", name="Pause…")).to_be_hidden()


def test_two_operators(guarded: Guarded, page: Page) -> None:
    """A dialog says what another operator has changed meanwhile, and sends nothing until that is confirmed, too."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    page.get_by_role("button", name="Change rate", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New value of rate").fill("7/s")
    expect(dialog.get_by_role("checkbox")).to_be_hidden()
    guarded.put("stripe", rate=50)
    expect(dialog).to_contain_text("It is 50/s now")
    expect(dialog.get_by_role("alert").first).to_contain_text("100/s")
    confirm(page, "why", "Change rate")
    again = dialog.get_by_role("checkbox")
    expect(again).to_be_focused()
    expect(shown(page, "Rate")).to_have_text("50/s")
    again.check()
    confirm(page, "why", "Change rate")
    expect(shown(page, "Rate")).to_have_text("7/s")
    page.get_by_role("button", name="Pause…").click()
    headers = {"authorization": f"Bearer {guarded.tokens['anna']}"}
    guarded.served.post("/v1/budgets/stripe/pause", {"seconds": 600, "reason": "theirs"}, headers=headers)
    expect(dialog).to_contain_text('"theirs"')
    confirm(page, "mine", "Pause")
    expect(again).to_be_focused()


def test_an_answer_that_is_not_known(guarded: Guarded, page: Page) -> None:
    """If Redis did not answer an action, the dialog says that nobody knows whether it was carried out."""
    page.goto(f"{guarded.served.address}/#/budget/stripe")
    sign_in(page, guarded.tokens["anna"])
    page.get_by_role("button", name="Pause…").click()
    away = json.dumps({"title": "Away", "detail": "no answer from Redis after 1 s", "status": 503})
    page.route("**/pause", lambda route: route.fulfill(status=503, content_type="application/json", body=away))
    confirm(page, "why", "Pause")
    expect(page.get_by_role("alert")).to_contain_text("It is not known whether the change was made")
