"""A process that recognises speech: `python -m callactors.processors.transcriber`, for SpeechProcessor.

It ends when its input does, so that none outlives the server.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final, NamedTuple

from pocketsphinx import Decoder, Endpointer
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from callactors.processors.speech_pipe import (
    BeginAudio,
    EndAudio,
    Piece,
    SpeechMessage,
    pack_answer,
    read_message,
)
from callactors.processors.waveforms import RATE, Format, Waveform

_BYTE_RATE: Final = 2 * RATE
_JITTER: Final = 0.1  # seconds between timestamps and audio that are nobody's business
_BREAK: Final = 1.0  # longer gaps end an utterance, shorter ones are filled with silence
_MAX_UTTERANCE: Final = 20 * _BYTE_RATE
_MAX_TRACKS: Final = 8  # that are listened to at a time
_NICENESS: Final = 10
_DISTINCT: Final = 0.05  # what VADER's authors take for neither positive nor negative


class Utterance(NamedTuple):
    """What somebody said without a pause; times in seconds, on the clock of the packets' timestamps."""

    start: float
    end: float
    text: str


class Track:
    """Listens to one track, and has each utterance recognised as soon as it is over."""

    def __init__(self, audio: Format, recognise: Callable[[bytes], str]) -> None:
        self.utterances: list[Utterance] = []
        self._waveform = Waveform(audio)
        self._recognise = recognise
        self._passage: _Passage | None = None

    def feed(self, at: float, payload: bytes) -> None:
        """Listen to what is the next *payload*, by its timestamp *at* seconds."""
        samples = self._waveform.feed(payload)
        if self._passage is not None and at - self._passage.clock > _BREAK:
            self.finish()
        if self._passage is None:
            self._passage = _Passage(at, self._take)
        gap = at - self._passage.clock
        if gap > _JITTER:
            self._passage.listen(bytes(2 * round(gap * RATE)))
        self._passage.listen(samples)

    def finish(self) -> None:
        """Take for over what is being said."""
        if self._passage is not None:
            self._passage.finish()
            self._passage = None

    def _take(self, start: float, end: float, speech: bytes) -> None:
        if text := self._recognise(speech):
            self.utterances.append(Utterance(start, end, text))


class _Passage:
    """Finds the utterances in audio without gaps, and has each taken: from when to when, and its samples."""

    def __init__(self, start: float, take: Callable[[float, float, bytes], None]) -> None:
        self.clock = self._origin = start
        self._take = take
        self._endpointer = Endpointer(sample_rate=RATE)
        self._waiting = bytearray()  # for the rest of the frame
        self._speech = bytearray()
        self._start: float | None = None

    def listen(self, samples: bytes) -> None:
        self.clock += len(samples) / _BYTE_RATE
        self._waiting += samples
        size = self._endpointer.frame_bytes
        whole = len(self._waiting) - len(self._waiting) % size
        frames = bytes(self._waiting[:whole])
        del self._waiting[:whole]
        for start in range(0, whole, size):
            self._hear(self._endpointer.process(frames[start : start + size]))

    def finish(self) -> None:
        self._hear(self._endpointer.end_stream(bytes(self._waiting) or bytes(2)))

    def _hear(self, speech: bytes | None) -> None:
        if speech is None:
            return
        if self._start is None:
            self._start = self._origin + self._endpointer.speech_start
        self._speech += speech
        if self._endpointer.in_speech and len(self._speech) < _MAX_UTTERANCE:
            return
        end = self._start + len(self._speech) / _BYTE_RATE
        self._take(self._start, end, bytes(self._speech))
        self._start = end if self._endpointer.in_speech else None
        self._speech.clear()


class Transcriber:
    """Makes a transcript of the streams of a call."""

    def __init__(self, recognise: Callable[[bytes], str], rate_mood: Callable[[str], float]) -> None:
        self._recognise = recognise
        self._rate_mood = rate_mood
        self._tracks: dict[str, Track] = {}
        self._begin("", Format())
        self._transcript: list[dict[str, Any]] = []

    def take(self, message: SpeechMessage) -> dict[str, Any] | None:
        """Listen to *message*; the last one of a call returns the call's result."""
        match message:
            case Piece(track, at, payload):
                self._find(track).feed(at, payload)
            case BeginAudio(stream, audio):
                self._finish_stream()
                self._begin(stream, audio)
            case EndAudio():
                self._finish_stream()
                return {"transcript": self._transcript, "sentiment": self._judge()}
        return None

    def _begin(self, stream: str, audio: Format) -> None:
        self._stream, self._format = stream, audio
        self._said: list[tuple[Utterance, str]] = []

    def _find(self, name: str) -> Track:
        """Return the track; beyond so many, the oldest is over."""
        if name not in self._tracks:
            if len(self._tracks) == _MAX_TRACKS:
                self._finish_track(next(iter(self._tracks)))
            self._tracks[name] = Track(self._format, self._recognise)
        return self._tracks[name]

    def _finish_track(self, name: str) -> None:
        track = self._tracks.pop(name)
        track.finish()
        self._said += [(utterance, name) for utterance in track.utterances]

    def _finish_stream(self) -> None:
        for name in list(self._tracks):
            self._finish_track(name)
        for (start, end, text), track in sorted(self._said):
            named = {"track": track} if track else {}
            times = {"start_ms": round(1_000 * start), "end_ms": round(1_000 * end)}
            self._transcript.append({"stream": self._stream, **named, "text": text, **times})
        self._said = []

    def _judge(self) -> str:
        """Return the mood of all that was said; long utterances count more than short ones."""
        texts = [said["text"] for said in self._transcript]
        words = sum(len(text.split()) for text in texts)
        mood = sum(self._rate_mood(text) * len(text.split()) for text in texts) / max(words, 1)
        if abs(mood) < _DISTINCT:
            return "neutral"
        return "positive" if mood > 0 else "negative"


def make_transcriber() -> Transcriber:
    """Return one with the model for US English that comes with pocketsphinx."""
    decoder = Decoder(loglevel="FATAL", fwdflat=False)  # a second pass took time, and made no fewer errors
    analyzer = SentimentIntensityAnalyzer()

    def recognise(speech: bytes) -> str:
        decoder.start_utt()
        decoder.process_raw(speech, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else str(found.hypstr)

    return Transcriber(recognise, lambda text: float(analyzer.polarity_scores(text)["compound"]))


def hear_call(source: BinaryIO, transcriber: Transcriber) -> dict[str, Any] | None:
    """Return the result of the next call, or None if the server is gone."""
    while (message := read_message(source)) is not None:
        if (result := transcriber.take(message)) is not None:
            return result
    return None


def main() -> None:
    """Answer calls until the server is gone; the server's own work goes first.

    Each call has a decoder of its own, since what one has heard changes a little what it hears next.
    """
    os.nice(_NICENESS)
    while (result := hear_call(sys.stdin.buffer, make_transcriber())) is not None:
        sys.stdout.buffer.write(pack_answer(result))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
