"""G.711, the audio of telephones: a byte a sample, decoded to 16 bits, little-endian (ITU-T G.711)."""

from functools import cache
from struct import pack
from typing import Final

__all__ = ["decode_alaw", "decode_ulaw"]

_BIAS: Final = 132


def decode_ulaw(data: bytes) -> bytes:
    """Return the samples of mu-law *data*, two bytes each."""
    return b"".join(map(_ulaw_samples().__getitem__, data))


def decode_alaw(data: bytes) -> bytes:
    """Return the samples of A-law *data*, two bytes each."""
    return b"".join(map(_alaw_samples().__getitem__, data))


@cache
def _ulaw_samples() -> tuple[bytes, ...]:
    return tuple(pack("<h", _from_ulaw(code)) for code in range(256))


@cache
def _alaw_samples() -> tuple[bytes, ...]:
    return tuple(pack("<h", _from_alaw(code)) for code in range(256))


def _from_ulaw(code: int) -> int:
    """Return the sample of *code*: sign, three bits of exponent, four of mantissa, all turned over."""
    turned = ~code & 0xFF
    magnitude = (((turned & 0x0F) << 3) + _BIAS << (turned >> 4 & 7)) - _BIAS
    return -magnitude if turned & 0x80 else magnitude


def _from_alaw(code: int) -> int:
    """Return the sample of *code*: the same, but every other bit is turned over."""
    turned = code ^ 0x55
    exponent, mantissa = turned >> 4 & 7, turned & 0x0F
    magnitude = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 264 << (exponent - 1)
    return magnitude if turned & 0x80 else -magnitude
