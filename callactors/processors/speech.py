"""A processor that transcribes stored audio on this machine, in US English, and tells the mood."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from importlib.util import find_spec
from typing import Final

from callactors.errors import AudioNotStored, SpeechNotFound, UnknownAudio
from callactors.processors.contract import CallRecord
from callactors.processors.speech_pipe import BeginAudio, EndAudio, Piece, SpeechMessage
from callactors.processors.waveforms import read_format
from callactors.processors.workers import NoWorker, WorkerDied, Workers
from callactors.retry import Done, GiveUp, Outcome, Retry

_PACKAGES: Final = ("pocketsphinx", "vaderSentiment")
_MAX_WAITING: Final = 100  # attempts for each process; more than that would run past their deadlines


class _NotAudio(Exception):
    """A call has packets of media that are something else."""


class SpeechProcessor:
    """Answers `{"transcript": [{"stream", "track", "text", "start_ms", "end_ms"}, …], "sentiment": …}`.

    Speech is recognised by *workers* processes, by default one less than the processors of the machine. A
    cancelled attempt ends its process. `close` ends all of them; they end with the server in any case.

    Raises:
        SpeechNotFound: the extra is not installed.
    """

    def __init__(self, workers: int | None = None) -> None:
        for package in _PACKAGES:
            if find_spec(package) is None:
                raise SpeechNotFound(package)
        limit = workers or max(1, (os.cpu_count() or 1) - 1)
        self._workers = Workers(limit, waiting=limit * _MAX_WAITING)

    async def __call__(self, record: CallRecord) -> Outcome:
        try:
            async with aclosing(_read(record)) as messages:
                return await self._transcribe(messages)
        except (AudioNotStored, UnknownAudio, _NotAudio) as error:
            return GiveUp(str(error))
        except (NoWorker, WorkerDied) as error:
            return Retry(str(error))

    async def close(self) -> None:
        """End the processes; whoever waits for one is told to try again."""
        await self._workers.close()

    async def _transcribe(self, messages: AsyncIterator[SpeechMessage]) -> Outcome:
        first = await anext(messages, None)
        if first is None:
            return Done({"transcript": [], "sentiment": "neutral"})
        async with self._workers.lend() as worker:
            await worker.send(first)
            async for message in messages:
                await worker.send(message)
            await worker.send(EndAudio())
            return Done(await worker.receive())


async def _read(record: CallRecord) -> AsyncGenerator[SpeechMessage, None]:
    """Yield the call's audio, each stream behind its beginning; nothing of streams without audio.

    Raises:
        AudioNotStored, UnknownAudio, _NotAudio: it cannot be heard.
        StorageUnavailable: the database does not answer.
    """
    for stream in record.streams:
        has_begun = False
        try:
            async for track, at, payload in record.audio(stream):
                if not has_begun:
                    yield BeginAudio(stream, read_format(record.metadata))
                    has_begun = True
                yield Piece(track, at, payload)
        except ValueError:
            raise _NotAudio(f"the media of stream {stream!r} are not base64, as audio would be") from None
