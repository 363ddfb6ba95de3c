"""Packets come in over real sockets, many at once: stored once, counted exactly, refused in so many words."""

import asyncio
import random
from itertools import chain

from tests.acceptance.client import Client, Reply
from tests.acceptance.fixtures import Check, Connect, Serve, Watch
from tests.acceptance.history import Content, Key
from tests.acceptance.server import Server


def shares(last: int, senders: int, seed: int) -> list[list[int]]:
    """Divide 1..last among senders, shuffle each share, and repeat 20 % of it."""
    rng = random.Random(seed)
    parts = []
    for first in range(1, senders + 1):
        own = list(range(first, last + 1, senders))
        own += rng.sample(own, max(1, len(own) // 5))
        rng.shuffle(own)
        parts.append(own)
    return parts


async def send_all(client: Client, call_id: str, sequences: list[int]) -> list[Reply]:
    return [await client.deliver(call_id, sequence) for sequence in sequences]


async def test_fifty_senders_on_one_call_store_each_packet_once(
    shared: Server, connect: Connect, check_shared: Check
) -> None:
    client = connect(shared)
    replies: list[Reply] = []
    for block in range(4):  # a block of 250 in any order has fewer than the 100 gaps that a stream may have
        parts = [[250 * block + n for n in part] for part in shares(250, senders=50, seed=block)]
        replies += chain(*await asyncio.gather(*(send_all(client, "one", part) for part in parts)))
    assert sum(reply.body["duplicate"] for reply in replies) == len(replies) - 1_000
    assert max(reply.body["total_received"] for reply in replies) == 1_000
    told = await client.call("one")
    assert told["packets"] == 1_000
    assert told["duplicates"] == len(replies) - 1_000
    assert told["streams"] == {"": {"highest": 1_000, "missing": [], "missing_count": 0, "packets": 1_000}}
    await check_shared(client)


async def test_fifty_senders_on_two_hundred_calls_keep_them_apart(
    serve: Serve, connect: Connect, watch: Watch, check_calls: Check
) -> None:
    client = connect(await serve())
    calls = [f"call-{n}" for n in range(200)]
    work = [(call_id, sequence) for call_id in calls for sequence in shares(10, 1, seed=len(call_id))[0]]
    random.Random(2).shuffle(work)

    async def send_share(sender: int) -> None:
        for call_id, sequence in work[sender::50]:
            await client.deliver(call_id, sequence)

    supervisor = await watch(client)
    await asyncio.gather(*(send_share(sender) for sender in range(50)))
    for call_id in calls[::20]:
        told = await client.call(call_id)
        assert (told["packets"], told["duplicates"]) == (10, 2)
    await asyncio.gather(*(client.complete(call_id) for call_id in calls))
    await supervisor.wait_for("ARCHIVED", *calls)
    report = await check_calls(client)
    assert (report.stored, report.archived) == (2_000, 200)


async def test_gaps_late_and_duplicate_packets_are_told_logged_and_counted(
    shared: Server, connect: Connect
) -> None:
    client = connect(shared)
    first, ahead = await client.send("gaps", 1), await client.send("gaps", 5)
    late, repeat = await client.send("gaps", 3), await client.send("gaps", 5)
    assert first.body == {
        "status": "accepted",
        "call_id": "gaps",
        "stream": "",
        "sequence": 1,
        "duplicate": False,
        "late": False,
        "total_received": 1,
        "missing_sequences": [],
        "missing_count": 0,
        "message": "stored",
    }
    assert (ahead.body["missing_sequences"], ahead.body["missing_count"]) == ([[2, 4]], 3)
    assert "3 missing" in ahead.body["message"]
    assert (late.body["late"], late.body["missing_sequences"]) == (True, [[2, 2], [4, 4]])
    assert (repeat.body["duplicate"], repeat.body["total_received"]) == (True, 3)
    assert [first.status, ahead.status, late.status, repeat.status] == [202] * 4
    told = await client.call("gaps")
    assert (told["packets"], told["late"], told["duplicates"]) == (3, 1, 1)
    assert told["streams"] == {
        "": {"highest": 5, "missing": [[2, 2], [4, 4]], "missing_count": 2, "packets": 3}
    }
    warnings = [line.partition(" WARNING ")[2] for line in shared.log.splitlines() if " WARNING " in line]
    assert [line.partition(": ")[2] for line in warnings if "call gaps:" in line] == [
        "call gaps: gap in stream '', 2-4 missing before 5",
        "call gaps: late packet 3 in stream ''",
        "call gaps: duplicate packet 5 in stream ''",
    ]


async def test_each_stream_of_a_call_counts_for_itself(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    await client.send("streams", 1, stream="inbound")
    reply = await client.send("streams", 3, stream="outbound")
    assert (reply.body["missing_sequences"], reply.body["total_received"]) == ([[1, 2]], 2)
    streams = (await client.call("streams"))["streams"]
    assert streams["inbound"] == {"highest": 1, "missing": [], "missing_count": 0, "packets": 1}
    assert streams["outbound"] == {"highest": 3, "missing": [[1, 2]], "missing_count": 2, "packets": 1}


async def test_twenty_completes_at_once_make_one_transition(
    shared: Server, connect: Connect, watch: Watch, check_shared: Check
) -> None:
    client = connect(shared)
    supervisor = await watch(client)
    await client.send("completes", 1)
    replies = await asyncio.gather(*(client.complete("completes") for _ in range(20)))
    assert [reply.status for reply in replies] == [202] * 20
    statuses = [reply.body["status"] for reply in replies]
    assert (statuses.count("accepted"), statuses.count("already_completed")) == (1, 19)
    await supervisor.wait_for("ARCHIVED", "completes")
    assert [event["state"] for event in supervisor.events].count("COMPLETED") == 1
    again = await client.complete("completes")
    assert (again.status, again.body["status"], again.body["state"]) == (202, "already_completed", "ARCHIVED")
    await check_shared(client)


async def test_complete_tells_what_is_missing_and_waits_for_it(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(grace=30))
    await client.send("c", 2)
    reply = await client.complete("c", last_sequence={"": 4})
    assert (reply.status, reply.body["state"]) == (202, "COMPLETED")
    assert reply.body["missing_sequences"] == {"": [[1, 1], [3, 4]]}
    assert reply.body["missing_count"] == 3
    late = await client.send("c", 3)
    assert (late.status, late.body["late"]) == (202, True)
    assert (await client.call("c"))["packets"] == 2


async def test_complete_with_nothing_missing_does_not_wait_for_the_grace(
    serve: Serve, connect: Connect, watch: Watch, check_calls: Check
) -> None:
    client = connect(await serve(grace=600))
    supervisor = await watch(client)
    for sequence in (1, 2):
        await client.send("c", sequence)
        await client.send("c", sequence, stream="b")
    reply = await client.complete("c", last_sequence={"": 2, "b": 2})
    assert (reply.body["state"], reply.body["missing_sequences"]) == ("PROCESSING_AI", {})
    await supervisor.wait_for("ARCHIVED", "c")
    await check_calls(client)


async def test_packet_in_the_grace_is_taken_and_after_it_refused(
    serve: Serve, connect: Connect, watch: Watch, check_calls: Check
) -> None:
    client = connect(await serve(grace=1))
    supervisor = await watch(client)
    await client.send("c", 1)
    await client.complete("c")
    assert (await client.send("c", 2)).status == 202
    await supervisor.wait_for("PROCESSING_AI", "c")
    refused = await client.send("c", 3)
    assert (refused.status, refused.slug) == (409, "call-closed")
    for sequence in (1, 2):
        repeat = await client.send("c", sequence)
        assert (repeat.status, repeat.body["duplicate"]) == (202, True)
    await supervisor.wait_for("ARCHIVED", "c")
    assert (await client.send("c", 3)).slug == "call-closed"
    assert (await client.send("c", 2)).body["duplicate"] is True
    assert (await client.send("c", 2, "other")).slug == "sequence-conflict"
    await check_calls(client)


async def test_same_sequence_with_other_data_is_a_conflict_and_the_first_stays(
    shared: Server, connect: Connect, check_shared: Check
) -> None:
    client = connect(shared)
    assert (await client.send("conflict", 1, "first", at=1.0)).status == 202
    conflict = await client.send("conflict", 1, "second")
    assert (conflict.status, conflict.slug) == (409, "sequence-conflict")
    assert "second" not in str(conflict.body)
    repeat = await client.send("conflict", 1, "first", at=2.0)
    assert (repeat.status, repeat.body["duplicate"]) == (202, True)
    client.history.sent[Key("conflict", "", 1)] = {Content("first", 1.0)}
    await check_shared(client)


async def test_same_sequence_sent_at_once_with_other_data_is_stored_once(
    shared: Server, connect: Connect, check_shared: Check
) -> None:
    client = connect(shared)
    replies = await asyncio.gather(*(client.send("race", 1, f"data {n}") for n in range(20)))
    assert sorted(reply.status for reply in replies) == [202] + [409] * 19
    await check_shared(client)
