"""What a supervisor does on the page: retry and cancel calls, and see that the AI step pauses."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from callactors.access import Scope
from callactors.store.api_keys import create_key, revoke_key
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
    from playwright.async_api import Locator, WebSocketRoute

expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]
Connect = Callable[[Server], Client]

FAILING: dict[str, Any] = {"flaky_failure_rate": 1, "max_attempts": 1, "ai_failures": 0}
LONG: dict[str, Any] = {"flaky_latency_min": 60, "flaky_latency_max": 60, "grace": 0}
PAUSES = "The AI step pauses: its provider keeps failing; calls wait."
SOCKET = "**/ws/supervisor*"
MANY = "**/v1/calls/retry*"


def button(seen: Visit, name: str) -> "Locator":
    return seen.page.get_by_role("button", name=name, exact=True)


def question(seen: Visit) -> "Locator":
    return seen.page.locator("#confirm")


def chip(seen: Visit) -> "Locator":
    return seen.page.locator(".title .chip")


def outcome(seen: Visit) -> "Locator":
    return seen.page.locator("#call .outcome")


async def say_yes(seen: Visit, name: str) -> None:
    """Choose *name* in the dialog."""
    await question(seen).get_by_role("button", name=name, exact=True).click()


async def fail(client: Client, sql: Sql, *call_ids: str) -> None:
    """Let calls fail."""
    for call_id in call_ids:
        await client.send(call_id, 1)
        await client.complete(call_id, last_sequence={"": 1})
    await eventually(lambda: _count(sql, "FAILED", len(call_ids)))


async def insert_failed(sql: Sql, number: int) -> None:
    await sql.execute(
        "insert into calls (call_id, state, version, started_at, finished_at, completed_at, end_reason)"
        " select 'old-' || n, 'FAILED', 4, now() - n * interval '1 s', now(), now(), 'api'"
        " from generate_series(1, $1) n",
        number,
    )


async def test_a_failed_call_is_retried_after_a_question(
    serve: Serve, connect: Connect, visit: Open, sql: Sql
) -> None:
    server = await serve(**FAILING)
    await fail(connect(server), sql, "c")
    await server.restart({"flaky_failure_rate": 0})
    seen = await visit(f"{server.url}/?call=c")
    await expect(chip(seen)).to_have_text("Failed")
    await expect(button(seen, "Cancel call")).to_be_hidden()
    await button(seen, "Retry").click()
    await expect(question(seen)).to_contain_text("Retry this call?")
    await expect(question(seen).locator("code")).to_have_text("c")
    await say_yes(seen, "Retry")
    await expect(outcome(seen)).to_have_text("The retry was accepted: generation 2 has begun.")
    await expect(chip(seen)).to_have_text("Archived")
    await expect(button(seen, "Retry")).to_be_hidden()
    await expect(seen.page.locator("#call-title")).to_be_focused()


async def test_a_call_is_cancelled_in_the_middle_of_an_attempt(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve(**LONG)
    client = connect(server)
    await client.send("c", 1)
    seen = await visit(f"{server.url}/?call=c")
    await expect(button(seen, "Cancel call")).to_be_visible()
    await client.complete("c", last_sequence={"": 1})
    await expect(seen.page.locator("#call .attempt")).to_contain_text("running")
    await button(seen, "Cancel call").click()
    await expect(question(seen)).to_contain_text("its answer is not taken")
    await say_yes(seen, "Cancel call")
    await expect(outcome(seen)).to_have_text("The call was cancelled.")
    await expect(chip(seen)).to_have_text("Failed")
    await expect(seen.page.locator(".facts")).to_contain_text("canceled")
    await expect(button(seen, "Retry")).to_be_visible()
    assert (await client.call("c"))["end_reason"] == "canceled"


async def test_the_question_is_answered_with_keys_and_gives_the_focus_back(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client = connect(server)
    await client.send("c", 1)
    seen = await visit(f"{server.url}/?call=c")
    press = seen.page.keyboard.press
    await button(seen, "Cancel call").focus()
    await press("Enter")
    await expect(button(seen, "Keep it")).to_be_focused()
    await press("Escape")
    await expect(question(seen)).to_be_hidden()
    await expect(button(seen, "Cancel call")).to_be_focused()
    await press("Enter")
    await expect(button(seen, "Keep it")).to_be_focused()
    await press("Enter")
    await expect(question(seen)).to_be_hidden()
    await expect(button(seen, "Cancel call")).to_be_focused()
    assert (await client.call("c"))["state"] == "IN_PROGRESS"
    await press("Enter")
    await press("Tab")
    await press("Enter")
    await expect(chip(seen)).to_have_text("Failed")
    await expect(seen.page.locator("#call-title")).to_be_focused()


async def test_an_action_is_shown_as_under_way_and_not_as_done_before_the_answer(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client = connect(server)
    await client.send("c", 1)
    seen = await visit(f"{server.url}/?call=c")
    held = asyncio.Queue[Any]()
    await seen.page.route("**/cancel", held.put)
    await button(seen, "Cancel call").click()
    await say_yes(seen, "Cancel call")
    await expect(button(seen, "Cancelling…")).to_have_attribute("aria-disabled", "true")
    await button(seen, "Cancelling…").press("Enter")
    await expect(question(seen)).to_be_hidden()
    await expect(chip(seen)).to_have_text("In progress")
    assert held.qsize() == 1
    await (await held.get()).continue_()
    await expect(chip(seen)).to_have_text("Failed")


async def test_a_key_without_the_scope_is_told_so_and_kept(
    serve: Serve, connect: Connect, visit: Open, sql: Sql
) -> None:
    server = await serve(**FAILING)
    await fail(connect(server), sql, "c")
    key = await create_key(sql, "me", {Scope.SUPERVISE}, prefix="")
    await server.restart()
    seen = await visit("about:blank", origin=server.url)
    seen.tolerated = ("403 (Forbidden)",)
    await seen.page.add_init_script(f"sessionStorage.setItem('callactors.key', '{key}')")
    await seen.page.goto(f"{server.url}/?call=c&state=FAILED")
    await button(seen, "Retry").click()
    await say_yes(seen, "Retry")
    refusal = "This key may not do that: it needs the scope admin."
    await expect(outcome(seen)).to_have_text(refusal)
    await expect(button(seen, "Retry")).to_be_focused()
    await expect(chip(seen)).to_have_text("Failed")
    await seen.page.get_by_role("link", name="All calls").click()
    await button(seen, "Retry all failed…").click()
    await expect(seen.page.locator("#retry-all-word")).to_have_text(refusal)
    await expect(seen.connection()).to_have_text("Live")


async def test_a_question_goes_with_the_key_and_keeps_nothing_of_its_call(
    serve: Serve, connect: Connect, visit: Open, sql: Sql
) -> None:
    server = await serve()
    await connect(server).send("paris-1", 1)
    key = await create_key(sql, "me", {Scope.SUPERVISE, Scope.ADMIN}, prefix="")
    await server.restart()
    seen = await visit("about:blank", origin=server.url)
    seen.tolerated = ("401 (Unauthorized)", "HTTP Authentication failed", "closed before the connection")
    await seen.page.add_init_script(f"sessionStorage.setItem('callactors.key', '{key}')")
    await seen.page.goto(f"{server.url}/?call=paris-1")
    await button(seen, "Cancel call").click()
    await expect(question(seen).locator("code")).to_have_text("paris-1")
    await revoke_key(sql, "me", key.split("_")[1])
    await expect(seen.page.get_by_role("dialog", name="Enter a key")).to_be_visible()
    await expect(question(seen)).to_be_hidden()
    assert "paris" not in await seen.page.evaluate("document.documentElement.outerHTML")


async def test_who_comes_second_is_told_the_new_state(serve: Serve, connect: Connect, visit: Open) -> None:
    server = await serve()
    client = connect(server)
    await client.send("c", 1)
    seen = await visit(f"{server.url}/?call=c")
    seen.tolerated = ("409 (Conflict)",)
    await button(seen, "Cancel call").click()
    await client.complete("c", last_sequence={"": 1})
    await expect(chip(seen)).to_have_text("Archived")
    await say_yes(seen, "Cancel call")
    await expect(outcome(seen)).to_have_text("Somebody was faster: the call is Archived now.")
    await expect(seen.page.locator("#call-title")).to_be_focused()


async def test_what_may_not_have_been_done_can_be_tried_again(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    await connect(server).send("c", 1)
    seen = await visit(f"{server.url}/?call=c")
    seen.tolerated = ("503 (Service Unavailable)",)
    problem = '{"type":"/problems/storage-unavailable","detail":"the database does not answer"}'
    await seen.page.route(
        "**/cancel",
        lambda route: route.fulfill(status=503, body=problem, content_type="application/problem+json"),
        times=1,
    )
    for told in ("This may not have been done: the database does not answer. Try again.", "was cancelled."):
        await button(seen, "Cancel call").click()
        await say_yes(seen, "Cancel call")
        await expect(outcome(seen)).to_contain_text(told)


async def test_all_failed_calls_are_counted_and_retried_page_by_page(
    serve: Serve, visit: Open, sql: Sql
) -> None:
    server = await serve()
    await insert_failed(sql, 1_150)
    seen = await visit(server.url)
    await expect(seen.page.locator("#live tr")).to_have_count(500)
    await expect(button(seen, "Retry all failed…")).to_be_hidden()
    await seen.page.locator("#states").get_by_label("Failed").check()
    await button(seen, "Retry all failed…").click()
    await expect(question(seen)).to_contain_text("Retry 1,150 failed calls?")
    await expect(question(seen).get_by_role("button", name="Cancel")).to_be_focused()
    await seen.page.keyboard.press("Escape")
    await expect(button(seen, "Retry all failed…")).to_be_focused()
    assert await _count(sql, "FAILED", 1_150)
    await button(seen, "Retry all failed…").click()
    await say_yes(seen, "Retry all")
    word = seen.page.locator("#retry-all-word")
    await expect(word).to_have_text("1,150 of 1,150 failed calls retried.", timeout=60_000)
    await eventually(lambda: _count(sql, "ARCHIVED", 1_150))
    await expect(button(seen, "Retry all failed…")).to_be_hidden()
    await expect(word).to_be_visible()
    await seen.page.locator("#states").get_by_label("Failed").uncheck()
    await expect(word).to_be_hidden()
    pages = [url for url in seen.requests if "/v1/calls/retry" in url and "dry_run" not in url]
    assert len(pages) == 12
    assert all(url.endswith("limit=100") or "cursor=" in url for url in pages)


async def test_retrying_all_can_be_stopped(serve: Serve, visit: Open, sql: Sql) -> None:
    server = await serve(**LONG)
    await insert_failed(sql, 250)
    seen = await visit(f"{server.url}/?state=FAILED")
    held = asyncio.Queue[Any]()
    await button(seen, "Retry all failed…").click()
    await expect(question(seen)).to_be_visible()
    await seen.page.route(MANY, held.put)
    await say_yes(seen, "Retry all")
    await (await held.get()).continue_()
    second = await held.get()
    await expect(seen.page.locator("#retry-all-progress")).to_have_text("Retrying… 100 of 250")
    await button(seen, "Stop").click()
    await expect(button(seen, "Stopping…")).to_have_attribute("aria-disabled", "true")
    await second.continue_()
    word = seen.page.locator("#retry-all-word")
    await expect(word).to_have_text("Stopped: 200 of 200 failed calls retried.")
    await expect(button(seen, "Retry all failed…")).to_be_focused()
    assert held.empty()
    assert await _count(sql, "FAILED", 50)


async def test_failed_calls_beyond_what_is_counted_are_more_than_that(serve: Serve, visit: Open) -> None:
    server = await serve()
    seen = await visit("about:blank", origin=server.url)
    page = '{"matched":1000,"retried":0,"dry_run":true,"cursor":"c"}'
    json = "application/json"
    await seen.page.route(MANY, lambda route: route.fulfill(status=202, body=page, content_type=json))
    await seen.page.route(
        re.compile(r"/v1/calls\?state=FAILED&limit=1$"),
        lambda route: route.fulfill(body='{"calls":[{}],"cursor":null}', content_type=json),
    )
    await seen.page.goto(f"{server.url}/?state=FAILED")
    await button(seen, "Retry all failed…").click()
    await expect(question(seen)).to_contain_text("Retry more than 10,000 failed calls?")


async def test_without_failed_calls_there_is_nothing_to_retry(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    await connect(server).send("c", 1)
    seen = await visit("about:blank", origin=server.url)
    async with seen.page.expect_response(re.compile(r"state=FAILED&limit=1$")):
        await seen.page.goto(f"{server.url}/?state=FAILED")
    await expect(seen.page.get_by_text("No call matches")).to_be_visible()
    await expect(button(seen, "Retry all failed…")).to_be_hidden()


async def test_a_pause_of_the_ai_step_is_told_until_it_is_over(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve(flaky_failure_rate=1, max_attempts=9, ai_failures=1, ai_pause=60)
    client, seen = connect(server), await visit(server.url)
    seen.tolerated = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    notice = seen.page.locator("#ai-step")
    await expect(seen.connection()).to_have_text("Live")
    await expect(notice).to_be_empty()
    await client.send("c", 1)
    await client.complete("c", last_sequence={"": 1})
    await expect(notice).to_have_text(PAUSES)
    await seen.page.reload()
    await expect(notice).to_have_text(PAUSES)
    await server.restart({"flaky_failure_rate": 0})
    await expect(seen.state("c")).to_have_text("Archived", timeout=30_000)
    await expect(notice).to_be_empty()


async def test_the_notice_of_a_pause_goes_when_the_server_says_so_and_with_the_connection(
    serve: Serve, visit: Open
) -> None:
    server = await serve()
    seen = await visit("about:blank", origin=server.url)
    sockets: list[WebSocketRoute] = []

    async def pass_on(socket: "WebSocketRoute") -> None:
        socket.connect_to_server()
        sockets.append(socket)

    await seen.page.route_web_socket(SOCKET, pass_on)
    await seen.page.goto(server.url)
    await expect(seen.connection()).to_have_text("Live")
    notice = seen.page.locator("#ai-step")
    for state in ("closed", "trying"):
        sockets[0].send(f'{{"type":"ai_step","state":"{state}"}}')
        await expect(notice).to_have_text(PAUSES)
    sockets[0].send('{"type":"ai_step","state":"open"}')
    await expect(notice).to_be_empty()
    sockets[0].send('{"type":"ai_step","state":"closed"}')
    await expect(notice).to_have_text(PAUSES)
    await sockets[0].close(code=1012)
    await eventually(lambda: _is(len(sockets) == 2))
    await expect(seen.connection()).to_have_text("Live")
    await expect(notice).to_be_empty()


async def _count(sql: Sql, state: str, number: int) -> bool:
    found = await sql.fetchval("select count(*) from calls where state = $1", state)
    return bool(found == number)


async def _is(claim: bool) -> bool:
    return claim
