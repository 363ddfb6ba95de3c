"""Sound that is made up, as telephones carry it: G.711 mu-law, or 16 bits a sample."""

from collections.abc import Sequence
from enum import Enum
from functools import cache
from math import pi, sin
from struct import pack
from typing import Final

_BIAS: Final = 132
_CLIP: Final = 32_635
_LOUDEST: Final = 8_000
_PITCH: Final = 120.0  # Hz, of a deep voice
_HARMONICS: Final = ((1, 1.0), (2, 0.7), (3, 0.5), (5, 0.4), (9, 0.2))
_SYLLABLES: Final = 4  # in a second: so many times it swells and dies away


class Encoding(Enum):
    """How samples become bytes."""

    MULAW = "mu-law"
    S16LE = "s16le"

    def encode(self, samples: Sequence[int]) -> bytes:
        """Return the bytes of *samples*, each of 16 bits."""
        if self is Encoding.S16LE:
            return pack(f"<{len(samples)}h", *samples)
        table = _mulaw_table()
        return bytes(table[sample + 32_768] for sample in samples)


def make_speech(rate: int) -> list[int]:
    """Return a second of samples that sound like humming syllables, and go on smoothly from the start."""
    loudness = _LOUDEST / sum(part for _, part in _HARMONICS)
    samples = []
    for number in range(rate):
        phase = 2 * pi * number / rate
        swell = sin(phase * _SYLLABLES / 2) ** 2
        tone = sum(part * sin(phase * _PITCH * harmonic) for harmonic, part in _HARMONICS)
        samples.append(round(loudness * swell * tone))
    return samples


def cut_up(audio: bytes, pieces: int) -> list[bytes]:
    """Return *audio* as so many *pieces* of one length."""
    length = len(audio) // pieces
    return [audio[start : start + length] for start in range(0, length * pieces, length)]


@cache
def _mulaw_table() -> bytes:
    return bytes(map(_to_mulaw, range(-32_768, 32_768)))


def _to_mulaw(sample: int) -> int:
    """Return the code of *sample* (ITU-T G.711, table 2a): sign, three bits of exponent, four of mantissa."""
    magnitude = min(abs(sample), _CLIP) + _BIAS
    exponent = magnitude.bit_length() - 8
    mantissa = magnitude >> (exponent + 3) & 0xF
    return ~((0x80 if sample < 0 else 0) | exponent << 4 | mantissa) & 0xFF
