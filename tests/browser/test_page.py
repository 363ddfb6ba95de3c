"""What a supervisor sees and does on the page."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

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
expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]
Connect = Callable[[Server], Client]

SLOW: dict[str, Any] = {"grace": 1, "flaky_latency_min": 1, "flaky_latency_max": 1}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
FORGET = """async () => {
    const {Calls} = await import(new URL("dashboard/calls.js", document.baseURI));
    const calls = new Calls(3);
    const tell = (id, state, from, version) => calls.applyEvent(
        {type: "event", call_id: id, state, from, version, attempt: 0, at: "2026-11-24T03:52:23.120Z"});
    for (const id of ["live-1", "ended-1", "ended-2"]) tell(id, "IN_PROGRESS", null, 1);
    for (const id of ["ended-1", "ended-2"]) tell(id, "ARCHIVED", "PROCESSING_AI", 4);
    tell("live-2", "IN_PROGRESS", null, 1);
    return [...calls.values()].map(call => call.call_id).sort();
}"""
OVERTAKEN = """async () => {
    const {Calls} = await import(new URL("dashboard/calls.js", document.baseURI));
    const calls = new Calls();
    const at = "2026-11-24T03:52:23.120Z";
    const event = {type: "event", call_id: "c", attempt: 0, at};
    calls.applyEvent({...event, state: "IN_PROGRESS", from: null, version: 1});
    calls.refresh({call_id: "c", state: "COMPLETED", version: 2, attempt: 0, packets: 7, started_at: at,
        finished_at: null});
    calls.applyEvent({...event, state: "COMPLETED", from: "IN_PROGRESS", version: 2});
    const {state, packets, last_event} = calls.get("c");
    return [state, packets, last_event.state];
}"""
STATES = ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]


async def test_a_call_appears_and_moves_through_its_states_by_itself(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve(**SLOW)
    client, seen = connect(server), await visit(server.url)
    await expect(seen.page.get_by_text("No calls yet")).to_be_visible()
    await expect(seen.page.locator("#empty pre")).to_contain_text(f"{server.url}/v1/call/stream/demo-1")
    await seen.watch_states("c")
    await client.send("c", 1)
    await expect(seen.state("c")).to_have_text("In progress")
    await client.send("c", 4)
    await expect(seen.row("c").locator(".missing")).to_have_text("2", timeout=10_000)
    await client.complete("c")
    await expect(seen.state("c")).to_have_text("Archived", timeout=20_000)
    assert await seen.states_seen() == STATES


async def test_retries_count_down_and_a_failed_call_says_why(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve(flaky_failure_rate=1, retry_initial=2, max_attempts=2)
    client, seen = connect(server), await visit(server.url)
    await client.send("c", 1)
    await client.complete("c")
    await expect(seen.row("c").locator(".attempt")).to_contain_text("1 of 2, next in")
    await expect(seen.state("c")).to_have_text("Failed", timeout=20_000)
    await expect(seen.row("c").locator(".attempt")).to_have_text("2 of 2")
    await expect(seen.row("c").locator(".last")).to_contain_text("failed: the simulated AI service failed")
    await expect(seen.page.locator('.tile[data-name="failed"] strong')).to_have_text("1", timeout=10_000)


async def test_filters_are_kept_in_the_url_over_a_reload(serve: Serve, connect: Connect, visit: Open) -> None:
    server = await serve()
    client, seen = connect(server), await visit(server.url)
    for call_id in ("berlin-1", "berlin-2", "paris-1"):
        await client.send(call_id, 1)
    await client.complete("berlin-2")
    rows = seen.page.locator("#live tr")
    await expect(rows).to_have_count(3)
    await expect(seen.state("berlin-2")).to_have_text("Archived")
    await seen.page.get_by_label("In progress").check()
    await expect(rows).to_have_count(2)
    await seen.page.get_by_label("Search by call id").fill("BERL")
    await expect(rows).to_have_count(1)
    await expect(seen.page).to_have_url(f"{server.url}/?state=IN_PROGRESS&q=BERL")
    await seen.page.reload()
    await expect(rows).to_have_count(1)
    await expect(seen.row("berlin-1")).to_be_visible()
    await client.complete("berlin-1")
    await expect(seen.page.get_by_text("No call matches")).to_be_visible()
    await seen.page.get_by_role("button", name="Show all calls").click()
    await expect(rows).to_have_count(3)
    await expect(seen.page).to_have_url(f"{server.url}/")


async def test_calls_that_the_page_does_not_know_are_searched_on_the_server_and_listed_as_older(
    serve: Serve, connect: Connect, visit: Open, sql: Sql
) -> None:
    server = await serve()
    client = connect(server)
    for call_id in ("old-1", "old-2"):
        await client.send(call_id, 1)
        await client.complete(call_id, last_sequence={"": 1})
    await eventually(lambda: sql.fetchval("select bool_and(finished_at is not null) from calls"))
    await sql.execute(
        "insert into calls (call_id, state, version, started_at, finished_at, completed_at)"
        " select 'new-' || n, 'ARCHIVED', 4, now(), now() + '1 h', now() from generate_series(1, 600) n"
    )
    seen = await visit(server.url)
    await expect(seen.page.locator("#live tr")).to_have_count(500)
    await expect(seen.row("old-1")).to_have_count(0)
    await seen.page.get_by_label("Search by call id").fill("old-1")
    await expect(seen.page.locator("#older").locator(seen.row("old-1"))).to_be_visible()
    await expect(seen.row("old-2")).to_have_count(0)
    await seen.page.keyboard.press("Escape")
    await expect(seen.row("old-1")).to_have_count(0)
    await seen.page.get_by_role("button", name="Older calls").click()
    await expect(seen.page.locator("#older tr")).to_have_count(2)
    await expect(seen.row("old-1").locator(".last")).to_contain_text("archived")
    await expect(seen.page.get_by_text("That is all.")).to_be_visible()


async def test_more_calls_than_the_table_takes_are_counted(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client = connect(server)
    await asyncio.gather(*(client.send(f"c-{n}", 1) for n in range(505)))
    seen = await visit(server.url)
    await expect(seen.page.locator("#live tr")).to_have_count(500)
    await expect(seen.page.locator("#more")).to_contain_text("and 5 more")
    await client.send("newest", 1)
    await expect(seen.page.locator("#more")).to_contain_text("and 6 more")
    await expect(seen.page.locator("#live tr").first).to_have_attribute("data-id", "newest")


async def test_the_model_forgets_ended_calls_before_live_ones(serve: Serve, visit: Open) -> None:
    server = await serve()
    seen = await visit(server.url)
    assert await seen.page.evaluate(FORGET) == ["ended-2", "live-1", "live-2"]


async def test_the_page_of_a_call_tells_its_history_and_result(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve(**SLOW)
    client, seen = connect(server), await visit(server.url)
    await client.send("c", 1)
    await client.send("c", 5)
    await seen.row("c").locator("a").click()
    await expect(seen.page.get_by_role("heading", name="c", exact=True)).to_be_focused()
    await expect(seen.page.locator(".streams")).to_contain_text("3 missing: 2 to 4")
    await client.complete("c", metadata={"queue": "billing"})
    timeline = seen.page.locator(".timeline li")
    await expect(timeline).to_have_count(6, timeout=20_000)
    assert [await line.get_attribute("data-phase") for line in await timeline.all()] == [
        *("transition", "transition", "transition", "started", "succeeded", "transition")
    ]
    await expect(seen.page.locator("blockquote")).to_have_text("simulated transcript of 2 packets")
    await expect(seen.page.locator(".result")).to_contain_text("Sentiment: ")
    await expect(seen.page.locator(".result")).to_contain_text("billing")
    await seen.page.get_by_text("Raw events").click()
    await expect(seen.page.locator(".raw pre")).to_contain_text('"kind":"transition"')
    await seen.page.reload()
    await expect(seen.page.locator("blockquote")).to_be_visible()
    await expect(seen.connection()).to_have_text("Live")
    await expect(timeline).to_have_count(6)


async def test_a_sequence_beyond_what_javascript_counts_keeps_its_digits(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client = connect(server)
    await client.send("c", 1)
    await client.send("c", 2**63 - 1)
    seen = await visit(f"{server.url}/?call=c")
    missing = f"{2**63 - 3:,} missing: 2 to {2**63 - 2:,}"
    await expect(seen.page.locator(".streams")).to_contain_text(missing)


async def test_a_call_that_does_not_exist_is_told(serve: Serve, visit: Open) -> None:
    server = await serve()
    seen = await visit(f"{server.url}/?call=nobody")
    seen.tolerated = ("404 (Not Found)",)
    await expect(seen.page.get_by_text("There is no call with this id.")).to_be_visible()
    await seen.page.get_by_role("link", name="All calls").click()
    await expect(seen.page.get_by_text("No calls yet")).to_be_visible()


async def test_everything_can_be_done_with_keys(serve: Serve, connect: Connect, visit: Open) -> None:
    server = await serve()
    client = connect(server)
    for call_id in ("a", "b", "c"):
        await client.send(call_id, 1)
    seen = await visit(server.url)
    await expect(seen.page.locator("#live tr")).to_have_count(3)
    press = seen.page.keyboard.press
    await press("j")
    await expect(seen.row("c").locator("a")).to_be_focused()
    await press("j")
    await press("j")
    await press("k")
    await expect(seen.row("b").locator("a")).to_be_focused()
    await press("Enter")
    await expect(seen.page.get_by_role("heading", name="b", exact=True)).to_be_visible()
    await press("Escape")
    await expect(seen.row("b").locator("a")).to_be_focused()
    await press("/")
    await expect(seen.page.get_by_label("Search by call id")).to_be_focused()
    await seen.page.keyboard.type("a")
    await expect(seen.page.locator("#live tr")).to_have_count(1)
    await press("Escape")
    await expect(seen.page.locator("#live tr")).to_have_count(3)
    await press("j")
    await expect(seen.row("c").locator("a")).to_be_focused()


async def test_an_event_that_the_list_has_overtaken_is_still_the_last_event(
    serve: Serve, visit: Open
) -> None:
    server = await serve()
    seen = await visit(server.url)
    assert await seen.page.evaluate(OVERTAKEN) == ["COMPLETED", 7, "COMPLETED"]


async def test_the_theme_follows_the_system_until_one_is_chosen(serve: Serve, visit: Open) -> None:
    server = await serve()
    seen = await visit(server.url, color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = await seen.page.evaluate(ground)
    button = seen.page.get_by_role("button", name="Dark theme", pressed=True)
    await button.click()
    assert await seen.page.evaluate(ground) != dark
    await seen.page.reload()
    assert await seen.page.evaluate(ground) != dark


async def test_on_a_phone_nothing_is_wider_than_the_screen(
    serve: Serve, connect: Connect, visit: Open
) -> None:
    server = await serve()
    client = connect(server)
    long = "call-" + "x" * 120
    await client.send(long, 1)
    await client.complete(long, metadata={"word": "w" * 300})
    seen = await visit(server.url, **PHONE)
    await expect(seen.state(long)).to_have_text("Archived")
    assert not await seen.is_wider_than_the_window()
    await seen.row(long).tap()
    await expect(seen.page.locator("blockquote")).to_be_visible()
    assert not await seen.is_wider_than_the_window()
