"""Every queue has a limit and an answer; calls that leave memory, or change their server, lose nothing."""

import asyncio
import random

from tests.acceptance.client import Client
from tests.acceptance.fixtures import Check, Connect, Serve
from tests.acceptance.waiting import eventually

CALLS = [f"call-{n}" for n in range(12)]


async def wait_for_ends(client: Client) -> None:
    async def have_ended() -> bool:
        states = [(await client.call(call_id))["state"] for call_id in CALLS]
        return all(state in ("ARCHIVED", "FAILED") for state in states)

    await eventually(have_ended)


async def test_call_with_a_full_mailbox_is_answered_429_and_takes_the_rest_later(
    serve: Serve, connect: Connect, check_calls: Check
) -> None:
    client = connect(await serve(mailbox_limit=10))
    replies = await asyncio.gather(*(client.send("c", sequence) for sequence in range(1, 201)))
    assert {reply.status for reply in replies} == {202, 429}
    assert client.refusals.keys() == {"call-backpressure"}
    assert (await client.complete("other")).slug == "unknown-call"
    await asyncio.gather(*(client.deliver("c", sequence) for sequence in range(1, 201)))
    assert (await client.call("c"))["packets"] == 200
    await check_calls(client)


async def test_more_calls_than_fit_into_memory_are_answered_503_or_take_turns(
    serve: Serve, connect: Connect, check_calls: Check
) -> None:
    client = connect(await serve(max_resident=5))
    for sequence in (1, 2):
        await asyncio.gather(*(client.deliver(call_id, sequence) for call_id in CALLS))
    await asyncio.gather(*(client.finish(call_id) for call_id in CALLS))
    assert client.refusals.keys() <= {"overloaded"}
    await wait_for_ends(client)
    await check_calls(client)


async def test_call_that_leaves_memory_again_and_again_keeps_its_counts_and_ends(
    serve: Serve, connect: Connect, check_calls: Check
) -> None:
    client = connect(await serve(idle_timeout=0.05, grace=0.2, retry_initial=0.1, flaky_failure_rate=0.3))

    async def make_call(call_id: str) -> None:
        rng = random.Random(call_id)
        sequences = [*range(1, 8), *rng.sample(range(1, 8), 3)]
        rng.shuffle(sequences)
        for sequence in sequences:
            await client.deliver(call_id, sequence)
            await asyncio.sleep(rng.choice((0, 0, 0.02, 0.1)))  # now and then long enough to be forgotten
        told = await client.call(call_id)
        assert (told["packets"], told["duplicates"]) == (7, 3)
        await client.finish(call_id)

    await asyncio.gather(*map(make_call, CALLS))
    await wait_for_ends(client)
    assert not client.refusals
    await check_calls(client)


async def test_two_servers_on_one_database_take_any_packet_of_any_call(
    serve: Serve, connect: Connect, check_calls: Check
) -> None:
    first, second = connect(await serve(node="first")), connect(await serve(node="second"))
    second.history = first.history
    rng = random.Random(1)

    async def make_call(call_id: str) -> None:
        for sequence in range(1, 11):
            await rng.choice((first, second)).deliver(call_id, sequence)
        await rng.choice((first, second)).finish(call_id, last_sequence={"": 10})

    await asyncio.gather(*map(make_call, CALLS))
    await wait_for_ends(first)
    assert [await first.call(call_id) for call_id in CALLS] == [
        await second.call(call_id) for call_id in CALLS
    ]
    await check_calls(first)
