"""What vendors' audio is, and how it becomes what speech recognition hears: 16 bits, 16 kHz, one channel."""

import re
from collections.abc import Mapping
from struct import pack, unpack
from typing import Any, Final, NamedTuple

from callactors.errors import UnknownAudio
from callactors.g711 import decode_alaw, decode_mulaw

RATE: Final = 16_000
"""Samples a second of what comes out, each of two bytes in the machine's own order."""

_RATES: Final = range(4_000, 48_001)
_CHANNELS: Final = (1, 2)
_ULAW: Final = "ulaw"
_ALAW: Final = "alaw"
_S16LE: Final = "s16le"
_ENCODINGS: Final[Mapping[str, str]] = {
    "mulaw": _ULAW,
    "ulaw": _ULAW,
    "pcmu": _ULAW,
    "alaw": _ALAW,
    "pcma": _ALAW,
    "l16": _S16LE,
    "raw": _S16LE,
    "s16le": _S16LE,
    "slin": _S16LE,
}  # by the vendors' words without "audio/" and "x-"; all of them send L16 little-endian, unlike RFC 2586
_SLIN_RATES: Final = {"12": 12_000, "16": 16_000, "24": 24_000, "32": 32_000, "44": 44_100, "48": 48_000}
_SLIN: Final = re.compile(r"slin([0-9]{2})")  # Asterisk's words
_RATE: Final = re.compile(r"rate=([0-9]{4,6})")
_MAX_WORD: Final = 50


class Format(NamedTuple):
    """How audio is encoded, its samples a second in each channel, and its channels."""

    encoding: str = _ULAW
    rate: int = 8_000
    channels: int = 1


def read_format(metadata: Mapping[str, Any]) -> Format:
    """Return the format that a call's *metadata* tells; what it does not tell is a telephone's.

    Raises:
        UnknownAudio: it is none that can be decoded here.
    """
    told, rate, channels = _find(metadata)
    word, _, parameters = str(_ULAW if told is None else told).lower().partition(";")
    if found := _RATE.search(parameters):
        rate = found.group(1)
    name = word.strip().removeprefix("audio/").removeprefix("x-")
    if found := _SLIN.fullmatch(name):
        name, rate = "slin", _SLIN_RATES.get(found.group(1))
    encoding = _ENCODINGS.get(name)
    made = Format(encoding or "", _read_number(rate, 8_000), _read_number(channels, 1))
    if encoding is None or made.rate not in _RATES or made.channels not in _CHANNELS:
        raise UnknownAudio(word[:_MAX_WORD], made.rate, made.channels)
    return made


def _find(metadata: Mapping[str, Any]) -> tuple[object, object, object]:
    """Return encoding, rate and channels as they were told, each None if it was not."""
    told = metadata.get("media_format")
    if isinstance(told, Mapping):
        return told.get("encoding"), told.get("sample_rate"), told.get("channels")
    match metadata.get("vendor"):
        case "jambonz":
            return "l16", metadata.get("sample_rate"), 2 if metadata.get("mix_type") == "stereo" else 1
        case "mod_audio_fork":
            own = metadata.get("custom_parameters")
            own = own if isinstance(own, Mapping) else {}
            return "l16", own.get("sampleRate"), 2 if own.get("mixType") == "stereo" else 1
        case "vonage":
            return metadata.get("content_type"), None, None
        case "asterisk":
            return metadata.get("format"), None, None
        case _:
            return None, None, None


def _read_number(value: object, default: int) -> int:
    """Return a number that came as such or in quotes, *default* for none, and 0 for all else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_RATES.stop)):
        value = int(value)
    if value is None:
        return default
    return value if type(value) is int else 0


class Waveform:
    """Turns the pieces of one track into samples of RATE; what does not fill a sample waits for the next."""

    def __init__(self, audio: Format) -> None:
        self._format = audio
        self._rest = b""
        self._last = 0
        self._position = 0  # of the next sample to make, behind the last that was read, in parts of RATE

    def feed(self, payload: bytes) -> bytes:
        """Return the samples that *payload* adds."""
        data = self._rest + self._decode(payload)
        size = 2 * self._format.channels
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        samples = _mix(unpack(f"<{whole // 2}h", data[:whole]), self._format.channels)
        made = samples if self._format.rate == RATE else self._resample(samples)
        return pack(f"={len(made)}h", *made)

    def _decode(self, payload: bytes) -> bytes:
        match self._format.encoding:
            case "ulaw":
                return decode_mulaw(payload)
            case "alaw":
                return decode_alaw(payload)
            case _:
                return payload

    def _resample(self, samples: tuple[int, ...]) -> tuple[int, ...]:
        """Lay straight lines from sample to sample, across pieces too, and read them at the new rate."""
        line = (self._last, *samples)
        end = len(samples) * RATE
        made = []
        for position in range(self._position, end, self._format.rate):
            index, part = divmod(position, RATE)
            made.append(line[index] + (line[index + 1] - line[index]) * part // RATE)
        self._position += len(made) * self._format.rate - end
        self._last = line[-1]
        return tuple(made)


def _mix(samples: tuple[int, ...], channels: int) -> tuple[int, ...]:
    if channels == 1:
        return samples
    return tuple((left + right) // 2 for left, right in zip(samples[::2], samples[1::2], strict=True))
