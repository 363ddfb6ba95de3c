"""Claims: who gets a call, what is loaded with it, and how many share a round trip."""

import asyncio
from time import monotonic

import pytest

from callactors.errors import StorageRefused, StorageUnavailable
from callactors.facts import Change, Facts, Row
from callactors.packets import MAX_SEQUENCE
from callactors.sequence import StreamSequence
from callactors.states import CallState
from callactors.store.flush import CallChanges, flush
from callactors.store.rows import Claimed
from callactors.store.writer import Verdict
from tests.proxy import proxy_to
from tests.storage import (
    ME,
    OTHER,
    WAITING,
    Sql,
    claim,
    claims_of,
    journal_of,
    locked,
    new,
    submit,
    until_true,
    until_waiting,
    verdicts,
    writer_of,
)


async def commit(sql: Sql, claimed: Claimed, *changes: Change, owner: str = ME) -> None:
    """Commit *changes* by hand."""
    await flush(sql, owner, [CallChanges(claimed.call_no, claimed.call.call_id, claimed.epoch, changes)])


async def claim_one(sql: Sql, owner: str, call_id: str = "c", *, may_take_stale: bool = False) -> Claimed:
    [claimed] = await claim(sql, owner, call_id, may_take_stale=may_take_stale)
    return claimed


async def test_concurrent_claims_share_a_transaction(dsn: str, sql: Sql) -> None:
    async with claims_of(dsn) as claims:
        found = await asyncio.gather(*(claims.claim(f"c{i}", creates=True, takes=True) for i in range(500)))
    assert sorted(one.call.call_id for one in found if one) == sorted(f"c{i}" for i in range(500))
    assert await sql.fetchval("select count(distinct xmin::text) from calls") == 1
    assert await sql.fetchval("select count(distinct xid) from call_events") == 1


async def test_call_is_made_with_its_first_event_in_one_commit_and_told(dsn: str, sql: Sql) -> None:
    pokes: list[None] = []
    async with claims_of(dsn, lambda: pokes.append(None)) as claims:
        made = await claims.claim("c", creates=True, takes=True)
    assert made is not None
    assert (made.is_mine, made.epoch) == (True, 1), "written once, not made and then claimed"
    assert (made.call.facts, made.call.streams, made.call.packets) == (Facts(), {}, 0)
    [event] = await sql.fetch(
        "select e.version, e.kind, e.from_state, e.to_state, e.xid::text = c.xmin::text as is_together"
        " from call_events e join calls c using (call_no, call_id)"
    )
    assert tuple(event) == (1, "transition", None, "IN_PROGRESS", True)
    assert pokes == [None]


async def test_claim_that_may_not_make_a_call_finds_none_and_leaves_nothing(dsn: str, sql: Sql) -> None:
    async with claims_of(dsn) as claims:
        assert await claims.claim("unknown", creates=False, takes=True) is None
        wanted = (
            claims.claim("made", creates=True, takes=True),
            claims.claim("unknown", creates=False, takes=True),
        )
        _, unknown = await asyncio.gather(*wanted)
    assert unknown is None
    assert await sql.fetchval("select array_agg(call_id) from calls") == ["made"]


async def test_claims_of_calls_that_exist_use_up_no_numbers(sql: Sql) -> None:
    for _ in range(3):
        assert (await claim_one(sql, ME, "first")).call_no == 1
    await claim(sql, ME, "unknown", creates=False)
    assert (await claim_one(sql, ME, "second")).call_no == 2


async def test_second_claim_raises_the_epoch_and_fences_the_first(dsn: str, sql: Sql) -> None:
    first = await claim_one(sql, ME)
    second = await claim_one(sql, OTHER)
    assert second.is_mine
    assert second.epoch == first.epoch + 1
    async with journal_of(dsn, ME) as mine, journal_of(dsn, OTHER) as other:
        assert await verdicts(submit(writer_of(mine, first), new(1))) == [Verdict.FENCED]
        assert await verdicts(submit(writer_of(other, second), new(1))) == [Verdict.STORED]


async def test_claim_of_ones_own_call_fences_the_claim_before(dsn: str, sql: Sql) -> None:
    first, second = await claim_one(sql, ME), await claim_one(sql, ME)
    assert (second.is_mine, second.epoch) == (True, first.epoch + 1)
    async with journal_of(dsn) as journal:
        assert await verdicts(submit(writer_of(journal, first), new(1))) == [Verdict.FENCED]


@pytest.mark.parametrize("state", [CallState.PROCESSING_AI, CallState.ARCHIVED, CallState.FAILED])
async def test_call_past_its_packets_is_left_to_a_living_owner_and_taken_from_a_dead_one(
    sql: Sql, state: CallState
) -> None:
    await sql.execute("insert into nodes values ($1, clock_timestamp())", OTHER)
    theirs = await claim_one(sql, OTHER)
    await commit(sql, theirs, Change(row=Row(Facts(state=state, version=2), {}, 0, 0, 0)), owner=OTHER)
    found = await claim_one(sql, ME, may_take_stale=True)
    assert (found.is_mine, found.epoch, found.call.facts.state) == (False, theirs.epoch, state)
    await sql.execute("update nodes set heartbeat_at = clock_timestamp() - interval '1 minute'")
    assert not (await claim_one(sql, ME)).is_mine, "after an outage all heartbeats are old"
    stale = await claim_one(sql, ME, may_take_stale=True)
    assert (stale.is_mine, stale.epoch) == (True, theirs.epoch + 1)
    await sql.execute("delete from nodes")
    assert (await claim_one(sql, OTHER)).is_mine, "nobody has heard of the owner"


async def test_call_that_takes_packets_is_taken_from_a_living_owner(sql: Sql) -> None:
    await sql.execute("insert into nodes values ($1, clock_timestamp())", OTHER)
    theirs = await claim_one(sql, OTHER)
    completed = Facts(state=CallState.COMPLETED, version=2)
    await commit(sql, theirs, Change(row=Row(completed, {}, 0, 0, 0)), owner=OTHER)
    assert (await claim_one(sql, ME)).is_mine


async def test_claim_for_what_is_due_takes_no_call_from_a_living_owner(sql: Sql) -> None:
    await sql.execute("insert into nodes values ($1, clock_timestamp())", OTHER)
    theirs = await claim_one(sql, OTHER)
    [found] = await claim(sql, ME, "c", takes=False)
    assert (found.is_mine, found.epoch) == (False, theirs.epoch)
    await sql.execute("delete from nodes")
    [found] = await claim(sql, ME, "c", takes=False)
    assert (found.is_mine, found.epoch) == (True, theirs.epoch + 1)


async def test_claims_tell_the_database_what_is_only_due(dsn: str, sql: Sql) -> None:
    await sql.execute("insert into nodes values ($1, clock_timestamp())", OTHER)
    await claim(sql, OTHER, "due", "asked")
    async with claims_of(dsn) as claims:
        due, asked = await asyncio.gather(
            claims.claim("due", creates=False, takes=False), claims.claim("asked", creates=False, takes=True)
        )
    assert due is not None
    assert asked is not None
    assert (due.is_mine, asked.is_mine) == (False, True)


async def test_released_call_is_anybodys(sql: Sql) -> None:
    await sql.execute("insert into nodes values ($1, clock_timestamp())", OTHER)
    theirs = await claim_one(sql, OTHER)
    released = Row(Facts(CallState.PROCESSING_AI, 2), {}, 0, 0, 0, is_released=True)
    await commit(sql, theirs, Change(row=released), owner=OTHER)
    assert (await claim_one(sql, ME)).is_mine


async def test_packets_behind_the_checkpoint_are_loaded(sql: Sql) -> None:
    """Above the last one, inside missing ranges, in every stream, and at both ends of the sequence."""
    claimed = await claim_one(sql, ME)
    streams = {
        "": StreamSequence(11, ((0, 3), (6, 7))),  # committed: 4, 5, 8, 9, 10
        "b": StreamSequence(2, ((0, 0),)),  # committed: 1
    }
    before = [*(new(n) for n in (4, 5, 8, 9, 10)), new(1, stream="b")]
    await commit(sql, claimed, *before, Change(row=Row(Facts(), streams, 6, 1, 2)))
    after = [new(n) for n in (0, 2, 3, 6, 12, MAX_SEQUENCE)] + [new(n, stream="b") for n in (2, 3)]
    await commit(sql, claimed, *after)
    call = (await claim_one(sql, OTHER)).call
    assert (call.packets, call.late, call.duplicates) == (14, 1, 2)
    assert call.streams == {
        "": StreamSequence(MAX_SEQUENCE + 1, ((1, 1), (7, 7), (11, 11), (13, MAX_SEQUENCE - 1))),
        "b": StreamSequence(4, ((0, 0),)),
    }


async def test_call_whose_last_packet_has_the_highest_sequence_is_loaded(sql: Sql) -> None:
    claimed = await claim_one(sql, ME)
    streams = {"": StreamSequence(MAX_SEQUENCE + 1, ((0, MAX_SEQUENCE - 1),))}
    await commit(sql, claimed, new(MAX_SEQUENCE), Change(row=Row(Facts(), streams, 1, 0, 0)), new(0))
    call = (await claim_one(sql, ME)).call
    assert call.streams == {"": StreamSequence(MAX_SEQUENCE + 1, ((1, MAX_SEQUENCE - 1),))}
    assert call.packets == 2


async def test_claim_waits_for_a_database_that_is_away(dsn: str, sql: Sql) -> None:
    async with proxy_to(dsn) as proxy, claims_of(proxy.dsn) as claims:
        proxy.refuse()
        claim_ = asyncio.create_task(claims.claim("c", creates=True, takes=True))
        await until_true(lambda: claims.oldest is not None)
        with pytest.raises(StorageUnavailable):
            claims.admit(max_age=-1)
        await proxy.listen()
        claimed = await claim_
    assert claimed is not None
    assert claimed.is_mine
    assert await sql.fetchval("select count(*) from call_events") == 1
    claims.admit(max_age=0)


async def test_claim_whose_connection_is_killed_is_made_again(dsn: str, sql: Sql) -> None:
    await claim_one(sql, OTHER)
    async with claims_of(dsn) as claims:
        async with locked(dsn, "c"):
            claim_ = asyncio.create_task(claims.claim("c", creates=True, takes=True))
            await until_waiting(sql)
            await sql.execute(f"select pg_terminate_backend(pid) {WAITING}")
            await until_waiting(sql)
        claimed = await claim_
    assert claimed is not None
    assert claimed.is_mine


async def test_claims_behind_a_batch_keep_their_age(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callactors.store.claims._BATCH", 1)
    await claim_one(sql, OTHER)
    async with claims_of(dsn) as claims:
        async with locked(dsn, "c"):
            first = asyncio.create_task(claims.claim("c", creates=True, takes=True))
            await until_waiting(sql)
            others = [
                asyncio.create_task(claims.claim(name, creates=True, takes=True)) for name in ("d", "e")
            ]
            await asyncio.sleep(0)
            arrived = monotonic()
        await first
        assert claims.oldest is not None
        assert claims.oldest < arrived
        await asyncio.gather(*others)
        await until_true(lambda: claims.oldest is None)


async def test_close_answers_claims_that_wait_and_the_one_under_way(dsn: str, sql: Sql) -> None:
    await claim_one(sql, OTHER)
    async with locked(dsn, "c"):
        async with claims_of(dsn) as claims:
            under_way = asyncio.create_task(claims.claim("c", creates=True, takes=True))
            await until_waiting(sql)
            waiting = asyncio.create_task(claims.claim("late", creates=True, takes=True))
            await asyncio.sleep(0)  # its first step is to wait
        for claim_ in (under_way, waiting):
            with pytest.raises(StorageUnavailable):
                await claim_


async def test_claim_that_the_database_refuses_is_answered(dsn: str, sql: Sql) -> None:
    async with claims_of(dsn) as claims:
        with pytest.raises(StorageRefused):
            await claims.claim("a\x00b", creates=True, takes=True)
        assert await claims.claim("c", creates=True, takes=True) is not None


async def test_packets_that_the_row_knows_nothing_of_are_counted(sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    changes = [new(sequence) for sequence in (0, 1, 5)]
    await flush(sql, ME, [CallChanges(claimed.call_no, "c", claimed.epoch, changes)])
    assert await sql.fetchval("select streams from calls") == "{}"
    [again] = await claim(sql, OTHER, "c")
    assert again.call.packets == 3
    assert again.call.streams == {"": StreamSequence(6, ((2, 4),))}
