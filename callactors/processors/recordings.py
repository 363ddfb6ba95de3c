"""The audio of a call as WAV files: one a track, so that who speaks is known without guessing."""

import re
from collections.abc import Mapping
from struct import pack
from typing import Any, Final, NamedTuple

from callactors.g711 import decode_alaw, decode_mulaw
from callactors.processors.bodies import RequestTooLarge
from callactors.processors.contract import CallRecord

_TELEPHONE_RATE: Final = 8_000
_RATES: Final = range(4_000, 192_001)
_SLIN_RATES: Final = {"11": 11_025, "44": 44_100}  # as Asterisk rounds them
_WORD: Final = re.compile(r"(?:audio/)?(?:x-)?(s16le|linear16|l16|[a-z]+)")
_RATE: Final = re.compile(r"rate=([0-9]{4,6})|slin([0-9]{1,3})", re.ASCII)
_WORDS: Final[Mapping[str, str]] = {
    "mulaw": "mulaw",
    "ulaw": "mulaw",
    "pcmu": "mulaw",
    "alaw": "alaw",
    "pcma": "alaw",
    "l16": "s16le",
    "raw": "s16le",
    "slin": "s16le",
    "s16le": "s16le",
    "linear16": "s16le",
}  # as vendors call encodings, without "audio/", "x-" and rate
_L16_VENDORS: Final = ("jambonz", "mod_audio_fork", "vonage")  # they send nothing else, and do not name it


class AudioFormat(NamedTuple):
    """How stored audio is encoded: *encoding* is mulaw, alaw or s16le, *rate* in samples a second."""

    encoding: str
    rate: int
    channels: int = 1

    @property
    def width(self) -> int:
        """Bytes that become one sample of 16 bits."""
        return 2 if self.encoding == "s16le" else 1


class UnknownAudio(Exception):
    """What is stored cannot be read as audio; the text says why, and repeats none of it."""


class Track(NamedTuple):
    """The audio of one track of a stream, in order of sequence and as it was sent."""

    stream: str
    name: str
    format: AudioFormat
    audio: bytearray


def read_format(metadata: Mapping[str, Any]) -> AudioFormat:
    """Return what the metadata of a call tells of its audio.

    Where no rate is told it is 8,000, as on the telephone.

    Raises:
        UnknownAudio: it tells nothing, or an encoding that cannot be read here.
    """
    told = metadata.get("media_format")
    told = told if isinstance(told, Mapping) else {}
    words = (told.get("encoding"), metadata.get("content_type"), metadata.get("format"))
    word = next((word.lower() for word in words if isinstance(word, str)), "")
    if not word and metadata.get("vendor") in _L16_VENDORS:
        word = "l16"
    found = _WORD.match(word)
    if found is None or found[1] not in _WORDS:
        raise UnknownAudio(
            "the call's metadata does not tell an audio format that can be read:"
            ' send "media_format": {"encoding": "mulaw", "sample_rate": 8000} with the complete'
        )
    channels = 2 if told.get("channels") in (2, "2") or metadata.get("mix_type") == "stereo" else 1
    return AudioFormat(_WORDS[found[1]], _read_rate(word, told, metadata), channels)


async def read_tracks(call: CallRecord, limit: int) -> list[Track]:
    """Return all tracks of all streams of *call*, in order of streams and of first appearance.

    Raises:
        RequestTooLarge: they would make more than *limit* bytes of WAV.
        UnknownAudio: nobody tells the format, or a packet is not audio in base64.
        AudioNotStored: it was not kept.
        StorageUnavailable: the database does not answer.
    """
    tracks: dict[tuple[str, str], Track] = {}
    size = 0
    for stream in call.streams:
        try:
            async for name, _, audio in call.audio(stream):
                if (track := tracks.get((stream, name))) is None:
                    track = Track(stream, name, read_format(call.metadata), bytearray())
                    tracks[stream, name] = track
                size += len(audio) * 2 // track.format.width
                if size > limit:
                    raise RequestTooLarge(limit)
                track.audio.extend(audio)
        except (ValueError, TypeError):
            raise UnknownAudio(f"the audio of stream {stream!r} is not base64") from None
    return list(tracks.values())


def make_wav(audio: bytes | bytearray, audio_format: AudioFormat) -> bytes:
    """Return a WAV file (RIFF, PCM of 16 bits) of *audio*; a sample that is not whole is left out."""
    match audio_format.encoding:
        case "mulaw":
            samples = decode_mulaw(bytes(audio))
        case "alaw":
            samples = decode_alaw(bytes(audio))
        case _:
            samples = bytes(audio)
    channels, rate = audio_format.channels, audio_format.rate
    frame = 2 * channels
    samples = samples[: len(samples) // frame * frame]
    shape = pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * frame, frame, 16)
    data = pack("<4sI", b"data", len(samples))
    return pack("<4sI4s", b"RIFF", 36 + len(samples), b"WAVE") + shape + data + samples


def _read_rate(word: str, told: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
    found = _RATE.search(word)
    if found is not None:
        return int(found[1]) if found[1] else _SLIN_RATES.get(found[2], int(found[2]) * 1_000)
    for value in (told.get("sample_rate"), metadata.get("sample_rate")):
        if isinstance(value, int | str) and re.fullmatch("[0-9]{4,6}", str(value)):
            return int(value) if int(value) in _RATES else _TELEPHONE_RATE
    return _TELEPHONE_RATE
