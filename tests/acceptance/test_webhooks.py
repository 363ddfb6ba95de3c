"""Webhooks at the command line, and a server that delivers while it goes on."""

import re
from pathlib import Path

import pytest

from tests.acceptance.client import Client
from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import Finished, run
from tests.scenes import until
from tests.webhook_scenes import answering, receiving

MADE = re.compile(r"([0-9a-f]{12}) (whsec_[A-Za-z0-9+/]{43}=)\n")
URL = "https://calls.example/hook"
ANSWERED = "select count(*) from deliveries where answer = $1"


class Command:
    """The command `callactors webhooks` on one database."""

    def __init__(self, place: Path, dsn: str) -> None:
        self._place = place
        self._dsn = dsn

    async def __call__(self, *words: str, **settings: str | float) -> Finished:
        return await run(self._place, "webhooks", *words, dsn=self._dsn, settings=settings)

    async def make(self, *words: str) -> tuple[str, str]:
        """Make an endpoint and return its id and secret."""
        done = await self("create", *words)
        made = MADE.fullmatch(done.out)
        assert made is not None, done
        return made[1], made[2]


@pytest.fixture
def webhooks(tmp_path: Path, dsn: str) -> Command:
    return Command(tmp_path, dsn)


async def test_endpoints_are_made_listed_rotated_disabled_enabled_and_deleted(webhooks: Command) -> None:
    endpoint, secret = await webhooks.make(URL, "--event", "call.failed", "--note", "the archive")
    rotated = MADE.fullmatch((await webhooks("rotate", endpoint, "--overlap", "1h")).out)
    assert rotated is not None
    assert rotated[1] == endpoint
    assert rotated[2] != secret
    assert (await webhooks("disable", endpoint)).out == f"{endpoint} is disabled\n"
    head, line = (await webhooks("list")).out.splitlines()
    assert head.split() == ["id", "url", "events", "made", "state", "note"]
    assert line.startswith(f"{endpoint}  {URL}  call.failed  ")
    assert re.search(r"  disabled: by \S+@\S+  the archive$", line)
    assert "whsec" not in line
    assert (await webhooks("enable", endpoint)).code == 0
    assert "  good  " in (await webhooks("list")).out
    assert (await webhooks("delete", endpoint)).code == 0
    assert len((await webhooks("list")).out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        ((), 2, "ACTION"),
        (("create",), 2, "URL"),
        (("create", URL, "--event", "call.begun"), 2, "call.begun"),
        (("create", "https://me:hidden@calls.example"), 2, "without a user"),
        (("create", "http://calls.example/hook"), 2, "begin with https"),
        (("create", "https://10.0.0.1/hook"), 2, "CALLACTORS_WEBHOOK_ALLOW_PRIVATE"),
        (("rotate", "nobody"), 1, "no endpoint nobody"),
        (("disable", "nobody"), 1, "no endpoint nobody"),
        (("enable", "nobody"), 1, "no endpoint nobody"),
        (("delete", "nobody"), 1, "no endpoint nobody"),
        (("replay",), 2, "one of the arguments"),
        (("replay", "msg_1"), 1, "no delivery of msg_1"),
        (("replay", "--call", "c"), 1, "no delivery of call c"),
        (("replay", "--failed", "1h", "--endpoint", "nobody"), 1, "no endpoint nobody"),
    ],
)
async def test_what_cannot_be_done_is_told(
    webhooks: Command, words: tuple[str, ...], code: int, phrase: str
) -> None:
    done = await webhooks(*words)
    assert (done.code, done.out) == (code, "")
    assert phrase in done.error
    assert "hidden" not in done.error
    assert "Traceback" not in done.error


async def test_with_the_switch_an_endpoint_may_lie_inside(webhooks: Command) -> None:
    for url in ("https://10.0.0.1/hook", "http://calls.example/hook"):
        done = await webhooks("create", url, webhook_allow_private=1)
        assert MADE.fullmatch(done.out), done


async def end_call(client: Client, call_id: str) -> None:
    packet = {"sequence": 1, "data": "x", "timestamp": 1}
    await client.request("POST", f"/v1/call/stream/{call_id}", json=packet)
    await client.request("POST", f"/v1/call/complete/{call_id}")


async def test_what_is_not_delivered_is_shown_and_what_was_given_up_is_sent_again(
    webhooks: Command, serve: Serve, connect: Connect, sql: Sql
) -> None:
    client = connect(await serve())
    async with receiving(answering(500)) as receiver:
        endpoint, secret = await webhooks.make(receiver.url)
        await end_call(client, "c")
        failed = await receiver.get()
        assert failed.verify(secret) == failed.told
        await until(sql, ANSWERED, 1, "500")
        head, line = (await webhooks("deliveries")).out.splitlines()
        assert head.split()[:6] == ["made", "webhook-id", "endpoint", "call", "event", "attempts"]
        assert f"  {failed.id}  {endpoint}  c     call.archived  1         waits  " in line
        assert line.endswith("  500")
        await sql.execute("update deliveries set due_at = null")
        assert "  failed  " in (await webhooks("deliveries")).out
        assert failed.id in (await webhooks("replay", "--failed", "1h", "--dry-run")).out
        receiver.answer = answering(204)
        again = await webhooks("replay", "--failed", "1h", "--endpoint", endpoint)
        assert again.out == "deliveries that are sent again: 1\n"
        assert (await receiver.get()).id == failed.id
        await until(sql, ANSWERED, 1, "204")
    assert (await webhooks("replay", "--failed", "1h")).out.endswith(": 0\n")
    assert len((await webhooks("deliveries")).out.splitlines()) == 1


async def test_what_was_delivered_is_sent_again_by_its_id_and_by_its_call(
    webhooks: Command, serve: Serve, connect: Connect, sql: Sql
) -> None:
    client = connect(await serve())
    async with receiving() as receiver, receiving() as other:
        await webhooks.make(receiver.url)
        await end_call(client, "c")
        first = await receiver.get()
        await until(sql, ANSWERED, 1, "204")
        assert "  delivered  " in (await webhooks("deliveries", "--call", "c")).out
        await webhooks.make(other.url)
        for words in ((first.id,), ("--call", "c")):
            assert (await webhooks("replay", *words)).out == "deliveries that are sent again: 1\n"
            again = await receiver.get()
            assert (again.id, again.body) == (first.id, first.body)
            await until(sql, "select bool_and(delivered_at is not null) from deliveries", True)
        assert other.messages.empty(), "it was not there when the call ended"
    lines = await sql.fetch("select call_id, detail::text from audit where action = 'webhooks replayed'")
    assert [line["call_id"] for line in lines] == [None, "c"]
    assert first.id in lines[0]["detail"]
