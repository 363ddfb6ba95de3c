"""A server with keys: the page asks for one, keeps it in its tab, and shows nothing once it has ended."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from callactors.access import Scope
from callactors.store.api_keys import create_key, revoke_key
from tests.acceptance.client import Client
from tests.acceptance.fixtures import Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import Server
from tests.browser.visit import Visit

playwright = pytest.importorskip(
    "playwright.async_api", reason="no playwright here: `tox -e browser` has it", exc_type=ImportError
)
if TYPE_CHECKING:
    from playwright.async_api import Locator, Route

expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]
Connect = Callable[[Server], Client]

REFUSALS = (
    *("401 (Unauthorized)", "403 (Forbidden)", "HTTP Authentication failed"),
    "closed before the connection is established",  # another answer was the first to say that a key is needed
)
SERVER_IS_AWAY = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
KEPT = """() => ({
    session: {...sessionStorage}, local: JSON.stringify({...localStorage}), cookie: document.cookie,
    page: document.documentElement.outerHTML,
    fields: [...document.querySelectorAll("input")].map(field => field.value).join(),
})"""
KNOCK = """async () => {
    const {Feed} = await import(new URL("dashboard/feed.js", document.baseURI));
    window.told = [];
    window.WebSocket = class extends EventTarget {
        constructor() {
            super();
            told.push("handshake");
            setTimeout(() => this.dispatchEvent(new CloseEvent("close", {code: 1006})));
        }
        close() {}
    };
    const check = () => {
        told.push("check");
        return new Promise(resolve => { window.answer = resolve; });
    };
    new Feed({onFrame() {}, onState() {}, onKeyEnded() {}, check}).start();
}"""


def dialog(seen: Visit) -> "Locator":
    return seen.page.get_by_role("dialog", name="Enter a key")


def problem(seen: Visit) -> "Locator":
    return dialog(seen).get_by_role("alert")


async def enter(seen: Visit, key: str) -> None:
    """Type *key* and press Enter."""
    await dialog(seen).get_by_label("Key", exact=True).fill(key)
    await seen.page.keyboard.press("Enter")


async def make_key(sql: Sql, scope: Scope = Scope.SUPERVISE, prefix: str = "") -> str:
    return await create_key(sql, "me", {scope}, prefix=prefix)


async def end_key(sql: Sql, key: str) -> None:
    await revoke_key(sql, "me", key.split("_")[1])


async def open_page(visit: Open, url: str, **context: Any) -> Visit:
    """Open a page that the server will refuse."""
    seen = await visit("about:blank", origin=url, **context)
    seen.tolerated = REFUSALS
    await seen.page.goto(url)
    return seen


@pytest.fixture
async def server(serve: Serve, connect: Connect) -> Server:
    """A server with two calls, and no keys yet."""
    server = await serve()
    client = connect(server)
    await client.send("berlin-1", 1)
    await client.send("paris-1", 1)
    return server


async def test_without_keys_nobody_is_asked(server: Server, visit: Open) -> None:
    seen = await visit(server.url)
    await expect(seen.row("berlin-1")).to_be_visible()
    await expect(dialog(seen)).to_be_hidden()
    await expect(seen.page.get_by_role("button", name="Forget key")).to_be_hidden()


async def test_a_right_key_opens_the_page_where_it_was(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, f"{server.url}/?state=IN_PROGRESS&q=berlin")
    await expect(dialog(seen)).to_contain_text("callactors keys create --scope supervise")
    await expect(dialog(seen).get_by_label("Key", exact=True)).to_be_focused()
    await expect(seen.connection()).to_have_text("Key needed")
    await enter(seen, f"  {key} ")
    await expect(dialog(seen)).to_be_hidden()
    await expect(seen.connection()).to_have_text("Live")
    await expect(seen.row("berlin-1")).to_be_visible()
    await expect(seen.row("paris-1")).to_have_count(0)
    await expect(seen.page).to_have_url(f"{server.url}/?state=IN_PROGRESS&q=berlin")
    await expect(seen.page.locator('.tile[data-name="in-progress"] strong')).to_have_text("2")


async def test_events_come_by_the_socket_that_the_key_opens(server: Server, visit: Open, sql: Sql) -> None:
    key, sender = await make_key(sql), await make_key(sql, Scope.INGEST)
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, key)
    await expect(seen.connection()).to_have_text("Live")
    response = await seen.page.request.post(
        f"{server.url}/v1/call/complete/paris-1",
        headers={"Authorization": f"Bearer {sender}"},
        data={"last_sequence": {"": 1}},
    )
    assert response.status == 202
    await expect(seen.state("paris-1")).to_have_text("Archived")
    await seen.row("paris-1").locator("a").click()
    await expect(seen.page.locator(".timeline li")).to_have_count(6)


async def test_a_key_that_does_not_open_the_page_is_told_in_words(
    server: Server, visit: Open, sql: Sql
) -> None:
    key, sender = await make_key(sql), await make_key(sql, Scope.INGEST)
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, "")
    await expect(problem(seen)).to_have_text("Enter a key.")
    await enter(seen, "Schlüssel mit Lücken")
    await expect(problem(seen)).to_contain_text("This is not a key")
    await enter(seen, f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}")
    await expect(problem(seen)).to_have_text("This key is wrong, or it has ended.")
    await expect(dialog(seen).get_by_label("Key", exact=True)).to_have_value("")
    await enter(seen, sender)
    await expect(problem(seen)).to_contain_text("it lacks the scope supervise")
    await expect(dialog(seen).get_by_label("Key", exact=True)).to_be_focused()
    assert await seen.page.evaluate("sessionStorage.length") == 0
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()


async def test_a_key_that_cannot_be_tried_stays_in_the_field(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url)
    seen.tolerated += SERVER_IS_AWAY
    await expect(dialog(seen)).to_be_visible()
    await server.kill()
    await enter(seen, key)
    await expect(problem(seen)).to_have_text("The key could not be tried. The server does not answer.")
    await server.start()
    await seen.page.keyboard.press("Enter")
    await expect(seen.row("paris-1")).to_be_visible()


async def test_the_key_is_kept_in_the_tab_and_nowhere_else(
    server: Server, visit: Open, connect: Connect, sql: Sql
) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, key)
    await expect(seen.connection()).to_have_text("Live")
    await seen.row("paris-1").locator("a").click()
    await expect(seen.page.locator(".timeline li")).to_have_count(1)
    await seen.page.reload()
    await expect(seen.connection()).to_have_text("Live")
    await expect(seen.page.locator(".timeline li")).to_have_count(1)
    await expect(dialog(seen)).to_be_hidden()
    kept = await seen.page.evaluate(KEPT)
    assert kept.pop("session") == {"callactors.key": key}
    secret = key.split("_", 2)[2]
    seen_by_others = [*kept.values(), seen.page.url, *seen.requests, *seen.sockets, *seen.told, server.log]
    assert len(seen.sockets) == 3
    assert not [text for text in seen_by_others if secret in text]
    assert await seen.page.context.cookies() == []
    other = await open_page(visit, server.url)
    await expect(dialog(other)).to_be_visible()


async def test_behind_a_revoked_key_nothing_stays_on_the_page(server: Server, visit: Open, sql: Sql) -> None:
    key, other = await make_key(sql), await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()
    await expect(seen.page.locator('.tile[data-name="in-progress"] strong')).to_have_text("2")
    await seen.row("paris-1").locator("a").focus()
    await end_key(sql, key)
    await expect(dialog(seen)).to_contain_text("The key has ended")
    text = await seen.page.evaluate("document.documentElement.outerHTML")
    assert "paris" not in text
    assert set(await seen.page.locator(".tile strong").all_inner_texts()) == {"\N{EN DASH}"}
    assert await seen.page.evaluate("sessionStorage.length") == 0
    await enter(seen, other)
    await expect(seen.row("paris-1")).to_be_visible()
    await expect(seen.page.get_by_role("heading", name="Calls")).to_be_focused()
    await expect(seen.page.locator("#notice")).to_be_hidden()


async def test_the_next_key_begins_with_nothing_of_what_the_last_one_showed(
    server: Server, visit: Open, sql: Sql
) -> None:
    key, other = await make_key(sql), await make_key(sql, prefix="berlin-")
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()
    await seen.page.evaluate("() => { window.WebSocket = class extends EventTarget { close() {} }; }")
    await end_key(sql, key)
    await enter(seen, other)
    await expect(seen.page.get_by_text("Waiting for the server")).to_be_visible()
    await expect(seen.page.locator("#live tr")).to_have_count(0)


async def test_a_revoked_key_closes_the_page_of_a_call_and_the_next_key_opens_it_again(
    server: Server, visit: Open, sql: Sql
) -> None:
    key, other = await make_key(sql), await make_key(sql)
    await server.restart()
    seen = await open_page(visit, f"{server.url}/?call=paris-1")
    await enter(seen, key)
    await expect(seen.page.locator(".timeline li")).to_have_count(1)
    await end_key(sql, key)
    await expect(dialog(seen)).to_be_visible()
    assert await seen.page.locator("#call *").count() == 0
    assert "paris" not in await seen.page.title()
    await seen.page.keyboard.press("Escape")
    await seen.page.keyboard.press("Escape")
    await seen.page.get_by_role("button", name="Enter a key").click()
    await enter(seen, other)
    await expect(seen.page.get_by_role("heading", name="paris-1")).to_be_focused()
    await expect(seen.page.locator(".timeline li")).to_have_count(1)


async def test_a_paused_page_learns_that_its_key_has_ended(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()
    await seen.page.get_by_role("button", name="Pause").click()
    await expect(seen.connection()).to_have_text("Paused")
    await end_key(sql, key)
    await expect(dialog(seen)).to_be_visible(timeout=25_000)
    await expect(seen.row("paris-1")).to_have_count(0)


async def test_when_the_first_key_is_made_the_open_page_asks_for_it(
    server: Server, visit: Open, sql: Sql
) -> None:
    seen = await open_page(visit, server.url)
    await expect(seen.row("paris-1")).to_be_visible()
    key = await make_key(sql)
    await expect(dialog(seen)).to_contain_text("This server shows its calls to whoever has a key.")
    await expect(seen.row("paris-1")).to_have_count(0)
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()


async def test_a_close_that_says_the_key_has_ended_is_enough(server: Server, visit: Open) -> None:
    seen = await visit("about:blank", origin=server.url)
    ended = "the key has ended"
    await seen.page.route_web_socket(
        "**/ws/supervisor*", lambda socket: socket.close(code=1008, reason=ended)
    )
    await seen.page.goto(server.url)
    await expect(dialog(seen)).to_be_visible()


async def test_after_a_restart_with_the_key_revoked_the_page_asks_and_knocks_no_more(
    server: Server, visit: Open, sql: Sql
) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await visit("about:blank", origin=server.url)
    seen.tolerated = (*REFUSALS, *SERVER_IS_AWAY)
    await seen.page.clock.install()
    await seen.page.goto(server.url)
    await enter(seen, key)
    await expect(seen.connection()).to_have_text("Live")
    await server.kill()
    await end_key(sql, key)
    await server.start()
    await expect(dialog(seen)).to_contain_text("The key has ended", timeout=30_000)
    asked = len(seen.sockets), len(seen.requests)
    await seen.page.clock.run_for("02:00")
    await seen.page.evaluate("fetch('health')")
    assert (len(seen.sockets), len(seen.requests)) == (asked[0], asked[1] + 1)


async def test_a_failed_handshake_is_looked_into_before_the_next(server: Server, visit: Open) -> None:
    seen = await visit("about:blank", origin=server.url)
    seen.tolerated = ("404 (Not Found)",)  # the browser asks for an icon
    await seen.page.goto(f"{server.url}/health")
    await seen.page.clock.install()
    await seen.page.evaluate(KNOCK)
    await seen.page.clock.run_for("01:00")
    assert await seen.page.evaluate("told") == ["handshake", "check"]
    await seen.page.evaluate("answer()")
    await seen.page.clock.run_for("01:00")
    assert await seen.page.evaluate("told") == ["handshake", "check", "handshake", "check"]


async def test_a_key_can_be_forgotten(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url)
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()
    await seen.page.get_by_role("button", name="Forget key").click()
    await expect(dialog(seen)).to_contain_text("The key is forgotten in this tab.")
    await expect(seen.row("paris-1")).to_have_count(0)
    await expect(seen.page.locator("#forget-key")).to_be_hidden()
    await seen.page.reload()
    await expect(dialog(seen)).to_be_visible()


async def test_a_key_that_a_server_without_keys_does_not_know_is_forgotten_and_not_missed(
    server: Server, visit: Open
) -> None:
    seen = await open_page(visit, server.url)
    await expect(seen.row("paris-1")).to_be_visible()
    await seen.page.evaluate("sessionStorage.setItem('callactors.key', 'ca_000000000000_old')")
    await seen.page.reload()
    await expect(seen.row("paris-1")).to_be_visible()
    await expect(seen.connection()).to_have_text("Live")
    await expect(dialog(seen)).to_be_hidden()
    assert await seen.page.evaluate("sessionStorage.length") == 0


async def test_a_call_that_the_key_is_not_for_is_told_in_words(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql, prefix="berlin-")
    await server.restart()
    seen = await open_page(visit, f"{server.url}/?call=paris-1")
    await enter(seen, key)
    words = "The key does not open this call: the key is for calls whose ids begin with 'berlin-'."
    await expect(seen.page.get_by_text(words)).to_be_visible()
    await expect(seen.connection()).to_have_text("Live")
    await seen.page.keyboard.press("Escape")
    await expect(seen.row("berlin-1")).to_be_visible()
    await expect(seen.row("paris-1")).to_have_count(0)
    await expect(seen.page.locator("#figures-word")).to_contain_text("whose ids begin with 'berlin-'")
    await seen.page.get_by_label("Search by call id").fill("paris")
    await expect(seen.page.locator("#older-word")).to_contain_text("whose ids begin with 'berlin-'")


async def test_a_refusal_that_no_key_mends_is_no_question_for_one(server: Server, visit: Open) -> None:
    seen = await visit("about:blank", origin=server.url)
    seen.tolerated = REFUSALS
    refusal = '{"type": "/problems/foreign-origin", "detail": "not from here"}'

    async def refuse(route: "Route") -> None:
        await route.fulfill(status=403, body=refusal)

    await seen.page.route("**/v1/stats", refuse)
    await seen.page.route_web_socket("**/ws/supervisor*", lambda socket: socket.close(code=1008, reason=""))
    await seen.page.goto(server.url)
    await expect(seen.page.locator("#notice-text")).to_have_text(
        "The server refuses this page: not from here."
    )
    await expect(dialog(seen)).to_be_hidden()


async def test_the_dialog_keeps_its_keys_to_itself(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url)
    field = seen.page.locator("#key")
    await expect(field).to_be_focused()
    await seen.page.keyboard.type("jk/")
    await expect(field).to_have_value("jk/")
    await expect(field).to_have_attribute("type", "password")
    await dialog(seen).get_by_role("button", name="Show key").click()
    await expect(field).to_have_attribute("type", "text")
    await seen.page.keyboard.press("Escape")
    await expect(dialog(seen)).to_be_hidden()
    await expect(field).to_have_value("")
    await expect(field).to_have_attribute("type", "password")
    again = seen.page.get_by_role("button", name="Enter a key")
    await expect(again).to_be_focused()
    await seen.page.keyboard.press("Enter")
    await enter(seen, key)
    await expect(seen.row("paris-1")).to_be_visible()
    await expect(seen.page.get_by_role("heading", name="Calls")).to_be_focused()


async def test_on_a_phone_the_dialog_and_the_bar_fit(server: Server, visit: Open, sql: Sql) -> None:
    key = await make_key(sql)
    await server.restart()
    seen = await open_page(visit, server.url, **PHONE)
    seen.tolerated += SERVER_IS_AWAY
    await expect(dialog(seen)).to_be_visible()
    assert await right_edge(seen, "dialog *") <= 360 - 12 - 16
    assert await right_edge(seen, ".bar *") <= 360
    await enter(seen, key)
    await expect(seen.page.get_by_role("button", name="Forget key")).to_be_visible()
    await expect(seen.connection()).to_have_text("Live")
    assert await right_edge(seen, ".bar *") <= 360
    await server.kill()
    await expect(seen.connection()).to_have_text("Reconnecting")
    await expect(seen.page.get_by_role("button", name="Forget key")).to_be_visible()
    assert await right_edge(seen, ".bar *") <= 360


async def right_edge(seen: Visit, selector: str) -> Any:
    edges = "found => Math.max(...found.map(element => element.getBoundingClientRect().right))"
    return await seen.page.locator(selector).evaluate_all(edges)
