"""Erasing calls of real servers: killed in the middle, two of them, and a sender that does not stop."""

import asyncio
import json
from typing import Any

import asyncpg

from tests.acceptance.client import Client
from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.history import Sql
from tests.acceptance.test_crash import wait_for_attempt
from tests.acceptance.waiting import eventually

LINES = 1_500
HOLES = """
select count(*) from (
    select from call_events group by call_no having max(version) <> count(*)
) c
"""


async def until(sql: Sql, claim: str) -> None:
    await eventually(lambda: sql.fetchval(f"select {claim}"))


async def stream(client: Client, call_id: str, sequences: range) -> Any:
    lines = [json.dumps({"sequence": n, "data": "x", "timestamp": 1.0}) for n in sequences]
    headers = {"Content-Type": "application/x-ndjson"}
    return await client.request("POST", f"/v1/call/stream/{call_id}", data="\n".join(lines), headers=headers)


async def test_a_server_killed_in_the_middle_leaves_the_rest_to_the_next(
    dsn: str, serve: Serve, connect: Connect, sql: Sql
) -> None:
    """The middle is where it cannot go on: another session holds the last packets."""
    server = await serve()
    client = connect(server)
    assert (await stream(client, "c", range(1, LINES + 1))).status == 202
    other = await asyncpg.connect(dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(f"select from packets where sequence > {LINES - 200} for update")
    erased = await client.request("DELETE", "/v1/call/c")
    assert (erased.status, erased.body["status"]) == (202, "erasing")
    await until(sql, "(select count(*) from packets) = 200")
    await server.kill()
    await transaction.rollback()
    await other.close()
    assert await sql.fetchval("select count(*) from packets") == 200
    await server.start()
    again = await client.send("c", 1)
    assert (again.status, again.slug) == (410, "call-erased")
    await until(sql, "wake_at is null from calls")
    assert await sql.fetchval("select count(*) from packets") == 0
    again = await client.request("DELETE", "/v1/call/c")
    assert (again.status, again.body) == (202, {**erased.body, "status": "erased"})


async def test_a_server_that_owns_nothing_erases_what_the_other_works_on(
    serve: Serve, connect: Connect, sql: Sql
) -> None:
    owner = await serve(node="owner", flaky_latency_min=60, flaky_latency_max=60)
    other = await serve(node="other")
    owners, others = connect(owner), connect(other)
    await owners.send("live", 1)
    await owners.send("busy", 1)
    await owners.complete("busy")
    await wait_for_attempt(sql, "busy", "started 1")
    for call_id in ("live", "busy"):
        assert (await others.request("DELETE", f"/v1/call/{call_id}")).status == 202
        for client in (owners, others):
            assert (await client.send(call_id, 2)).slug == "call-erased"
            assert (await client.complete(call_id)).slug == "call-erased"
            assert (await client.request("GET", f"/v1/call/{call_id}")).slug == "call-erased"
    await until(sql, "bool_and(wake_at is null) from calls")
    assert await sql.fetchval("select count(*) from packets") == 0


async def test_senders_flat_out_on_two_servers_meet_the_erasure_and_nothing_is_left(
    serve: Serve, connect: Connect, sql: Sql
) -> None:
    clients = [connect(await serve(node=f"node{n}")) for n in range(2)]
    is_erased = False
    found: set[tuple[bool, int]] = set()

    async def send(client: Client, call_id: str, stream: str) -> None:
        sequence, is_after = 0, False
        while not is_after:
            sequence, is_after = sequence + 1, is_erased
            reply = await client.request(
                "POST",
                f"/v1/call/stream/{call_id}",
                json={"sequence": sequence, "data": "x", "timestamp": 1.0, "stream": stream},
            )
            assert reply.status in (202, 410) or reply.slug == "fenced", reply
            found.add((is_after, reply.status))

    senders = [asyncio.create_task(send(clients[n % 2], f"c{n % 4}", f"s{n}")) for n in range(16)]
    await until(sql, "(select count(*) from packets) > 300")
    replies = await asyncio.gather(*(clients[n % 2].request("DELETE", f"/v1/call/c{n}") for n in range(4)))
    is_erased = True
    await asyncio.gather(*senders)
    assert {reply.status for reply in replies} == {202}
    assert {status for is_after, status in found if is_after} == {410}
    await until(sql, "count(*) = 4 and bool_and(wake_at is null) from calls where erased_at is not null")
    assert await sql.fetchval("select count(*) from packets") == 0
    assert await sql.fetchval(HOLES) == 0
