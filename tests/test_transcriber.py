"""What is heard of a call, but for the words: where somebody speaks, on which track, and in which mood."""

import io
from collections.abc import Iterable
from typing import Any

import pytest

from callactors.processors.speech_pipe import (
    SIZE,
    BeginAudio,
    EndAudio,
    Piece,
    SpeechMessage,
    pack_answer,
    pack_message,
    read_message,
)
from callactors.processors.waveforms import Format
from callactors.simulate.audio import Encoding, make_speech

pytest.importorskip("pocketsphinx", reason="the extra speech is not installed")

from callactors.processors.transcriber import Transcriber, hear_call

VOICE = Encoding.MULAW.encode(make_speech(8_000))
SILENCE = b"\xff" * 8_000


def pieces(audio: bytes, at: float = 0.0, track: str = "") -> list[Piece]:
    """Twenty milliseconds each."""
    return [
        Piece(track, at + start / 8_000, audio[start : start + 160]) for start in range(0, len(audio), 160)
    ]


def hear(*messages: SpeechMessage | Iterable[SpeechMessage], mood: float = 0.0) -> dict[str, Any]:
    """What comes of *messages*; each utterance is taken for its seconds."""
    transcriber = Transcriber(lambda speech: f"{len(speech) / 32_000:.1f}", lambda text: mood)
    for message in messages:
        for one in [message] if isinstance(message, BeginAudio | Piece | EndAudio) else message:
            transcriber.take(one)
    result = transcriber.take(EndAudio())
    assert result is not None
    return result


def times(result: dict[str, Any]) -> list[tuple[float, float]]:
    return [(said["start_ms"] / 1_000, said["end_ms"] / 1_000) for said in result["transcript"]]


def test_an_utterance_is_where_somebody_speaks() -> None:
    audio = SILENCE + 2 * VOICE + SILENCE + VOICE + SILENCE
    result = hear(BeginAudio("s", Format()), pieces(audio, at=10.0))
    first, second = times(result)
    assert first == pytest.approx((11.0, 13.0), abs=0.4)
    assert second == pytest.approx((14.0, 15.0), abs=0.4)
    assert {said["stream"] for said in result["transcript"]} == {"s"}
    assert "track" not in result["transcript"][0]


def test_who_speaks_to_the_end_is_heard_to_the_end() -> None:
    assert times(hear(BeginAudio("s", Format()), pieces(VOICE)))[0][1] == pytest.approx(1.0, abs=0.1)


def test_silence_says_nothing() -> None:
    assert hear(BeginAudio("s", Format()), pieces(SILENCE)) == {"transcript": [], "sentiment": "neutral"}
    assert hear() == {"transcript": [], "sentiment": "neutral"}


def test_tracks_are_told_in_the_order_in_which_they_speak() -> None:
    caller = pieces(VOICE + 3 * SILENCE + VOICE + SILENCE, track="inbound")
    called = pieces(2 * SILENCE + VOICE + 3 * SILENCE, track="outbound")
    both = [piece for pair in zip(caller, called, strict=True) for piece in pair]
    result = hear(BeginAudio("s", Format()), both)
    assert [said["track"] for said in result["transcript"]] == ["inbound", "outbound", "inbound"]
    assert times(result) == sorted(times(result))


def test_streams_are_told_one_after_the_other() -> None:
    result = hear(BeginAudio("b", Format()), pieces(VOICE, at=50.0), BeginAudio("a", Format()), pieces(VOICE))
    assert [said["stream"] for said in result["transcript"]] == ["b", "a"]


def test_a_short_gap_is_silence_and_a_long_one_ends_the_utterance() -> None:
    for gap in (0.8, 500.0):
        result = hear(BeginAudio("s", Format()), pieces(VOICE), pieces(VOICE, at=1.0 + gap))
        assert [start for start, _ in times(result)][1:] == [pytest.approx(1.0 + gap, abs=0.4)]


def test_timestamps_that_stand_still_do_no_harm() -> None:
    still = [piece._replace(at=0.0) for piece in pieces(SILENCE + VOICE + SILENCE)]
    assert times(hear(BeginAudio("s", Format()), still))[0][0] == pytest.approx(1.0, abs=0.4)


def test_who_never_pauses_is_cut_so_that_memory_is_bounded() -> None:
    result = hear(BeginAudio("s", Format()), pieces(50 * VOICE))
    found = times(result)
    assert len(found) == 3
    assert all(end - start <= 21.0 for start, end in found)
    assert [start for start, _ in found[1:]] == [end for _, end in found[:-1]]


def test_tracks_without_number_are_heard_a_few_at_a_time() -> None:
    tracks = [piece for name in range(50) for piece in pieces(VOICE, track=str(name))]
    result = hear(BeginAudio("s", Format()), tracks)
    assert len({said["track"] for said in result["transcript"]}) == 50


@pytest.mark.parametrize(("mood", "word"), [(0.5, "positive"), (0.01, "neutral"), (-0.5, "negative")])
def test_the_mood_is_a_word(mood: float, word: str) -> None:
    assert hear(BeginAudio("s", Format()), pieces(VOICE), mood=mood)["sentiment"] == word


@pytest.mark.parametrize(
    "message",
    [BeginAudio("s\u00e9", Format("alaw", 16_000, 2)), Piece("\u00e9", 1e9, b"\x00\xff"), EndAudio()],
)
def test_messages_come_out_of_the_pipe_as_they_went_in(message: SpeechMessage) -> None:
    assert read_message(io.BytesIO(pack_message(message))) == message


def test_a_pipe_that_breaks_off_is_the_end() -> None:
    whole = pack_message(Piece("t", 1.0, b"audio"))
    for length in range(len(whole)):
        assert read_message(io.BytesIO(whole[:length])) is None


def test_a_call_out_of_the_pipe_has_a_result() -> None:
    sent: list[SpeechMessage] = [BeginAudio("s", Format()), *pieces(VOICE), EndAudio()]
    source = io.BytesIO(b"".join(map(pack_message, sent)))
    result = hear_call(source, Transcriber(lambda speech: "word", lambda text: 0.0))
    assert result is not None
    assert [said["text"] for said in result["transcript"]] == ["word"]
    assert hear_call(source, Transcriber(lambda speech: "word", lambda text: 0.0)) is None
    assert SIZE.unpack(pack_answer(result)[:4]) == (len(pack_answer(result)) - 4,)
