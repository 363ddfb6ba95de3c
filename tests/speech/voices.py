"""Machines that speak, and the telephone in between: nothing above 3,400 Hz, mu-law, 8 kHz."""

import shutil
import subprocess
import wave
from collections.abc import Sequence
from math import cos, pi, sin
from pathlib import Path
from struct import unpack
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from callactors.simulate.audio import Encoding

RATE: Final = 8_000
_HIGHEST: Final = 3_400.0
_TAPS: Final = 32  # on each side
_LOUDEST: Final = 16_000


class Voice(NamedTuple):
    """A program of Debian's and what it is told; `{text}` and `{file}` stand for those."""

    name: str
    command: Sequence[str]

    @property
    def program(self) -> str:
        return self.command[0]

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.program) is not None


def _flite(voice: str) -> Voice:
    return Voice(f"flite {voice}", ("flite", "-voice", voice, "-t", "{text}", "-o", "{file}"))


def _espeak(voice: str, speed: int) -> Voice:
    command = ("espeak-ng", "-v", voice, "-s", str(speed), "-w", "{file}", "{text}")
    return Voice(f"espeak-ng {voice} -s {speed}", command)


FLITE_MAN: Final = _flite("rms")
ESPEAK_MAN: Final = _espeak("en-us+klatt2", 160)
VOICES: Final = (
    FLITE_MAN,
    _flite("kal"),
    _flite("slt"),
    _flite("awb"),
    _espeak("en-us", 160),
    ESPEAK_MAN,
    _espeak("en-us+f2", 160),
)
"""The last three are made of formants, unlike any voice; the others are cut from recordings."""


def telephone(voice: Voice, text: str) -> bytes:
    """Return what a telephone carries of *text*, in mu-law, with half a second of silence on each side."""
    samples, rate = _speak(voice, text)
    loudest = max(1, *map(abs, samples))
    loud = [sample * _LOUDEST / loudest for sample in samples]
    silence = [0] * (RATE // 2)
    return Encoding.MULAW.encode([*silence, *_narrow(loud, rate), *silence])


def _speak(voice: Voice, text: str) -> tuple[Sequence[int], int]:
    with TemporaryDirectory() as home:
        path = Path(home) / "speech.wav"
        command = [part.format(text=text, file=path) for part in voice.command]
        subprocess.run(command, check=True, capture_output=True)
        with wave.open(str(path)) as file:
            count, rate = file.getnframes(), file.getframerate()
            return unpack(f"<{count}h", file.readframes(count)), rate


def _narrow(samples: Sequence[float], rate: int) -> list[int]:
    """Return *samples* at RATE, without what is above a telephone's highest tone (a windowed sinc)."""
    cutoff = 2 * _HIGHEST / rate
    made = []
    for number in range(len(samples) * RATE // rate):
        centre = number * rate / RATE
        first = int(centre) - _TAPS + 1
        near = range(max(first, 0), min(first + 2 * _TAPS, len(samples)))
        made.append(round(sum(samples[at] * _weigh(at - centre, cutoff) for at in near)))
    return made


def _weigh(distance: float, cutoff: float) -> float:
    window = 0.5 + 0.5 * cos(pi * distance / (_TAPS + 1))
    turn = pi * cutoff * distance
    return window * cutoff * (sin(turn) / turn if turn else 1.0)
