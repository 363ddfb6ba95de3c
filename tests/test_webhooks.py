"""Webhooks from the commit to the endpoint, which verifies them with the package `standardwebhooks`."""

import asyncio
from datetime import datetime, timedelta

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from callactors.processors.contract import CallRecord
from callactors.retry import Done, GiveUp, Outcome
from callactors.store.deliveries import MAX_RESULT
from callactors.store.endpoints import delete_endpoint, disable_endpoint, enable_endpoint, rotate_secret
from callactors.webhooks import WebhookEvent
from tests.scenes import Sql, done, packet, running, until, until_state
from tests.webhook_scenes import DELIVERY, NOW, answering, end_call, make_due, make_endpoint, receiving

CANARY = "canary-5b1e"
DELIVERED = "select bool_and(delivered_at is not null) from deliveries"
COUNT = "select count(*) from deliveries"


async def fail(_: CallRecord) -> Outcome:
    return GiveUp("no speech in it")


class TestMessage:
    async def test_the_package_accepts_what_is_sent_and_refuses_what_was_changed(
        self, dsn: str, sql: Sql
    ) -> None:
        async with receiving() as receiver, running(dsn) as system:
            _, secret = await make_endpoint(sql, receiver.url)
            await end_call(system)
            message = await receiver.get()
        assert message.verify(secret) == message.told
        assert message.headers["Content-Type"] == "application/json"
        changed = {
            "body": (type(message)(message.headers, message.body.replace(b"ARCHIVED", b"FAILED")), {}),
            "id": (message, {"webhook-id": "msg_0"}),
            "time": (message, {"webhook-timestamp": str(int(message.headers["webhook-timestamp"]) + 1)}),
        }
        for sent, headers in changed.values():
            with pytest.raises(WebhookVerificationError, match="No matching signature"):
                sent.verify(secret, **headers)

    async def test_an_archived_call_is_told_with_its_result_and_without_what_came(
        self, dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")

        async def transcribe(_: CallRecord) -> Outcome:
            return Done({"transcript": "hello"})

        async with receiving() as receiver, running(dsn, transcribe) as system:
            await make_endpoint(sql, receiver.url)
            await system.accept("c", packet(1, CANARY))
            await system.complete("c", NOW)
            message = await receiver.get()
            await until(sql, DELIVERED, True)
        row = await sql.fetchrow("select started_at, completed_at, version from calls")
        event = await sql.fetchrow(
            "select at from call_events where to_state = 'ARCHIVED' and kind = 'transition'"
        )
        assert row is not None
        assert event is not None
        told = message.told
        assert (told["type"], [*told]) == ("call.archived", ["type", "timestamp", "data"])
        assert _read(told["timestamp"]) == _trim(event["at"])
        started, completed = message.data.pop("started_at"), message.data.pop("completed_at")
        assert [_read(started), _read(completed)] == [_trim(row["started_at"]), _trim(row["completed_at"])]
        assert {name: value for name, value in message.data.items() if not name.endswith("_at")} == {
            "call_id": "c",
            "state": "ARCHIVED",
            "from": "PROCESSING_AI",
            "version": row["version"],
            "generation": 1,
            "attempt": 1,
            "end_reason": "api",
            "result": {"transcript": "hello"},
        }
        assert CANARY not in message.body.decode()
        assert CANARY not in caplog.text
        assert "hello" not in caplog.text
        assert [
            record
            for record in caplog.records
            if getattr(record, "call_id", "") == "c" and message.id in record.message
        ]

    async def test_a_result_that_is_long_is_told_by_its_size(self, dsn: str, sql: Sql) -> None:
        async def ramble(_: CallRecord) -> Outcome:
            return Done("x" * MAX_RESULT)

        async with receiving() as receiver, running(dsn, ramble) as system:
            await make_endpoint(sql, receiver.url)
            await end_call(system)
            data = (await receiver.get()).data
        assert "result" not in data
        assert data["result_bytes"] == MAX_RESULT + 2

    async def test_a_call_that_fails_again_is_told_again_as_of_its_generation(
        self, dsn: str, sql: Sql
    ) -> None:
        async with receiving() as receiver, running(dsn, fail) as system:
            await make_endpoint(sql, receiver.url)
            await end_call(system)
            first = await receiver.get()
            assert await system.retry("c") == 2
            second = await receiver.get()
        assert first.id != second.id
        told = [(m.told["type"], m.data["generation"], m.data["last_error"]) for m in (first, second)]
        error = {"attempt": 1, "reason": "no speech in it"}
        assert told == [("call.failed", 1, error), ("call.failed", 2, error)]

    async def test_the_first_failure_is_told_as_it_was_even_behind_the_second(
        self, dsn: str, sql: Sql
    ) -> None:
        async with running(dsn, fail) as system:
            await make_endpoint(sql, "http://127.0.0.1:9/")
            await end_call(system)
            await until_state(sql, "c", "FAILED")
            await system.retry("c")
            await until(sql, COUNT, 2)
        async with receiving() as receiver:
            await sql.execute("update webhook_endpoints set url = $1", receiver.url)
            await make_due(sql)
            async with running(dsn):
                messages = [await receiver.get(), await receiver.get()]
        assert sorted(message.data["generation"] for message in messages) == [1, 2]

    async def test_a_rotated_secret_signs_beside_the_new_one_until_its_time_is_over(
        self, dsn: str, sql: Sql
    ) -> None:
        async with receiving() as receiver, running(dsn) as system:
            endpoint, old = await make_endpoint(sql, receiver.url)
            _, new = await rotate_secret(sql, "tester", endpoint, overlap=timedelta(hours=1))
            await end_call(system, "a")
            message = await receiver.get()
            assert message.verify(old) == message.verify(new) == message.told
            await sql.execute("update webhook_endpoints set old_secret_ends_at = now()")
            await end_call(system, "b")
            message = await receiver.get()
            assert message.verify(new) == message.told
            with pytest.raises(WebhookVerificationError):
                message.verify(old)

    async def test_both_endpoints_are_told_the_same_with_their_own_signatures(
        self, dsn: str, sql: Sql
    ) -> None:
        async with receiving() as one, receiving() as other, running(dsn) as system:
            secrets = [(await make_endpoint(sql, receiver.url))[1] for receiver in (one, other)]
            await end_call(system)
            messages = [await one.get(), await other.get()]
        assert messages[0].id == messages[1].id
        assert messages[0].body == messages[1].body
        assert [message.verify(secret) for message, secret in zip(messages, secrets, strict=True)]
        with pytest.raises(WebhookVerificationError):
            messages[0].verify(secrets[1])


class TestEndpoint:
    async def test_it_is_told_of_what_it_asked_for_only(self, dsn: str, sql: Sql) -> None:
        async with receiving() as receiver:
            await make_endpoint(sql, receiver.url, WebhookEvent.FAILED)
            async with running(dsn, done) as system:
                await end_call(system, "good")
                await until_state(sql, "good", "ARCHIVED")
                await system.accept("bad", packet(1))
                await system.cancel("bad")
                message = await receiver.get()
        assert (message.data["call_id"], message.data["end_reason"]) == ("bad", "canceled")
        assert await sql.fetchval(COUNT) == 1

    async def test_one_that_is_added_while_calls_run_is_told_how_they_end(self, dsn: str, sql: Sql) -> None:
        async with receiving() as receiver, running(dsn) as system:
            await system.accept("c", packet(1))
            await end_call(system, "before")
            await until_state(sql, "before", "ARCHIVED")
            await make_endpoint(sql, receiver.url)
            await system.complete("c", NOW)
            assert (await receiver.get()).data["call_id"] == "c"
        assert await sql.fetchval(COUNT) == 1

    async def test_a_disabled_one_keeps_what_it_had_and_has_it_when_it_is_enabled(
        self, dsn: str, sql: Sql
    ) -> None:
        async with receiving(answering(500)) as receiver, receiving() as other, running(dsn) as system:
            endpoint, _ = await make_endpoint(sql, receiver.url)
            await end_call(system)
            first = await receiver.get()
            await until(sql, "select answer from deliveries", "500")
            await disable_endpoint(sql, "tester", endpoint)
            await make_due(sql)
            await make_endpoint(sql, other.url)
            await end_call(system, "later")
            assert (await other.get()).data["call_id"] == "later", "so what is due was looked for"
            receiver.answer = answering(200)
            await enable_endpoint(sql, "tester", endpoint)
            assert (await receiver.get()).id == first.id
            await until(sql, DELIVERED, True)
        had = await sql.fetch("select attempts from deliveries where endpoint_id = $1", endpoint)
        assert [row["attempts"] for row in had] == [2]

    async def test_a_deleted_one_leaves_nothing(self, dsn: str, sql: Sql) -> None:
        async with receiving() as receiver, running(dsn) as system:
            endpoint, _ = await make_endpoint(sql, receiver.url)
            await end_call(system)
            await receiver.get()
            await delete_endpoint(sql, "tester", endpoint)
            await end_call(system, "later")
            await until_state(sql, "later", "ARCHIVED")
        assert await sql.fetchval(COUNT) == 0

    async def test_what_is_done_to_it_is_in_the_audit_without_its_path(self, sql: Sql) -> None:
        endpoint, _ = await make_endpoint(sql, "https://calls.example:8443/hook/secret?token=secret")
        await rotate_secret(sql, "tester", endpoint, overlap=timedelta())
        await disable_endpoint(sql, "tester", endpoint)
        await disable_endpoint(sql, "tester", endpoint)
        await enable_endpoint(sql, "tester", endpoint)
        await delete_endpoint(sql, "tester", endpoint)
        lines = await sql.fetch("select action, detail::text from audit order by audit_id")
        actions = ["created", "secret rotated", "disabled", "enabled", "deleted"]
        assert [line["action"] for line in lines] == [f"webhook {action}" for action in actions]
        assert "calls.example:8443" in lines[0]["detail"]
        assert not [line for line in lines if "token" in line["detail"] or "whsec" in line["detail"]]


async def test_an_erased_call_has_no_deliveries_any_more(dsn: str, sql: Sql) -> None:
    async with receiving(answering(500)) as receiver, running(dsn) as system:
        await make_endpoint(sql, receiver.url)
        await end_call(system)
        await receiver.get()
        await until(sql, "select answer from deliveries", "500")
        await system.erase("c", "admin")
        assert await sql.fetch(DELIVERY, "c") == []


async def test_that_a_live_call_was_ended_by_it_is_told_and_nothing_else(dsn: str, sql: Sql) -> None:
    async with receiving() as receiver, running(dsn) as system:
        await make_endpoint(sql, receiver.url)
        await system.accept("c", packet(1, CANARY))
        await system.erase("c", "admin")
        message = await receiver.get()
        await until(sql, DELIVERED, True)
    data = message.data
    assert (message.told["type"], data["end_reason"], data["last_error"]) == (
        "call.failed",
        "canceled",
        None,
    )
    assert CANARY not in message.body.decode()


async def test_a_purged_call_takes_its_deliveries_along(dsn: str, sql: Sql) -> None:
    async with receiving() as receiver, running(dsn) as system:
        await make_endpoint(sql, receiver.url)
        await end_call(system)
        await receiver.get()
        await until(sql, DELIVERED, True)
    await sql.execute("update calls set finished_at = now() - interval '1 d'")
    async with running(dsn, retention=timedelta(hours=1)):
        await until(sql, "select count(*) from calls", 0)
    assert await sql.fetchval(COUNT) == 0


async def test_an_endpoint_that_answers_410_is_disabled_and_what_ends_later_is_not_for_it(
    dsn: str, sql: Sql
) -> None:
    async with receiving(answering(410)) as receiver, running(dsn) as system:
        endpoint, _ = await make_endpoint(sql, receiver.url)
        await end_call(system, "a")
        await until(sql, "select disabled_reason from webhook_endpoints", "it answered 410")
        await end_call(system, "b")
        await until_state(sql, "b", "ARCHIVED")
        assert await sql.fetchval(COUNT) == 1
        receiver.answer = answering(204)
        await enable_endpoint(sql, "tester", endpoint)
        await make_due(sql)
        await until(sql, DELIVERED, True)
    [first, second] = [receiver.messages.get_nowait() for _ in range(receiver.messages.qsize())]
    assert first.id == second.id


async def test_each_of_two_servers_delivers_what_the_other_does_not(dsn: str, sql: Sql) -> None:
    async with receiving() as receiver, running(dsn) as one, running(dsn, node="other") as other:
        await make_endpoint(sql, receiver.url)
        calls = [(system, f"{name}{i}") for i in range(30) for name, system in (("a", one), ("b", other))]
        await asyncio.gather(*(end_call(system, call_id) for system, call_id in calls))
        await until(sql, "select count(*) from deliveries where delivered_at is not null", 60)
        ids = [receiver.messages.get_nowait().id for _ in range(receiver.messages.qsize())]
    assert len(ids) == len(set(ids)) == 60


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _trim(at: datetime) -> datetime:
    """Return *at* without what is below a millisecond."""
    return at.replace(microsecond=at.microsecond // 1_000 * 1_000)
