"""`/metrics`: every number is what happened, none names a call, and the docs name those that there are."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from pytest_aiohttp.plugin import AiohttpClient

from callactors.actors.registry import RegistryLimits
from callactors.cluster import NatsOptions, NatsRouter
from callactors.packets import CompleteRequest
from callactors.processors.contract import CallRecord
from callactors.processors.gate import GateLimits
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.web.keys import SYSTEM
from callactors.web.metrics import make_registry
from callactors.web.problems import PROBLEM_COUNTS
from tests.media_scenes import closed, media, start, streaming
from tests.proxy import Wire, proxy_to
from tests.scenes import COMPLETE, Sql, make_app, packet, until_state
from tests.storage import until_true
from tests.webhook_scenes import answering, end_call, make_endpoint, receiving

Client: TypeAlias = "TestClient[web.Request, web.Application]"

DOCS = Path(__file__).resolve().parent.parent / "docs"
STREAM = "/v1/call/stream/{call_id}"
FUNCTIONS = {"histogram_quantile", "min_over_time", "label_values"}
NOW = CompleteRequest(last_sequence={"": 1})


def sent(sequence: int, **fields: Any) -> dict[str, Any]:
    return {"sequence": sequence, "data": "x", "timestamp": 1, **fields}


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


async def scrape(client: Client) -> dict[str, float]:
    """What is told, by name and labels as they stand there."""
    response = await client.get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = await response.text()
    assert len([*text_string_to_metric_families(text)]) > 30
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def told(samples: Mapping[str, float], name: str) -> dict[str, float]:
    """What is not 0 of the metric *name*, by label values."""
    found = {key: value for key, value in samples.items() if key.partition("{")[0] == name and value}
    return {"/".join(re.findall(r'"(.*?)"', key)): value for key, value in found.items()}


async def test_packets_are_told_by_what_became_of_them_whichever_way_they_came(client: Client) -> None:
    path = "/v1/call/stream/c"
    for sequence in (1, 5, 5, 3):  # a gap, a duplicate, a late one
        await client.post(path, json=sent(sequence))
    await client.post(path, json=sent(5, data="another"))
    await client.post(path, data=b"{", headers={"Content-Type": "application/json"})
    lines = "\n".join(json.dumps(sent(sequence)) for sequence in (6, 7, 7, -1))
    await client.post(path, data=lines, headers={"Content-Type": "application/x-ndjson"})
    async with client.ws_connect(path) as ws:
        for sequence in (8, -1, 8):
            await ws.send_json(sent(sequence))
        while (await ws.receive_json()) != {"type": "ack", "frames": 3}:
            pass
    samples = await scrape(client)
    assert told(samples, "callactors_packets_total") == {"accepted": 6, "duplicate": 3}
    assert told(samples, "callactors_packets_late_total") == {"": 1}
    assert told(samples, "callactors_packet_gaps_total") == {"": 1}
    assert told(samples, "callactors_problems_total") == {
        f"sequence-conflict/{STREAM}": 1,
        f"invalid-json/{STREAM}": 1,
        f"validation/{STREAM}": 2,
    }
    assert told(samples, "callactors_ack_seconds_count") == {"": 9}
    assert samples["callactors_flush_items_sum"] >= 10
    assert samples["callactors_flush_seconds_count"] == samples["callactors_flush_items_count"] > 3


async def test_refusals_are_told_of_routes_and_not_of_paths(client: Client) -> None:
    for path in ("/v1/call/a", "/v1/call/b", "/v1/calls?limit=0", "/nowhere", "/v1/nowhere/else"):
        await client.get(path)
    async with streaming(client, start("c"), *media(2)):
        await until_true(lambda: client.app[SYSTEM].journal.packets == 2)
    await client.app[SYSTEM].cancel("c")
    async with streaming(client, start("c", "other")) as ws:
        await closed(ws)
    assert told(await scrape(client), "callactors_problems_total") == {
        "unknown-call//v1/call/{call_id}": 2,
        "validation//v1/calls": 1,
        "not-found//{path}": 2,
        "call-closed//v1/media": 2,  # the stream, and the packet of its start
    }


async def test_attempts_are_told_by_their_outcome_and_the_gate_by_its_state(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    is_asked, answer = asyncio.Event(), asyncio.Event()

    async def provider(call: CallRecord) -> Outcome:
        if call.call_id == "good":
            return Done()
        if call.call_id == "bad":
            return GiveUp("no") if call.attempt == 2 else Retry("not yet")
        is_asked.set()
        await answer.wait()
        return Retry("never")

    limits, policy = GateLimits(attempts=1, failures=1, pause=60.0), RetryPolicy(initial=0.0)
    client = await aiohttp_client(make_app(dsn, provider, gate=limits, policy=policy))
    system = client.app[SYSTEM]
    for call_id in ("good", "slow", "waits"):
        await system.accept(call_id, packet(1))
        await system.complete(call_id, NOW)
    await until_state(sql, "good", "ARCHIVED")
    await is_asked.wait()
    samples = await scrape(client)
    assert told(samples, "callactors_attempt_seconds_count") == {"done": 1}
    assert (
        told(samples, "callactors_attempts_running")
        == told(samples, "callactors_attempts_waiting")
        == {"": 1}
    )
    assert told(samples, "callactors_ai_step") == {"open": 1}
    await system.cancel("waits")
    await system.cancel("slow")
    await system.accept("bad", packet(1))
    await system.complete("bad", NOW)
    await until_true(lambda: system.gate.state == "closed")
    samples = await scrape(client)
    assert told(samples, "callactors_attempt_seconds_count") == {"done": 1, "canceled": 1, "retry": 1}
    assert told(samples, "callactors_ai_step") == {"closed": 1}


async def test_actors_are_told_that_come_go_and_lose_their_call(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(make_app(dsn, registry=RegistryLimits(resident=1)))
    system = client.app[SYSTEM]
    for call_id in ("first", "second"):
        await system.accept(call_id, packet(1))
    await until_true(lambda: system.resident == 1)
    await sql.execute("update calls set owner = 'other/1', epoch = epoch + 1 where call_id = 'second'")
    await system.accept("second", packet(2))  # its actor finds that it is fenced, and claims the call anew
    samples = await scrape(client)
    assert told(samples, "callactors_actors") == {"": 1}
    assert told(samples, "callactors_actor_activations_total") == {"": 2}
    assert told(samples, "callactors_actor_passivations_total") == {"": 1}
    assert told(samples, "callactors_fenced_total") == {"": 1}


async def test_supervisors_and_the_loop_are_told(client: Client) -> None:
    system = client.app[SYSTEM]
    async with client.ws_connect("/ws/supervisor"):
        system.feed.cut_off = 3
        samples = await scrape(client)
    assert told(samples, "callactors_supervisors") == {"": 1}
    assert told(samples, "callactors_supervisors_cut_off_total") == {"": 3}
    await until_true(lambda: system.loop_lag.seconds.sum > 0)
    assert told(await scrape(client), "callactors_loop_lag_seconds_sum")


async def test_what_became_of_webhooks_and_what_waits_is_told(client: Client, sql: Sql) -> None:
    deliveries = client.app[SYSTEM].deliveries
    async with receiving() as receiver, receiving(answering(500)) as other:
        for endpoint in (receiver, other):
            await make_endpoint(sql, endpoint.url)
        await end_call(client.app[SYSTEM])
        await until_true(lambda: sum(deliveries.attempts.values()) == 2)
        samples = await scrape(client)
        assert told(samples, "callactors_webhook_attempts_total") == {"delivered": 1, "failed": 1}
        deliveries._backlog_at -= 60
        await until_true(lambda: deliveries.backlog.pending == 1)
        await sql.execute("update webhook_endpoints set paused_until = 'infinity'")
        await sql.execute("update deliveries set due_at = now() - interval '1 h' where due_at is not null")
        deliveries._backlog_at -= 60
        await until_true(lambda: deliveries.backlog.oldest > 0)
        samples = await scrape(client)
        assert told(samples, "callactors_webhooks_pending") == {"": 1}
        assert samples["callactors_webhooks_oldest_seconds"] >= 3_600


async def test_events_that_come_late_are_told(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    assert told(await scrape(client), "callactors_events_late") == {}
    async with sql.transaction():
        await sql.execute("select pg_current_xact_id()")
        await system.accept("c", packet(1))
        await until_true(lambda: system.feed.trouble is not None)
        samples = await scrape(client)
    assert told(samples, "callactors_events_late") == {"": 1}
    assert samples["callactors_feed_lag_seconds"] > 1


async def test_calls_are_told_by_state_and_counted_seldom(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    for call_id in ("live", "ended"):
        await system.accept(call_id, packet(1))
    await system.complete("ended", COMPLETE)
    await until_state(sql, "ended", "ARCHIVED")
    for _ in range(2):
        samples = await scrape(client)
        assert told(samples, "callactors_calls") == {"IN_PROGRESS": 1}
        assert told(samples, "callactors_calls_ended") == {"ARCHIVED": 1}
        await system.accept("more", packet(1))


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_a_scrape_needs_no_database(dsn: str, aiohttp_client: AiohttpClient, how: str) -> None:
    async with proxy_to(dsn) as proxy:
        client = await aiohttp_client(make_app(proxy.dsn))
        system = client.app[SYSTEM]
        await system.accept("c", packet(1))
        if how == "refused":
            proxy.refuse()
        else:
            proxy.wire = Wire.BLACK_HOLE
        stored = system.accept("c", packet(2))
        samples = await scrape(client)
        assert not {name for name in samples if name.startswith("callactors_calls")}
        assert told(samples, "callactors_journal_items") == {"": 1}
        assert samples["callactors_storage_lag_seconds"] > 0 < samples["callactors_journal_bytes"]
        proxy.refuse()
        proxy.wire = Wire.PASS
        await proxy.listen()
        await stored
        assert told(await scrape(client), "callactors_calls") == {"IN_PROGRESS": 1}
        await client.close()  # while there is a database to write to


async def test_no_series_comes_with_a_call_a_stream_or_a_key(client: Client) -> None:
    async def call(number: int) -> None:
        path = f"/v1/call/stream/call-{number}"
        key = {"Authorization": f"Bearer key-{number}"}
        for headers in ({}, key):
            await client.post(path, json=sent(1, stream=f"stream-{number}"), headers=headers)
            await client.get(f"/v1/call/nobody-{number}", headers=headers)

    await call(0)
    before = await scrape(client)
    for number in range(1, 10):
        await call(number)
    assert (await scrape(client)).keys() == before.keys()


async def test_systems_in_one_process_count_for_themselves(
    dsn: str, client: Client, aiohttp_client: AiohttpClient
) -> None:
    other = await aiohttp_client(make_app(dsn, node="other"))
    await client.post("/v1/call/stream/c", json=sent(1))
    assert told(await scrape(client), "callactors_packets_total") == {"accepted": 1}
    assert told(await scrape(other), "callactors_packets_total") == {}
    assert not [family for family in REGISTRY.collect() if family.name.startswith("callactors")]


def families(client: Client) -> set[tuple[str, str, str]]:
    """Name, type and labels of each metric, as docs/metrics.md has them."""
    found = set()
    for family in make_registry(client.app[SYSTEM], client.app[PROBLEM_COUNTS]).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        found.add((name, family.type, ", ".join(f"`{label}`" for label in sorted(labels))))
    return found


@pytest.fixture
async def alone(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    """A server of a cluster that reaches no other."""
    router = NatsRouter(NatsOptions(servers=["nats://127.0.0.1:1"]))
    return await aiohttp_client(make_app(dsn, router=router))


async def test_a_server_of_a_cluster_tells_whether_it_reaches_the_others(alone: Client) -> None:
    await alone.post(STREAM.format(call_id="c"), json=sent(1))
    samples = await scrape(alone)
    assert samples["callactors_cluster_joined"] == 0
    assert told(samples, "callactors_routed_total") == {"claimed": 1}
    assert (await (await alone.get("/ready")).json())["cluster"] == "alone"


async def test_every_metric_is_documented_as_it_is(alone: Client) -> None:
    await alone.get("/nowhere")
    await scrape(alone)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| ", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert set(rows) == families(alone)
    assert len(rows) == len(set(rows))


def expressions() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query."""
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    for variable in dashboard["templating"]["list"]:
        yield variable["name"], variable.get("definition", "")
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "description"}
            yield rule["alert"], rule["expr"]


async def test_dashboard_and_alerts_name_only_what_is_told(alone: Client) -> None:
    await alone.get("/nowhere")
    names = {name.partition("{")[0] for name in await scrape(alone)} | {"up"}
    queries = [*expressions()]
    assert len(queries) > 40
    for place, query in queries:
        words = re.findall(r"[a-z]+(?:_[a-z]+)+", re.sub(r"\{.*?\}|\[.*?\]|\(instance\)", "", query))
        assert set(words) - FUNCTIONS <= names, (place, query)


async def test_what_is_told_is_in_the_dashboard(alone: Client) -> None:
    queries = (DOCS / "grafana.json").read_text()
    names = {name.removesuffix("_total") for name, _, _ in families(alone) if name.startswith("callactors")}
    assert {name for name in names if name not in queries} == set()
