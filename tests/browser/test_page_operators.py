"""What a supervisor does on the page: retry and cancel calls."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from callactors.access import Scope
from callactors.store.api_keys import create_key
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
    from playwright.async_api import Locator

expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]
Connect = Callable[[Server], Client]

FAILING: dict[str, Any] = {"flaky_failure_rate": 1, "max_attempts": 1, "ai_failures": 0}
LONG: dict[str, Any] = {"flaky_latency_min": 60, "flaky_latency_max": 60, "grace": 0}


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
    await expect(seen.connection()).to_have_text("Live")


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


async def _count(sql: Sql, state: str, number: int) -> bool:
    found = await sql.fetchval("select count(*) from calls where state = $1", state)
    return bool(found == number)
