"""Spans: from the caller's `traceparent` through the actor to the attempt, and none if nobody takes them."""

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest_aiohttp.plugin import AiohttpClient

from callactors import tracing
from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome, Retry
from tests.scenes import Sql, make_app, until_state

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
STREAM, COMPLETE = "/v1/call/stream/c", "/v1/call/complete/c"
CANARY = "kanarienvogel"
PACKET = {"sequence": 1, "data": CANARY, "timestamp": 1.0}


class Spans:
    """What has ended so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """An SDK takes spans; outside of tests it can be set up only once."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(tracing, "_tracer", lambda: provider.get_tracer("callactors"))
    return Spans(exporter)


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


async def second_try(call: CallRecord) -> Outcome:
    return Done() if call.attempt > 1 else Retry("not yet")


async def test_a_packet_is_followed_from_the_caller_to_the_commit(
    dsn: str, aiohttp_client: AiohttpClient, spans: Spans
) -> None:
    client = await aiohttp_client(make_app(dsn))
    assert (await client.post(STREAM, json=PACKET, headers=HEADERS)).status == 202
    request, store = spans.one("POST /v1/call/stream/{call_id}"), spans.one("store")
    assert parent_of(request) == CALLER
    assert parent_of(store) == id_of(request)
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.kind is trace.SpanKind.SERVER
    assert request.attributes == {
        "http.route": "POST /v1/call/stream/{call_id}",
        "callactors.call_id": "c",
        "http.response.status_code": 202,
    }
    assert store.attributes == {"callactors.call_id": "c"}


async def test_what_follows_from_a_request_and_each_attempt_stand_below_it(
    dsn: str, aiohttp_client: AiohttpClient, spans: Spans, sql: Sql
) -> None:
    client = await aiohttp_client(make_app(dsn, second_try))
    await client.post(STREAM, json=PACKET)
    await client.post(COMPLETE, json={"last_sequence": {"": 1}}, headers=HEADERS)
    await until_state(sql, "c", "ARCHIVED")
    await client.close()
    (store,) = [span for span in spans.named("store") if f"{span.context.trace_id:032x}" == TRACE]
    attempts = spans.named("attempt")
    assert [span.attributes for span in attempts] == [
        {
            "callactors.call_id": "c",
            "callactors.generation": 1,
            "callactors.attempt": number,
            "callactors.outcome": outcome,
        }
        for number, outcome in ((1, "Retry"), (2, "Done"))
    ]
    followed = [*attempts, spans.one("COMPLETED -> PROCESSING_AI"), spans.one("PROCESSING_AI -> ARCHIVED")]
    assert {parent_of(span) for span in followed} == {id_of(store)}


async def test_a_refusal_is_an_error_of_its_span(
    dsn: str, aiohttp_client: AiohttpClient, spans: Spans
) -> None:
    client = await aiohttp_client(make_app(dsn))
    assert (await client.post(COMPLETE)).status == 404
    assert spans.one("store").status.status_code is trace.StatusCode.ERROR
    told = spans.one("POST /v1/call/complete/{call_id}").attributes
    assert told is not None
    assert told["http.response.status_code"] == 404


async def test_spans_tell_no_packet_data(dsn: str, aiohttp_client: AiohttpClient, spans: Spans) -> None:
    client = await aiohttp_client(make_app(dsn))
    for body in (PACKET, {**PACKET, "data": f"another {CANARY}"}, {**PACKET, "data": [CANARY]}):
        await client.post(STREAM, json=body)
    assert len(spans.all) == 5
    assert not [span for span in spans.all if CANARY in span.to_json()]


async def test_where_nobody_takes_spans_none_is_made(
    dsn: str, aiohttp_client: AiohttpClient, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tracing, "_tracer")
    assert not tracing.is_on()
    client = await aiohttp_client(make_app(dsn))
    await client.post(STREAM, json=PACKET, headers=HEADERS)
    await client.post(COMPLETE, json={"last_sequence": {"": 1}}, headers=HEADERS)
    await until_state(sql, "c", "ARCHIVED")


def test_without_the_extra_the_server_does_without(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError")
    code = "import callactors.serve\nfrom callactors import tracing\nprint(tracing.is_on())"
    run = [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{code}"]
    assert subprocess.check_output(run, text=True) == "False\n"
