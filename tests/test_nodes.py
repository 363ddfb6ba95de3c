"""Nodes: who is alive by the database's clock, and who may call another dead."""

import asyncio
from asyncio import Task
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from callactors.store import due, nodes
from callactors.store.nodes import LEASE, Node
from tests.proxy import proxy_to
from tests.storage import ME, Sql, claim, until, until_true


@asynccontextmanager
async def beating(node: Node) -> AsyncIterator[Task[None]]:
    """Join, beat, and leave."""
    await node.join()
    run = asyncio.create_task(node.run())
    try:
        yield run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await node.leave()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of a tenth of a second."""
    monkeypatch.setattr(nodes, "LEASE", 0.1)
    monkeypatch.setattr(nodes, "_HEARTBEAT_INTERVAL", 0.01)


async def names(sql: Sql) -> set[str]:
    return {row["node"] for row in await sql.fetch("select node from nodes")}


async def has_heard_since(sql: Sql, node: Node) -> bool:
    return bool(
        await sql.fetchval(
            "select heartbeat_at > now() - interval '1 second' from nodes where node = $1", node.owner
        )
    )


async def test_boots_of_a_node_differ_and_carry_its_name(dsn: str) -> None:
    first, second = Node(dsn, "a"), Node(dsn, "a")
    assert first.owner != second.owner
    assert first.owner.startswith("a/")


async def test_join_removes_older_boots_of_the_same_name_only(dsn: str, sql: Sql) -> None:
    others = {"a2/1", "ab/1", "b/a/1", "A/1", "a_/1"}
    await sql.executemany(
        "insert into nodes values ($1, now())", [(name,) for name in {*others, "a/1", "a/2"}]
    )
    node = Node(dsn, "a")
    await node.join()
    assert await names(sql) == {*others, node.owner}
    assert await has_heard_since(sql, node)
    await node.leave()


async def test_name_with_wildcards_removes_no_others(dsn: str, sql: Sql) -> None:
    await sql.execute("insert into nodes values ('abc/1', now())")
    node = Node(dsn, "a%_")
    await node.join()
    assert await names(sql) == {"abc/1", node.owner}
    await node.leave()


async def test_join_forgets_nodes_that_were_silent_for_long(dsn: str, sql: Sql) -> None:
    await sql.execute(
        "insert into nodes values ('gone/1', now() - interval '2 h'), ('ill/1', now() - interval '1 min')"
    )
    node = Node(dsn, "a")
    await node.join()
    assert await names(sql) == {"ill/1", node.owner}
    await node.leave()


async def test_node_beats_until_it_leaves(dsn: str, sql: Sql, quick: None) -> None:
    node = Node(dsn, "a")
    async with beating(node):
        for _ in range(2):
            await sql.execute("update nodes set heartbeat_at = now() - interval '1 minute'")
            await until(sql, "heartbeat_at > now() - interval '1 second' from nodes")
        await sql.execute("delete from nodes")
        await until(sql, "count(*) = 1 from nodes")
    assert await names(sql) == set()


async def test_leaving_does_not_wait_for_a_database_that_is_away(dsn: str, sql: Sql) -> None:
    async with proxy_to(dsn) as proxy:
        node = Node(proxy.dsn, "a")
        await node.join()
        proxy.refuse()
        await node.leave()
    assert await names(sql) == {node.owner}


async def test_node_may_call_others_dead_only_after_a_lease_of_its_own_heartbeats(
    dsn: str, quick: None
) -> None:
    node, loop = Node(dsn, "a"), asyncio.get_running_loop()
    joined = loop.time()
    async with beating(node):
        assert not node.may_take_stale
        await until_true(lambda: node.may_take_stale)
        assert loop.time() - joined >= 0.1


async def test_node_that_was_cut_off_begins_its_lease_anew(dsn: str, quick: None) -> None:
    loop = asyncio.get_running_loop()
    async with proxy_to(dsn) as proxy:
        node = Node(proxy.dsn, "a")
        async with beating(node):
            await until_true(lambda: node.may_take_stale)
            proxy.refuse()
            await until_true(lambda: not node.may_take_stale)
            await proxy.listen()
            back = loop.time()
            await until_true(lambda: node.may_take_stale)
            assert loop.time() - back >= 0.1


async def test_due_calls_are_those_of_nobody_of_the_dead_and_mine(sql: Sql) -> None:
    await sql.execute(
        "insert into nodes values ('alive/1', clock_timestamp()), ('stale/1', now() - interval '1 minute')"
    )
    await sql.execute("insert into nodes values ($1, clock_timestamp())", ME)
    for owner in (None, ME, "alive/1", "stale/1", "dead/1"):
        await sql.execute(
            "insert into calls (call_id, owner, wake_at) values ($1, $2, now())", f"{owner}", owner
        )
    await sql.execute(
        "insert into calls (call_id, wake_at) values ('later', now() + interval '1 hour'), ('never', null)"
    )

    async def due_ids(*, may_take_stale: bool) -> list[str]:
        page = await due.read_due(sql, ME, due.FIRST, may_take_stale=may_take_stale, lease=LEASE)
        assert page.next is None
        return [call.call_id for call in page.calls]

    assert await due_ids(may_take_stale=False) == ["None", ME, "dead/1"]
    assert await due_ids(may_take_stale=True) == ["None", ME, "stale/1", "dead/1"]


async def test_due_calls_come_in_pages_without_a_gap(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "PAGE", 5)
    await sql.execute(
        "insert into calls (call_id, wake_at)"
        " select 'c' || g, now() - make_interval(secs => g % 3 + 0.123457) from generate_series(1, 20) g"
    )
    found: list[str] = []
    after: tuple[float, int] | None = due.FIRST
    while after is not None:
        page = await due.read_due(sql, ME, after, may_take_stale=False, lease=LEASE)
        found += [call.call_id for call in page.calls]
        after = page.next
    assert len(found) == 20
    assert set(found) == {f"c{i}" for i in range(1, 21)}


async def test_orphaned_attempts_are_those_of_the_dead(sql: Sql) -> None:
    await sql.execute(
        "insert into nodes values ('alive/1', clock_timestamp()), ('stale/1', now() - interval '1 minute')"
    )
    for owner in (ME, "alive/1", "stale/1", "dead/1"):
        await sql.execute("insert into calls (call_id, owner, attempt_running) values ($1, $1, true)", owner)
    await claim(sql, "dead/1", "resting")
    find = due.read_orphans
    assert await find(sql, ME, may_take_stale=False, lease=LEASE) == ["dead/1"]
    assert sorted(await find(sql, ME, may_take_stale=True, lease=LEASE)) == ["dead/1", "stale/1"]


@pytest.mark.usefixtures("quick")
async def test_calls_of_whom_nobody_reaches_may_be_claimed(dsn: str, sql: Sql) -> None:
    node = Node(dsn, "me")
    async with beating(node):
        for owner, age, is_routed in (("well/1", 0, True), ("cut-off/1", 0, False), ("stale/1", 60, True)):
            await sql.execute(
                "insert into nodes (node, heartbeat_at, is_routed)"
                " values ($1, clock_timestamp() - make_interval(secs => $2), $3)",
                *(owner, age, is_routed),
            )
        for call_id, owner in (("a", "well/1"), ("b", "cut-off/1"), ("c", "stale/1"), ("d", "gone/1")):
            await sql.execute("insert into calls (call_id, owner) values ($1, $2)", call_id, owner)
        await sql.execute("insert into calls (call_id, owner) values ('e', null), ('f', $1)", node.owner)
        await sql.execute("update nodes set heartbeat_at = now() + interval '1 hour' where node = 'well/1'")
        asked = [*"abcdef", "unknown"]
        assert sorted(await node.find_out_of_reach(sql, asked)) == ["b", "d", "e", "f", "unknown"]
        await until_true(lambda: node.may_take_stale)
        assert sorted(await node.find_out_of_reach(sql, asked)) == ["b", "c", "d", "e", "f", "unknown"]


async def test_others_learn_at_once_that_a_node_is_reached(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_HEARTBEAT_INTERVAL", 3_600)
    is_routed = False
    node = Node(dsn, "me", is_routed=lambda: is_routed)
    async with beating(node):
        assert await sql.fetchval("select is_routed from nodes") is False
        is_routed = True
        node.beat_soon()
        await until(sql, "exists (select from nodes where is_routed)")
