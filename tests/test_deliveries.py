"""Deliveries of webhooks when something goes wrong: at the endpoint, on the way, here, or in the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from callactors.deliveries import AT_ONCE, Deliveries, DeliveryOptions
from callactors.facts import Change, Event, EventKind, Facts, Row
from callactors.states import CallState
from callactors.store.connection import connect
from callactors.store.flush import CallChanges, flush
from callactors.webhooks import WebhookEvent, find_fault, next_wait
from tests.provider_scenes import Talk, provide
from tests.proxy import Wire, proxy_to
from tests.scenes import Sql, running, until, until_state
from tests.storage import ME, OTHER, claim, until_true
from tests.webhook_scenes import (
    Message,
    answering,
    end_call,
    hang,
    make_due,
    make_endpoint,
    receiving,
)

WAITS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ANSWER = "select answer from deliveries"
DELIVERED = "select bool_and(delivered_at is not null) from deliveries"
QUICK = DeliveryOptions(timeout=0.3)
HOOK = "https://calls.example/hook"


@asynccontextmanager
async def delivering(dsn: str, options: DeliveryOptions = QUICK) -> AsyncIterator[Deliveries]:
    """Deliveries that run."""
    deliveries = Deliveries(dsn, options, rng=lambda: 0.0)
    run = asyncio.create_task(deliveries.run())
    try:
        yield deliveries
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        deliveries.close()


async def fill(dsn: str, sql: Sql, url: str, *call_ids: str) -> str:
    """Let calls end that an endpoint at *url* is to be told of, and return its id; nobody is told yet."""
    endpoint, _ = await make_endpoint(sql, url)
    await sql.execute("update webhook_endpoints set paused_until = 'infinity'")
    async with running(dsn) as system:
        for call_id in call_ids or ("c",):
            await end_call(system, call_id)
            await until_state(sql, call_id, "ARCHIVED")
    await sql.execute("update webhook_endpoints set paused_until = null")
    return endpoint


class TestSchedule:
    def test_it_is_the_one_that_the_specification_has_with_up_to_a_tenth_more(self) -> None:
        waits = [next_wait(attempt, None, lambda: 0.0) for attempt in range(1, 12)]
        assert waits == [*WAITS, None, None]
        late = [next_wait(attempt, None, lambda: 1.0) for attempt in range(1, 10)]
        assert late == pytest.approx([1.1 * wait for wait in WAITS])

    @pytest.mark.parametrize(("asked", "wait"), [(0.0, 5.0), (60.0, 60.0), (1e9, 86_400.0)])
    def test_retry_after_makes_it_wait_longer_up_to_a_day(self, asked: float, wait: float) -> None:
        assert next_wait(1, asked, lambda: 0.0) == wait
        assert next_wait(10, asked, lambda: 0.0) is None

    async def test_what_fails_is_tried_ten_times_under_one_id_and_then_given_up(
        self, dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with receiving(answering(500)) as receiver:
            await fill(dsn, sql, receiver.url)
            ids = set()
            async with delivering(dsn) as deliveries:
                for attempt, wait in enumerate((*WAITS, None), 1):
                    ids.add((await receiver.get()).id)
                    waits = "extract(epoch from due_at - attempted_at)::int"
                    told = (
                        f"select array[attempts, coalesce({waits}, 0)] from deliveries where answer = '500'"
                    )
                    await until(sql, told, [attempt, wait or 0])
                    await sql.execute("update deliveries set answer = null")
                    await make_due(sql)
                    deliveries.poke()
                assert deliveries.attempts == {"delivered": 0, "failed": 9, "given_up": 1, "gone": 0}
        assert len(ids) == 1
        assert await sql.fetchval("select due_at is null and delivered_at is null from deliveries")
        assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == ["ERROR"]


class TestEndpoint:
    @pytest.mark.parametrize("status", [301, 400, 404, 500])
    async def test_any_answer_but_2xx_is_a_failed_attempt_and_none_leads_elsewhere(
        self, dsn: str, sql: Sql, status: int
    ) -> None:
        async with receiving() as other, receiving(answering(status, Location=other.url)) as receiver:
            await fill(dsn, sql, receiver.url)
            async with delivering(dsn):
                await until(sql, ANSWER, str(status))
            assert other.messages.empty()
        assert await sql.fetchval("select due_at > now() and delivered_at is null from deliveries")

    @pytest.mark.parametrize("status", [429, 503])
    async def test_one_that_says_retry_after_is_asked_nothing_until_then(
        self, dsn: str, sql: Sql, status: int
    ) -> None:
        async with receiving(answering(status, Retry_After="600")) as receiver, receiving() as other:
            endpoint = await fill(dsn, sql, receiver.url, "a")
            async with running(dsn) as system:
                await until(sql, ANSWER, str(status))
                waits = "extract(epoch from paused_until - now()) between 500 and 600"
                assert await sql.fetchval(
                    f"select {waits} from webhook_endpoints where endpoint_id = $1", endpoint
                )
                assert await sql.fetchval("select due_at > now() + interval '500 s' from deliveries")
                await make_endpoint(sql, other.url)
                await end_call(system, "b")
                await other.get()
                assert receiver.messages.qsize() == 1
                receiver.answer = answering(200)
                await make_due(sql)
                await until(sql, DELIVERED, True)

    async def test_one_that_hangs_holds_up_nobody_else_and_has_its_share_only(
        self, dsn: str, sql: Sql
    ) -> None:
        calls = [f"c{i}" for i in range(AT_ONCE + 5)]
        async with receiving(hang) as slow, receiving() as quick:
            await make_endpoint(sql, quick.url)
            endpoint = await fill(dsn, sql, slow.url, *calls)
            async with delivering(dsn, DeliveryOptions()):
                for _ in calls:
                    await quick.get()
                for _ in range(AT_ONCE):
                    await slow.get()
                tried = "select count(*) from deliveries where attempts > 0 and endpoint_id = $1"
                assert await sql.fetchval(tried, endpoint) == AT_ONCE

    async def test_one_that_never_answers_has_so_long_and_no_longer(self, dsn: str, sql: Sql) -> None:
        async with receiving(hang) as receiver:
            await fill(dsn, sql, receiver.url)
            async with delivering(dsn):
                await until(sql, ANSWER, "no answer within 0.3 s")

    async def test_one_that_closes_the_connection_has_not_answered(self, dsn: str, sql: Sql) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            talk.reset()

        async with provide(script) as provider:
            await fill(dsn, sql, provider.url)
            async with delivering(dsn):
                await until(sql, f"select answer like 'the connection failed: %' from ({ANSWER}) a", True)

    async def test_one_that_nobody_is_at_is_told_without_its_address(self, dsn: str, sql: Sql) -> None:
        async with provide(lambda talk: talk.read_head()) as provider:
            url = provider.url
        await fill(dsn, sql, url)
        async with delivering(dsn):
            await until(sql, ANSWER, "no connection: Connection refused")

    async def test_what_it_says_without_end_behind_its_status_is_not_read(self, dsn: str, sql: Sql) -> None:
        has_left = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.read_head()
            talk.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                while True:
                    talk.writer.write(b"400\r\n" + b"x" * 1_024 + b"\r\n")
                    await talk.writer.drain()
            finally:
                has_left.set()

        async with provide(script) as provider:
            await fill(dsn, sql, provider.url)
            async with delivering(dsn):
                await until(sql, DELIVERED, True)
                await has_left.wait()

    async def test_headers_without_end_are_no_answer(self, dsn: str, sql: Sql) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            talk.writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                talk.writer.write(b"X: " + b"x" * 65_536 + b"\r\n")
                await talk.writer.drain()

        async with provide(script) as provider:
            await fill(dsn, sql, provider.url)
            async with delivering(dsn):
                await until(sql, "select answer is not null and delivered_at is null from deliveries", True)

    async def test_a_name_that_leads_inside_is_not_connected_to(self, dsn: str, sql: Sql) -> None:
        await fill(dsn, sql, "https://[::ffff:127.0.0.1]:9/hook")
        async with delivering(dsn):
            await until(sql, f"select answer like 'it has a private address: %' from ({ANSWER}) a", True)

    @pytest.mark.parametrize("wrong", ["url = 'http://127.0.0.1:99999/'", "secret = 'whsec_short'"])
    async def test_one_that_was_spoilt_by_hand_harms_nobody_else(
        self, dsn: str, sql: Sql, wrong: str
    ) -> None:
        async with receiving() as receiver:
            endpoint = await fill(dsn, sql, HOOK)
            await sql.execute(f"update webhook_endpoints set {wrong}")
            async with running(dsn) as system:
                told = f"{ANSWER} where endpoint_id = $1"
                await until(sql, f"select ({told}) is not null", True, endpoint)
                await make_endpoint(sql, receiver.url)
                await end_call(system, "later")
                assert (await receiver.get()).data["call_id"] == "later"

    async def test_http_to_elsewhere_is_not_spoken_unless_it_is_allowed(self, dsn: str, sql: Sql) -> None:
        await fill(dsn, sql, "http://10.255.255.1/hook")
        async with delivering(dsn):
            await until(sql, f"select answer like 'it must begin with https%' from ({ANSWER}) a", True)

    @pytest.mark.parametrize(
        "url",
        [
            "calls.example/hook",
            "ftp://calls.example/hook",
            "https://user@calls.example/hook",
            "https://user:secret@calls.example/hook",
            "https://calls.example/hook#part",
            "https://calls.example/a hook",
            "https://calls.example:99999/hook",
            "https:///hook",
            "https://[::1/hook",
        ],
    )
    def test_what_is_no_url_of_an_endpoint_is_found(self, url: str) -> None:
        assert "write a URL" in str(find_fault(url, is_private_allowed=True))

    @pytest.mark.parametrize(
        ("url", "is_good"),
        [
            (HOOK, True),
            ("http://localhost:8/", True),
            ("http://[::1]", True),
            ("http://calls.example", False),
        ],
    )
    def test_without_tls_only_this_machine_is_told(self, url: str, is_good: bool) -> None:
        assert (find_fault(url, is_private_allowed=False) is None) == is_good
        assert find_fault(url, is_private_allowed=True) is None


async def test_a_crash_between_answer_and_commit_delivers_again_under_the_same_id(dsn: str, sql: Sql) -> None:
    async with proxy_to(dsn) as proxy:

        async def answer(_: Message) -> web.StreamResponse:
            proxy.wire = Wire.BLACK_HOLE
            return web.Response()

        async with receiving(answer) as receiver:
            await fill(dsn, sql, receiver.url)
            async with delivering(proxy.dsn):
                first = await receiver.get()
                await proxy.dropped.wait()
            assert not await sql.fetchval(DELIVERED)
            assert await sql.fetchval("select due_at > now() from deliveries"), "it is leased"
            receiver.answer = answering(200)
            await make_due(sql)
            async with delivering(dsn):
                second = await receiver.get()
                await until(sql, DELIVERED, True)
    assert first.id == second.id
    assert first.body == second.body
    assert await sql.fetchval("select attempts from deliveries") == 2


async def test_a_stop_waits_for_no_endpoint_and_the_next_server_delivers(dsn: str, sql: Sql) -> None:
    async with receiving(hang) as receiver:
        async with running(dsn) as system:
            await make_endpoint(sql, receiver.url)
            await end_call(system)
            first = await receiver.get()
        receiver.answer = answering(200)
        async with running(dsn):
            second = await receiver.get()
            await until(sql, DELIVERED, True)
    assert first.id == second.id


async def test_what_is_leased_is_left_to_who_has_it(dsn: str, sql: Sql) -> None:
    async with receiving(hang) as receiver, receiving() as other:
        await fill(dsn, sql, receiver.url)
        async with delivering(dsn, DeliveryOptions()):
            await receiver.get()
            await make_endpoint(sql, other.url)
            async with running(dsn) as system:
                await end_call(system, "later")
                await other.get()
                assert receiver.messages.qsize() == 1, "which is of the later call"


async def test_an_answer_that_comes_behind_the_lease_still_counts(dsn: str, sql: Sql) -> None:
    is_asked = asyncio.Event()

    async def answer(_: Message) -> web.StreamResponse:
        await is_asked.wait()
        return web.Response()

    async with receiving(answer) as receiver:
        await fill(dsn, sql, receiver.url)
        async with delivering(dsn, DeliveryOptions()):
            await receiver.get()
            await sql.execute("update deliveries set attempts = attempts + 1")
            is_asked.set()
            await until(sql, DELIVERED, True)


async def test_a_database_that_was_away_is_told_what_came_of_attempts(dsn: str, sql: Sql) -> None:
    async with proxy_to(dsn) as proxy, receiving() as receiver:
        await fill(dsn, sql, receiver.url)
        async with delivering(proxy.dsn) as deliveries:
            await receiver.get()
            proxy.cut()
            await until(sql, DELIVERED, True)
            await until_true(lambda: deliveries.attempts["delivered"] == 1)


class TestCommit:
    def failed(self) -> Change:
        facts = Facts(state=CallState.FAILED, version=2)
        event = Event(2, EventKind.TRANSITION, CallState.PROCESSING_AI, CallState.FAILED, 0, {})
        return Change(row=Row(facts, {}, packets=0, late=0, duplicates=0), events=(event,))

    async def flush(self, sql: Sql, owner: str = ME) -> None:
        [(number, epoch)] = await sql.fetch("select call_no, epoch from calls")
        await flush(sql, owner, [CallChanges(number, "c", epoch, [self.failed()])])

    @pytest.fixture
    async def own(self, dsn: str) -> AsyncIterator[Sql]:
        connection = await connect(dsn)
        await make_endpoint(connection, HOOK)
        await claim(connection, ME, "c")
        yield connection
        await connection.close()

    async def test_one_that_is_repeated_since_its_outcome_is_unknown_makes_one_delivery(
        self, own: Sql
    ) -> None:
        await make_endpoint(own, HOOK)
        await self.flush(own)
        before = await own.fetch("select * from deliveries")
        await make_endpoint(own, HOOK)
        await self.flush(own)
        assert await own.fetch("select * from deliveries") == before
        assert len(before) == 2

    async def test_each_transition_in_it_is_one_message_to_all_endpoints(self, own: Sql) -> None:
        for _ in range(4):
            await make_endpoint(own, HOOK)
        claimed = await claim(own, ME, "c", "d", "e")
        batch = [CallChanges(one.call_no, one.call.call_id, one.epoch, [self.failed()]) for one in claimed]
        assert not (await flush(own, ME, batch)).fenced
        told = "count(*), count(distinct message_id), count(distinct endpoint_id)"
        found = await own.fetch(f"select call_no, {told} from deliveries group by 1 order by 1")
        assert [tuple(row) for row in found] == [(one.call_no, 5, 1, 5) for one in claimed]
        assert await own.fetchval("select count(distinct message_id) from deliveries") == 3

    async def test_one_that_is_rolled_back_leaves_no_delivery(self, own: Sql) -> None:
        transaction = own.transaction()
        await transaction.start()
        await self.flush(own)
        assert await own.fetchval("select count(*) from deliveries") == 1
        await transaction.rollback()
        assert await own.fetchval("select count(*) from deliveries") == 0
        assert await own.fetchval("select state from calls") == "IN_PROGRESS"

    async def test_one_that_is_fenced_leaves_no_delivery(self, own: Sql) -> None:
        await self.flush(own, owner=OTHER)
        assert await own.fetchval("select count(*) from deliveries") == 0

    async def test_an_endpoint_that_is_being_changed_or_deleted_makes_no_commit_wait(
        self, dsn: str, own: Sql, sql: Sql
    ) -> None:
        async with sql.transaction():
            await sql.execute("delete from webhook_endpoints")
            await own.execute("set lock_timeout = '1ms'")
            await self.flush(own)
        assert await own.fetchval("select count(*) from deliveries") == 1
        async with receiving() as receiver:
            await make_endpoint(sql, receiver.url, WebhookEvent.ARCHIVED)
            async with running(dsn) as system:
                await end_call(system, "later")
                await receiver.get()
                await until(sql, "select count(*) from deliveries where delivered_at is not null", 1)
