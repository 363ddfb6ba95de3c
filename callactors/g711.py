"""G.711, as telephones carry speech: a sample of 16 bits in 8, by the mu-law or the A-law (ITU-T G.711)."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple

_BIAS: Final = 132
_CLIP: Final = 32_635


class _Table(NamedTuple):
    """The lower and the upper byte of the sample that each code stands for."""

    lower: bytes
    upper: bytes


def encode_mulaw(samples: Sequence[int]) -> bytes:
    """Return the mu-law codes of *samples*, each of 16 bits."""
    table = _mulaw_codes()
    return bytes(table[sample + 32_768] for sample in samples)


def decode_mulaw(codes: bytes) -> bytes:
    """Return the samples of mu-law *codes*, in 16 bits each, the lower byte first."""
    return _decode(codes, _table(_from_mulaw))


def decode_alaw(codes: bytes) -> bytes:
    """Return the samples of A-law *codes*, in 16 bits each, the lower byte first."""
    return _decode(codes, _table(_from_alaw))


def _decode(codes: bytes, table: _Table) -> bytes:
    samples = bytearray(2 * len(codes))
    samples[::2] = codes.translate(table.lower)
    samples[1::2] = codes.translate(table.upper)
    return bytes(samples)


@cache
def _table(decode: Callable[[int], int]) -> _Table:
    samples = [decode(code) & 0xFFFF for code in range(256)]
    return _Table(bytes(sample & 0xFF for sample in samples), bytes(sample >> 8 for sample in samples))


@cache
def _mulaw_codes() -> bytes:
    return bytes(map(_to_mulaw, range(-32_768, 32_768)))


def _to_mulaw(sample: int) -> int:
    """Return the code of *sample* (table 2a): sign, three bits of exponent, four of mantissa."""
    magnitude = min(abs(sample), _CLIP) + _BIAS
    exponent = magnitude.bit_length() - 8
    mantissa = magnitude >> (exponent + 3) & 0xF
    return ~((0x80 if sample < 0 else 0) | exponent << 4 | mantissa) & 0xFF


def _from_mulaw(code: int) -> int:
    """Return the middle of the interval of *code* (table 2a, in 14 bits there)."""
    code = ~code & 0xFF
    magnitude = (((code & 0xF) << 3) + _BIAS << (code >> 4 & 7)) - _BIAS
    return -magnitude if code & 0x80 else magnitude


def _from_alaw(code: int) -> int:
    """Return the middle of the interval of *code* (table 1a, in 13 bits there; every other bit is turned)."""
    code ^= 0x55
    exponent, magnitude = code >> 4 & 7, (code & 0xF) << 4 | 8
    if exponent:
        magnitude = magnitude + 256 << exponent - 1
    return magnitude if code & 0x80 else -magnitude
