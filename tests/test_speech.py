"""The speech processor: outcomes, processes that die, cancelled attempts, and a loop that goes on."""

import asyncio
import os
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from callactors.errors import SpeechNotFound, StartupError
from callactors.packets import PacketKind
from callactors.processors import speech
from callactors.processors.attempt import run_attempt
from callactors.processors.contract import CallRecord
from callactors.processors.speech import SpeechProcessor
from callactors.processors.workers import Workers
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.simulate.audio import Encoding, make_speech
from callactors.store.contents import PAGE, StoredPacket
from callactors.vendors.steps import describe_media

pytest.importorskip("pocketsphinx", reason="the extra speech is not installed")
pytest.importorskip("vaderSentiment", reason="the extra speech is not installed")

VOICE = Encoding.MULAW.encode(make_speech(8_000))
SHORT, LONG = 2, 200  # seconds
NOTHING = Done({"transcript": [], "sentiment": "neutral"})


@pytest.fixture
async def processor() -> AsyncIterator[SpeechProcessor]:
    """With one process."""
    processor = SpeechProcessor(1)
    yield processor
    await processor.close()


def make_record(data: Sequence[str], **options: Any) -> CallRecord:
    """A call of one stream, with the *data* of media."""
    packets = [StoredPacket("s", i, PacketKind.MEDIA, i / 50, text) for i, text in enumerate(data)]

    async def read_page(stream: str, after: int) -> tuple[Sequence[StoredPacket], int | None]:
        await asyncio.sleep(0)
        page = packets[after + 1 : after + 1 + PAGE]
        return page, after + PAGE if len(page) == PAGE else None

    chosen = {"deadline": 60.0, "streams": ["s"], **options}
    return CallRecord(
        call_id="c", generation=1, attempt=1, packet_count=len(data), read_page=read_page, **chosen
    )


def hum(seconds: int, **options: Any) -> CallRecord:
    """A call in which somebody hums without words, in pieces of 20 ms."""
    payloads = [b64encode(VOICE[start : start + 160]).decode() for start in range(0, 8_000, 160)]
    return make_record(payloads * seconds, **options)


async def until_started(processor: SpeechProcessor) -> int:
    """The id of the process, once there is one."""
    while not processor._workers.pids:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return processor._workers.pids[0]


def is_running(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def until_gone(pid: int) -> None:
    while is_running(pid):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def reason_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Retry | GiveUp)
    return outcome.reason


@pytest.mark.parametrize("package", ["pocketsphinx", "vaderSentiment"])
def test_what_is_not_installed_is_said_at_once(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(SpeechNotFound, match=rf"{package} .*install callactors\[speech\]") as caught:
        SpeechProcessor()
    assert isinstance(caught.value, StartupError)


@pytest.mark.parametrize("record", [make_record([]), make_record([], streams=[])])
async def test_a_call_without_audio_has_an_empty_transcript(
    record: CallRecord, processor: SpeechProcessor
) -> None:
    assert await processor(record) == NOTHING
    assert not processor._workers.pids


async def test_audio_that_was_not_stored_is_given_up_with_the_mend(processor: SpeechProcessor) -> None:
    outcome = await processor(make_record([describe_media(b"audio")]))
    assert isinstance(outcome, GiveUp)
    assert "CALLACTORS_STORE_MEDIA" in outcome.reason
    assert not processor._workers.pids


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (hum(1, metadata={"media_format": {"encoding": "OPUS"}}), "'opus'"),
        (make_record(["hello"]), "not base64"),
        (make_record(["{oops"]), "not base64"),
    ],
)
async def test_what_is_no_audio_is_given_up(
    record: CallRecord, said: str, processor: SpeechProcessor
) -> None:
    outcome = await processor(record)
    assert isinstance(outcome, GiveUp)
    assert said in outcome.reason


async def test_humming_says_little_and_is_done(processor: SpeechProcessor) -> None:
    outcome = await processor(hum(SHORT))
    assert isinstance(outcome, Done)
    assert set(outcome.result) == {"transcript", "sentiment"}


async def test_a_process_serves_one_call_after_the_other_with_the_same_result(
    processor: SpeechProcessor,
) -> None:
    first = await processor(hum(SHORT))
    pid = await until_started(processor)
    await processor(hum(SHORT + 1))
    assert await processor(hum(SHORT)) == first
    assert processor._workers.pids == [pid]


async def test_a_process_that_is_killed_is_a_retry_and_another_takes_its_place(
    processor: SpeechProcessor,
) -> None:
    attempt = asyncio.create_task(processor(hum(LONG)))
    os.kill(await until_started(processor), signal.SIGKILL)
    outcome = await attempt
    assert isinstance(outcome, Retry)
    assert "signal 9" in outcome.reason
    assert isinstance(await processor(hum(SHORT)), Done)


def test_on_uvloop_it_is_the_same() -> None:
    uvloop = pytest.importorskip("uvloop", reason="the extra uvloop is not installed")

    async def run() -> list[Outcome]:
        processor = SpeechProcessor(1)
        attempt = asyncio.create_task(processor(hum(LONG)))
        os.kill(await until_started(processor), signal.SIGKILL)
        outcomes = [await attempt, await processor(hum(SHORT))]
        await processor.close()
        return outcomes

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert [type(outcome) for outcome in runner.run(run())] == [Retry, Done]


async def test_a_process_that_died_while_idle_is_nobodys_failure(processor: SpeechProcessor) -> None:
    await processor(hum(SHORT))
    pid = await until_started(processor)
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    assert isinstance(await processor(hum(SHORT)), Done)


async def test_an_attempt_past_its_deadline_ends_at_once_and_its_process_too(
    processor: SpeechProcessor,
) -> None:
    attempt = asyncio.create_task(run_attempt(processor, hum(LONG, deadline=1.0)))
    pid = await until_started(processor)
    assert await attempt == Retry("no answer within 1 s")
    await until_gone(pid)
    assert isinstance(await processor(hum(SHORT)), Done)


async def test_an_attempt_that_waits_can_be_cancelled_without_harm(processor: SpeechProcessor) -> None:
    first = asyncio.create_task(processor(hum(SHORT)))
    await until_started(processor)
    second = asyncio.create_task(processor(hum(SHORT)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert isinstance(await first, Done)
    assert isinstance(await processor(hum(SHORT)), Done)


async def test_only_so_many_wait_for_a_process() -> None:
    processor = SpeechProcessor(1)
    processor._workers = Workers(1, waiting=1)
    attempts = [asyncio.create_task(processor(hum(SHORT))) for _ in range(3)]
    outcomes = await asyncio.gather(*attempts)
    await processor.close()
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Retry]
    assert "1 calls wait" in reason_of(outcomes[2])


async def test_close_ends_the_process_and_the_attempts() -> None:
    processor = SpeechProcessor(1)
    attempts = [asyncio.create_task(processor(hum(LONG))) for _ in range(2)]
    pid = await until_started(processor)
    await processor.close()
    assert not is_running(pid)
    assert {type(outcome) for outcome in await asyncio.gather(*attempts)} == {Retry}


async def test_the_loop_goes_on_while_speech_is_recognised(processor: SpeechProcessor) -> None:
    """A loop that recognised speech itself would tick once a packet at best, and stand still at the end."""
    attempt = asyncio.create_task(processor(make_record([b64encode(VOICE * 20).decode()])))
    ticks = 0
    while not attempt.done():
        await asyncio.sleep(0.005)
        ticks += 1
    assert isinstance(attempt.result(), Done)
    assert ticks > 50


async def test_reading_a_long_call_lets_others_run_at_every_packet(processor: SpeechProcessor) -> None:
    await processor(hum(SHORT))
    pid = await until_started(processor)
    attempt = asyncio.create_task(processor(make_record([b64encode(b"\xff" * 160).decode()] * 3_000)))
    ticks = 0
    while not attempt.done():
        await asyncio.sleep(0)
        ticks += 1
    assert await attempt == NOTHING
    assert ticks >= 3_000
    assert processor._workers.pids == [pid]


async def test_the_processes_end_with_a_server_that_is_killed() -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.speech.server", stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    pid = int(await server.stdout.readline())
    assert is_running(pid)
    server.kill()
    await server.wait()
    await until_gone(pid)
