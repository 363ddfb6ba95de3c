"""`GET /v1/calls` over HTTP: filters, orders, pages, and parameters that are wrong."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_aiohttp.plugin import AiohttpClient
from yarl import URL

from callactors.states import CallState
from callactors.store import listing
from callactors.store.listing import SCAN_BOUND, Filters, Place, Sort
from callactors.web.keys import SYSTEM
from callactors.web.parameters import CallsQuery, EventsQuery, PacketsQuery
from tests.proxy import proxy_to
from tests.scenes import COMPLETE, make_app, packet, until_state
from tests.storage import Sql, reader, rows_read

Parameters: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
Client: TypeAlias = Any

CALL = """
insert into calls (call_id, version, state, end_reason, started_at, finished_at, streams, packets)
select $1, 4, $2, $3, $4::text::timestamptz, case when $2 in ('ARCHIVED', 'FAILED') then now() end, $5, 1
"""
EVENT = """
insert into call_events (call_no, version, call_id, kind, from_state, to_state, attempt, detail)
select call_no, $2, call_id, $3, 'COMPLETED', 'PROCESSING_AI', 1, $4 from calls where call_id = $1
"""
WHOLE, GAPPY = '{"": {"last": 1, "missing": [[0, 0]]}}', '{"": {"last": 3, "missing": [[0, 2]]}}'


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


async def page(client: Client, parameters: Parameters = ()) -> tuple[list[str], str | None]:
    """The call ids of a page, and its cursor."""
    response = await client.get("/v1/calls", params=parameters)
    assert response.status == 200, await response.text()
    told = await response.json()
    return [call["call_id"] for call in told["calls"]], told["cursor"]


async def walk(client: Client, parameters: dict[str, str]) -> list[str]:
    """The call ids of all pages."""
    found, cursor = await page(client, parameters)
    while cursor is not None:
        more, cursor = await page(client, {**parameters, "cursor": cursor})
        found += more
    return found


@pytest.fixture
async def four(sql: Sql) -> None:
    """Four calls, `ab` the newest; their last transitions came in the order b, ab, a, c."""
    for call in (
        ("a", "IN_PROGRESS", None, "2026-11-24 01:00+00", GAPPY),
        ("b", "ARCHIVED", "api", "2026-11-24 02:00+00", WHOLE),
        ("c", "FAILED", "busy", "2026-11-24 03:00+00", "{}"),
        ("ab", "PROCESSING_AI", "api", "2026-11-24 04:00+00", GAPPY),
    ):
        await sql.execute(CALL, *call)
    for call_id in ("b", "c"):
        await sql.execute(EVENT, call_id, 1, "transition", "{}")
    for call_id in ("b", "ab", "a", "c"):
        await sql.execute(EVENT, call_id, 2, "transition", json.dumps({"end_reason": "api"}))
    for call_id in ("b", "ab"):
        await sql.execute(EVENT, call_id, 3, "attempt", json.dumps({"phase": "started"}))


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ("", ["ab", "c", "b", "a"]),
        ("sort=call_id", ["a", "ab", "b", "c"]),
        ("sort=transition", ["c", "a", "ab", "b"]),
        ("state=ARCHIVED&state=FAILED", ["c", "b"]),
        ("state=IN_PROGRESS&state=PROCESSING_AI", ["ab", "a"]),
        ("state=IN_PROGRESS&state=FAILED&sort=call_id", ["a", "c"]),
        ("end_reason=api&sort=transition", ["ab", "b"]),
        ("has_gaps=true", ["ab", "a"]),
        ("has_gaps=false&sort=call_id", ["b", "c"]),
        ("since=2026-11-24T02:00:00Z&until=2026-11-24T04:00:00Z", ["c", "b"]),
        ("since=2026-11-24T03:00:00%2B01:00&until=2026-11-24T04:00:00Z&sort=transition", ["c", "b"]),
        ("q=a", ["a", "ab"]),
        ("q=ab", ["ab"]),
        ("q=a&sort=start", ["ab", "a"]),
        ("q=A", []),
        ("q=a&state=PROCESSING_AI&sort=transition", ["ab"]),
    ],
)
async def test_filters_and_orders(client: Client, four: None, parameters: str, wanted: list[str]) -> None:
    response = await client.get(f"/v1/calls?{parameters}")
    assert [call["call_id"] for call in (await response.json())["calls"]] == wanted


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("limit", ["1", "2", "3", "4", "5"])
async def test_pages_of_any_size_make_the_whole_list(
    client: Client, four: None, sort: Sort, limit: str
) -> None:
    whole, cursor = await page(client, {"sort": sort})
    assert (len(whole), cursor) == (4, None)
    assert await walk(client, {"sort": sort, "limit": limit}) == whole


async def test_a_cursor_goes_on_with_other_filters(client: Client, four: None) -> None:
    _, cursor = await page(client, {"limit": "1"})
    assert cursor is not None
    assert await page(client, {"cursor": cursor, "end_reason": "api"}) == (["b"], None)
    assert await page(client, {"cursor": cursor, "until": "2026-11-24T02:00:00Z"}) == (["a"], None)


async def test_calls_that_begin_or_move_meanwhile_make_no_page_skip_or_repeat_another(
    client: Client, sql: Sql
) -> None:
    system = client.app[SYSTEM]
    names = [f"c{number}" for number in range(12)]
    for name in names:
        await system.accept(name, packet(1))
    for sort in Sort:
        found, cursor = await page(client, {"sort": sort, "limit": "3"})
        while cursor is not None:
            await system.accept(f"new-{sort}-{len(found)}", packet(1))
            moved = found[0]
            await system.complete(moved, COMPLETE)
            await until_state(sql, moved, "ARCHIVED")
            more, cursor = await page(client, {"sort": sort, "limit": "3", "cursor": cursor})
            found += more
        old = [call_id for call_id in found if call_id in names]
        assert sorted(old) == sorted(names)
        assert len(found) == len(set(found))


async def test_a_call_that_moves_to_the_front_comes_there_and_only_there(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    for name in ("a", "b", "c"):
        await system.accept(name, packet(1))
    first, cursor = await page(client, {"sort": "transition", "limit": "1"})
    assert (first, cursor is None) == (["c"], False)
    await system.complete("a", COMPLETE)
    await until_state(sql, "a", "ARCHIVED")
    assert await page(client, {"sort": "transition", "cursor": str(cursor)}) == (["b"], None)
    assert (await page(client, {"sort": "transition"}))[0] == ["a", "c", "b"]


async def test_the_order_of_transitions_tells_the_last_one(client: Client, four: None) -> None:
    response = await client.get("/v1/calls", params={"sort": "transition", "limit": "1"})
    [call] = (await response.json())["calls"]
    at = call["last_event"].pop("at")
    assert at.endswith("Z")
    assert call["last_event"] == {
        "kind": "transition",
        "state": "PROCESSING_AI",
        "from": "COMPLETED",
        "version": 2,
        "end_reason": "api",
    }


async def test_counts_of_the_list_are_exact_and_those_of_the_call_itself(client: Client) -> None:
    """Although no row was written since the first packet, but for that of a new stream."""
    system = client.app[SYSTEM]
    for sequence in (1, 2, 6):
        await system.accept("c", packet(sequence))
    await system.accept("c", packet(3, stream="b"))
    await system.accept("d", packet(1))
    [d, c] = (await (await client.get("/v1/calls")).json())["calls"]
    assert (c["packets"], c["missing_count"], c["has_gaps"]) == (4, 5, True)
    assert (d["packets"], d["missing_count"], d["has_gaps"]) == (1, 0, False)
    assert d["last_packet_at"] >= d["started_at"]
    for call in (c, d):
        alone = await (await client.get(f"/v1/call/{call['call_id']}")).json()
        assert {name: alone[name] for name in call} == call


async def test_a_page_filtered_by_gaps_never_shows_a_call_that_does_not_match(
    client: Client, sql: Sql
) -> None:
    """Also when the row is behind the packets."""
    system = client.app[SYSTEM]
    for sequence in (1, 3):
        await system.accept("opened", packet(sequence))
    await system.accept("closed", packet(2, stream="b"))  # the first of a new stream writes the row
    await system.accept("closed", packet(1, stream="b"))
    assert await page(client, {"has_gaps": "true"}) == ([], None)
    assert await page(client, {"has_gaps": "false"}) == ([], None)


async def test_named_calls_come_without_the_unknown_and_without_a_cursor(client: Client, four: None) -> None:
    names = [("call_id", name) for name in ("c", "ab", "nobody", "c")]
    found, cursor = await page(client, names)
    assert (sorted(found), cursor) == (["ab", "c"], None)
    assert await page(client, [*names, ("state", "FAILED")]) == (["c"], None)


BULK = """
insert into calls (call_id, version, state, started_at, finished_at)
select 'bulk' || g, 4, $1, '2026-11-24 05:00+00', $2::text::timestamptz from generate_series(1, 25000) g
"""


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("sort", "state", "ended_at"),
    [
        ("start", "ARCHIVED", "2026-11-24 06:00+00"),
        ("start", "IN_PROGRESS", None),
        ("transition", "ARCHIVED", "2026-11-24 06:00+00"),
        ("call_id", "ARCHIVED", "2026-11-24 06:00+00"),
    ],
)
async def test_a_page_looks_at_so_many_rows_and_the_next_goes_on_behind_them(
    dsn: str, sql: Sql, client: Client, sort: str, state: str, ended_at: str | None, mode: str
) -> None:
    await sql.execute(CALL, "z", "FAILED" if ended_at else "COMPLETED", None, "2026-11-24 04:00+00", WHOLE)
    await sql.execute(EVENT, "z", 1, "transition", "{}")
    await sql.execute(BULK, state, ended_at)
    await sql.execute(
        "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
        " select call_no, 1, call_id, 'transition', 'ARCHIVED', 1, '{}' from calls where call_id <> 'z'"
    )
    await sql.execute("analyze")  # or autovacuum would, of one table before the other
    wanted = "FAILED" if ended_at else "COMPLETED"
    found: list[str] = []
    counts: list[int] = []
    after: Place | None = None
    tables = 3 if sort == "transition" else 1
    async with reader(dsn, mode=mode) as own:
        while after is not None or not counts:
            before = await rows_read(own)
            filters = Filters(states=[wanted])
            read = await listing.read_page(own, filters, Sort(sort), limit=10, after=after)
            assert await rows_read(own) - before < tables * SCAN_BOUND + 500
            after = read.next
            counts.append(len(read.calls))
            found += [call["call_id"] for call in read.calls]
    assert (found, counts) == (["z"], [0, 0, 1])
    assert await walk(client, {"sort": sort, "state": wanted}) == ["z"]


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_page_that_is_full_reads_no_further(dsn: str, sql: Sql, mode: str) -> None:
    await sql.execute(BULK, "ARCHIVED", "2026-11-24 06:00+00")
    await sql.execute(
        "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
        " select call_no, 1, call_id, 'transition', 'ARCHIVED', 1, '{}' from calls"
    )
    await sql.execute("analyze")
    async with reader(dsn, mode=mode) as own:
        for sort in Sort:
            before = await rows_read(own)
            read = await listing.read_page(own, Filters(), sort, limit=10)
            assert len(read.calls) == 10
            assert await rows_read(own) - before < 200


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ("nothing=1", "/nothing"),
        ("limit=1&limit=2", "/limit"),
        ("limit=0", "/limit"),
        ("limit=201", "/limit"),
        ("limit=many", "/limit"),
        ("limit=1.5", "/limit"),
        ("limit=" + "9" * 5000, "/limit"),
        ("state=ENDED", "/state/0"),
        ("state=ARCHIVED&state=", "/state/1"),
        ("end_reason=boredom", "/end_reason/0"),
        ("has_gaps=yes", "/has_gaps"),
        ("since=yesterday", "/since"),
        ("since=2026-11-24", "/since"),
        ("since=2026-11-24T03:00:00", "/since"),
        ("since=1700000000", "/since"),
        ("until=0001-01-01T00:00:00%2B10:00", "/until"),
        ("until=9999-12-31T23:59:59-10:00", "/until"),
        ("sort=length", "/sort"),
        ("q=", "/q"),
        ("q=%25", "/q"),
        ("q=a%00", "/q"),
        ("q=a%0a", "/q"),
        ("q=%F0%9F%98%80", "/q"),
        ("q=" + "a" * 129, "/q"),
        ("call_id=a%00b", "/call_id/0"),
        ("call_id=stream", "/call_id/0"),
        ("&".join(["call_id=a"] * 101), "/call_id"),
        ("call_id=a&cursor=x", "/cursor"),
        ("call_id=a&limit=5", "/limit"),
        ("cursor=%00", "/cursor"),
        ("cursor=%F0%9F%98%80", "/cursor"),
        ("cursor=" + "A" * 5000, "/cursor"),
        ("a%00b=1", "/a\x00b"),
    ],
)
async def test_wrong_parameters_are_named(client: Client, parameters: str, pointer: str) -> None:
    response = await client.get(f"/v1/calls?{parameters}")
    told = json.loads(await response.text())
    assert (response.status, told["type"]) == (422, "/problems/validation")
    assert [error["pointer"] for error in told["errors"]] == [pointer]


@pytest.mark.parametrize(
    "raw",
    [
        "start/1/2/3",
        "start/1",
        "start/x/1",
        "start/99999999999999999999/1",
        "start/0/-1",
        "start/0/9223372036854775808",
        "transition/-1",
        "transition/9223372036854775808",
        "transition/",
        "call_id/a\x00b",
        "call_id/a/b",
        "length/1",
        "\xff",
        "",
    ],
)
def test_text_that_is_no_place_is_refused(raw: str) -> None:
    assert Place.parse(base64.urlsafe_b64encode(raw.encode("latin-1")).decode()) is None


async def test_a_cursor_of_another_order_is_refused(client: Client, four: None) -> None:
    _, cursor = await page(client, {"limit": "1"})
    response = await client.get("/v1/calls", params={"cursor": str(cursor), "sort": "transition"})
    told = json.loads(await response.text())
    assert (response.status, [e["code"] for e in told["errors"]]) == (422, ["other_sort"])
    assert "sort=start" in told["errors"][0]["detail"]


NAMES = st.sampled_from(
    [*CallsQuery.model_fields, *EventsQuery.model_fields, *PacketsQuery.model_fields, "x"]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    st.sampled_from(["true", *Sort, *CallState, "start/0/1", "\x00", "a", ""]),
    st.builds(lambda s, k: str(Place(s, number=k)), st.sampled_from(Sort), st.integers()),
    st.builds(lambda k: str(Place(Sort.CALL_ID, call_id=k)), st.text(max_size=5)),
)


async def test_no_parameters_whatever_make_the_server_fail(client: Client) -> None:
    await client.app[SYSTEM].accept("c", packet(1))
    urls: set[str] = set()

    @settings(max_examples=300, deadline=None, database=None)
    @given(
        st.sampled_from(["calls", "call/c/events", "call/c/packets", "stats"]),
        st.lists(st.tuples(NAMES, VALUES), max_size=3),
    )
    def gather(path: str, parameters: list[tuple[str, str]]) -> None:
        urls.add(f"/v1/{path}?{urlencode(parameters)}")

    gather()
    for url in urls:
        response = await client.get(URL(url, encoded=True))
        assert response.status in (200, 422), url


async def test_without_a_database_lists_are_refused_for_now(dsn: str, aiohttp_client: AiohttpClient) -> None:
    async with proxy_to(dsn) as proxy:
        client = await aiohttp_client(make_app(proxy.dsn))
        assert (await client.get("/v1/calls")).status == 200
        proxy.refuse()
        for path in ("calls", "call/c", "call/c/events", "call/c/packets", "stats"):
            response = await client.get(f"/v1/{path}")
            told = json.loads(await response.text())
            assert (response.status, told["type"]) == (503, "/problems/storage-unavailable")
            assert int(response.headers["Retry-After"]) >= 1
