"""Sound that is made up, as telephones carry it: G.711 mu-law, or 16 bits a sample."""

from collections.abc import Sequence
from enum import Enum
from math import pi, sin
from struct import pack
from typing import Final

from callactors.g711 import encode_mulaw

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
        return encode_mulaw(samples)


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
