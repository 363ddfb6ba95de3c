"""How the page keeps up: restarts, gaps, pauses, delays, and servers that send it away."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.client import Client
from tests.acceptance.fixtures import Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import Server
from tests.acceptance.waiting import eventually
from tests.browser.visit import Visit

playwright = pytest.importorskip(
    "playwright.async_api", reason="no playwright here: `tox -e browser` has it", exc_type=ImportError
)
if TYPE_CHECKING:
    from playwright.async_api import WebSocketRoute

expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]
Connect = Callable[[Server], Client]

SOCKET = "**/ws/supervisor*"
SERVER_IS_AWAY = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
HIDE = """isHidden => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => isHidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_after_a_kill_the_page_shows_every_missed_transition_without_a_reload(
    serve: Serve, connect: Connect, visit: Open, sql: Sql
) -> None:
    server = await serve(grace=1)
    client, seen = connect(server), await visit(server.url)
    seen.tolerated = SERVER_IS_AWAY
    calls = [f"c-{n}" for n in range(20)]
    for call_id in calls:
        await client.send(call_id, 1)
        await client.complete(call_id)
    await expect(seen.page.locator("#live tr")).to_have_count(20)
    await seen.page.evaluate("window.isSamePage = true")
    await server.kill()
    await expect(seen.connection()).to_have_text("Reconnecting")
    await expect(seen.page.locator("#connection-detail")).to_contain_text("in ")
    await server.start()
    await expect(seen.connection()).to_have_text("Live", timeout=30_000)
    for call_id in calls:
        await expect(seen.state(call_id)).to_have_text("Archived", timeout=30_000)
    for call_id in calls:
        last = await sql.fetchval("select version from calls where call_id = $1", call_id)
        assert sorted(set(seen.versions(call_id))) == list(range(1, last + 1))
    assert await seen.page.evaluate("window.isSamePage")
    assert "since=" in seen.sockets[-1]


async def test_when_the_log_is_another_one_the_gap_is_told_and_the_calls_are_loaded_anew(
    serve: Serve, connect: Connect, visit: Open, sql: Sql
) -> None:
    server = await serve()
    client, seen = connect(server), await visit(server.url)
    seen.tolerated = SERVER_IS_AWAY
    await client.send("c", 1)
    await client.send("forgotten", 1)
    await expect(seen.row("forgotten")).to_be_visible()
    await server.kill()
    await sql.execute("delete from calls where call_id = 'forgotten'")
    await sql.execute("update event_log set log_id = gen_random_uuid()")
    await sql.execute("insert into calls (call_id) values ('d')")  # before the page can come back
    await server.start()
    await expect(seen.page.locator("#notice-text")).to_have_text(
        "1 event was missed; the page is up to date again.", timeout=30_000
    )
    await expect(seen.row("d")).to_be_visible()
    await expect(seen.row("forgotten")).to_have_count(0)


async def test_a_pause_holds_the_page_and_its_end_brings_what_was_missed(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client, seen = connect(server), await visit(server.url)
    await client.send("c", 1)
    await expect(seen.row("c")).to_be_visible()
    await seen.page.get_by_role("button", name="Pause").click()
    await expect(seen.connection()).to_have_text("Paused")
    await client.send("d", 1)
    await client.complete("c", last_sequence={"": 1})
    await expect(seen.state("c")).to_have_text("In progress")
    await seen.page.get_by_role("button", name="Resume").click()
    await expect(seen.state("c")).to_have_text("Archived")
    await expect(seen.row("d")).to_be_visible()
    await expect(seen.page.locator("#notice-text")).to_contain_text("while away")


async def test_a_tab_that_nobody_sees_lets_go_and_comes_back_by_itself(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client, seen = connect(server), await visit(server.url)
    await expect(seen.connection()).to_have_text("Live")
    await seen.page.clock.install()
    await seen.page.evaluate(HIDE, True)
    await seen.page.clock.fast_forward("00:11")
    await expect(seen.connection()).to_have_text("Paused")
    await client.send("c", 1)
    await seen.page.evaluate(HIDE, False)
    await expect(seen.connection()).to_have_text("Live")
    await seen.page.clock.resume()
    await expect(seen.state("c")).to_have_text("In progress")


@pytest.mark.parametrize("code", [1007, 1008, 1009])
async def test_a_close_code_that_says_stay_away_is_heeded(serve: Serve, visit: Open, code: int) -> None:
    server = await serve()
    seen = await visit("about:blank", origin=server.url)

    async def send_away(socket: "WebSocketRoute") -> None:
        seen.sockets.append(socket.url)
        await socket.close(code=code, reason="")

    await seen.page.route_web_socket(SOCKET, send_away)
    await seen.page.goto(server.url)
    await expect(seen.connection()).to_have_text("Stopped")
    await expect(seen.page.locator("#notice")).to_be_visible()
    assert len(seen.sockets) == 1
    await seen.page.get_by_role("button", name="Connect again").click()
    await eventually(lambda: _is(len(seen.sockets) == 2))


async def test_delays_are_told_and_taken_back(serve: Serve, visit: Open) -> None:
    server = await serve()
    seen = await visit("about:blank", origin=server.url)
    sockets: list[WebSocketRoute] = []

    async def pass_on(socket: "WebSocketRoute") -> None:
        socket.connect_to_server()
        sockets.append(socket)

    await seen.page.route_web_socket(SOCKET, pass_on)
    await seen.page.goto(server.url)
    await expect(seen.connection()).to_have_text("Live")
    sockets[0].send('{"type":"degraded","reason":"held-back"}')
    await expect(seen.connection()).to_have_text("Delayed")
    await expect(seen.page.locator("#notice-text")).to_contain_text("a transaction is open")
    sockets[0].send('{"type":"recovered"}')
    await expect(seen.connection()).to_have_text("Live")
    await expect(seen.page.locator("#notice")).to_be_hidden()


async def _is(claim: Any) -> bool:
    return bool(claim)
