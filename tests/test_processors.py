"""What every processor keeps to, whichever it is."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import pytest

from callactors.errors import StorageUnavailable, WrongSettings
from callactors.processors.attempt import run_attempt
from callactors.processors.choice import open_processor
from callactors.processors.contract import CallRecord, Processor
from callactors.processors.flaky import FlakyProcessor
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.settings import Settings
from tests.provider_scenes import Request, Talk, answering, make_call, make_packets, provide

FORMAT = {"media_format": {"encoding": "audio/x-mulaw", "sample_rate": 8_000}}


async def count_packets(call: CallRecord) -> Outcome:
    """A processor of one's own, which the settings name."""
    sequences = [packet.sequence async for packet in call.packets()]
    return Done({"transcript": f"{len(sequences)} packets"})


class Greeter:
    """A processor of one's own that is a class."""

    closed: ClassVar[list[Processor]] = []

    async def __call__(self, call: CallRecord) -> Outcome:
        return Done({"transcript": f"hello {call.call_id}"})

    async def close(self) -> None:
        self.closed.append(self)


def not_async(call: CallRecord) -> Outcome:
    return Done(call.call_id)


async def answer(talk: Talk) -> Request:
    request = await talk.read_request()
    talk.answer(200, {"transcript": "hello", "text": "hello"})
    return request


PROCESSORS: dict[str, dict[str, Any]] = {
    "flaky": {"flaky_latency_max": 0, "flaky_latency_min": 0, "flaky_failure_rate": 0.5, "flaky_seed": 1},
    "json": {"processor": "http", "http_form": "json"},
    "signed": {"processor": "http", "http_secret": "whsec_" + "QUJD" * 8},
    "transcription": {"processor": "http", "http_form": "transcription"},
    "function": {"processor": f"{__name__}:count_packets"},
    "class": {"processor": f"{__name__}:Greeter"},
}


@pytest.fixture(params=PROCESSORS)
async def processor(request: pytest.FixtureRequest) -> AsyncIterator[Processor]:
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(provide(answer))
        settings = Settings(http_url=provider.url, http_allow_private=True, **PROCESSORS[request.param])
        yield await stack.enter_async_context(open_processor(settings))


@pytest.mark.parametrize("number", [0, 1, 2_500])
async def test_it_answers_what_may_be_answered_and_results_are_json(
    processor: Processor, number: int
) -> None:
    for attempt in range(1, 5):
        call = make_call(make_packets(number), metadata=FORMAT, attempt=attempt)
        outcome = await processor(call)
        assert isinstance(outcome, Done | Retry | GiveUp)
        if isinstance(outcome, Done):
            assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result
            assert "transcript" in outcome.result


async def test_it_takes_a_call_of_which_little_is_known(processor: Processor) -> None:
    bare = make_call(end_reason=None, started_at=None, completed_at=None, read_page=None)
    assert isinstance(await processor(bare), Done | Retry)


async def test_it_heeds_its_cancellation(processor: Processor) -> None:
    is_reading, never = asyncio.Event(), asyncio.Event()

    async def read_page(_stream: str, _after: int) -> Any:
        is_reading.set()
        await never.wait()

    attempt = asyncio.ensure_future(processor(make_call(make_packets(1), read_page=read_page)))
    reading = asyncio.ensure_future(is_reading.wait())
    await asyncio.wait({attempt, reading}, return_when=asyncio.FIRST_COMPLETED)  # not all read
    attempt.cancel()
    await asyncio.wait({attempt})
    assert attempt.cancelled() == is_reading.is_set()
    reading.cancel()


async def test_what_it_raises_when_nothing_can_be_read_is_a_failed_attempt(processor: Processor) -> None:
    async def read_page(_stream: str, _after: int) -> Any:
        raise StorageUnavailable

    outcome = await run_attempt(processor, make_call(make_packets(1), read_page=read_page))
    assert isinstance(outcome, Done | Retry)


async def test_calls_at_once_do_not_mix(processor: Processor) -> None:
    calls = [make_call(make_packets(3, data="/w=="), call_id=f"c{n}", metadata=FORMAT) for n in range(20)]
    outcomes = await asyncio.gather(*map(processor, calls))
    assert all(isinstance(outcome, Done | Retry) for outcome in outcomes)


async def test_own_processors_are_found_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Greeter, "closed", [])
    async with open_processor(Settings(processor=f"{__name__}:Greeter")) as greeter:
        assert await greeter(make_call()) == Done({"transcript": "hello c"})
        assert Greeter.closed == []
    assert Greeter.closed == [greeter]
    async with open_processor(Settings(processor=f"{__name__}:count_packets")) as own:
        assert await own(make_call(make_packets(2_500), page=1_000)) == Done({"transcript": "2500 packets"})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"processor": "nowhere_at_all:transcribe"}, "PYTHONPATH"),
        ({"processor": f"{__name__}:nothing"}, "cannot import"),
        ({"processor": f"{__name__}:not_async"}, "not an async function"),
        ({"processor": f"{__name__}:FORMAT"}, "not an async function"),
        ({"processor": "http"}, "CALLACTORS_HTTP_URL: say where"),
        ({"processor": "http", "http_url": "http://a.example:99999/"}, "no URL"),
        ({"processor": "http", "http_url": "http://169.254.169.254/"}, "CALLACTORS_HTTP_ALLOW_PRIVATE"),
        ({"processor": "http", "http_url": "http://LocalHost/"}, "CALLACTORS_HTTP_ALLOW_PRIVATE"),
        ({"processor": "http", "http_url": "https://a.example", "http_token": "t\n"}, "no spaces, line ends"),
        ({"processor": "http", "http_url": "https://a.example", "http_secret": "whsec_QUJD"}, "24 random"),
        ({"processor": "http", "http_url": "https://a.example", "http_secret": "x" * 40}, "24 random"),
        (
            {
                "processor": "http",
                "http_url": "https://a.example",
                "http_secret": "x",
                "http_form": "transcription",
            },
            "only requests with",
        ),
    ],
)
async def test_wrong_settings_are_refused_at_start_with_the_mend(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(WrongSettings, match=text):
        async with open_processor(Settings(**settings)):
            pass


@pytest.mark.parametrize("url", ["ftp://a.example/", "https://me:secret@a.example/", "https://", "/calls"])
def test_urls_that_are_not_http_or_hold_a_password_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http_url"):
        Settings(http_url=url)


async def _asleep(_seconds: float) -> None:
    """Time that passes at once."""


def flaky(sleep: Callable[[float], Awaitable[None]] = _asleep, **rates: Any) -> FlakyProcessor:
    return FlakyProcessor(sleep=sleep, **{"failure_rate": 0.0, **rates})


async def test_flaky_hangs_until_it_is_cancelled() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await flaky(hang_rate=1.0)(make_call())


async def test_flaky_answers_behind_its_deadline_although_it_was_cancelled() -> None:
    slept, is_asleep = [], asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        is_asleep.set()
        if seconds == 20.0:
            await asyncio.Event().wait()

    attempt = asyncio.ensure_future(flaky(sleep, late_rate=1.0)(make_call()))
    await is_asleep.wait()
    attempt.cancel()
    assert isinstance(await attempt, Done)
    assert len(slept) == 2
    assert slept[0] == 20.0


async def test_flaky_repeats_a_run_with_its_seed() -> None:
    runs = []
    for _ in range(2):
        processor = FlakyProcessor(seed=7, failure_rate=0.5, late_rate=0.5, sleep=_asleep)
        runs.append([await processor(make_call()) for _ in range(20)])
    assert runs[0] == runs[1]
    assert {type(outcome) for outcome in runs[0]} == {Done, Retry}


async def test_a_provider_that_fails_is_a_retry_and_one_that_refuses_is_not() -> None:
    for status, kind in ((503, Retry), (400, GiveUp)):
        async with provide(answering(status)) as provider:
            settings = Settings(processor="http", http_url=provider.url, http_allow_private=True)
            async with open_processor(settings) as processor:
                assert isinstance(await processor(make_call()), kind)
