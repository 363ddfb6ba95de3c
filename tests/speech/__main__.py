"""`python -m tests.speech` has machines speak, and prints how much of it the speech processor gets wrong."""

import argparse
import resource
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from callactors.processors.speech_pipe import BeginAudio, EndAudio, Piece
from callactors.processors.transcriber import make_transcriber
from callactors.processors.waveforms import Format
from tests.speech.voices import RATE, VOICES, Voice, telephone

_PIECE: Final = RATE // 50
PLAIN: Final = (
    "i want to talk to someone about my account",
    "the weather is very good today",
    "please call me back tomorrow morning",
    "thank you very much for your help",
    "we will send you a new phone next week",
    "this is a terrible service and i am very angry",
    "can you tell me the price of the house",
    "my name is john and i live in new york",
    "i have a problem with my computer",
    "the doctor will see you on monday",
)
HARVARD: Final = (
    "the birch canoe slid on the smooth planks",
    "glue the sheet to the dark blue background",
    "it is easy to tell the depth of a well",
    "these days a chicken leg is a rare dish",
    "rice is often served in round bowls",
    "the juice of lemons makes fine punch",
    "the box was thrown beside the parked truck",
    "the hogs were fed chopped corn and garbage",
    "four hours of steady work faced us",
    "a large size in stockings is hard to sell",
)
"""List 1 of the IEEE's recommended practice for speech quality measurements, 1969."""


class Score(NamedTuple):
    """Words that were said and those that were taken wrong; seconds of audio, and of a core."""

    words: int = 0
    errors: int = 0
    heard: float = 0.0
    spent: float = 0.0


def main() -> None:
    """Print a line for each voice that is installed."""
    parser = argparse.ArgumentParser(prog="python -m tests.speech", description=__doc__)
    parser.add_argument("--texts", action="store_true", help="print what was said and what was understood")
    has_texts = parser.parse_args().texts
    print(f"{'voice':<30}{'plain':>8}{'Harvard':>9}{'s of audio per core-second':>28}")
    for voice in VOICES:
        if not voice.is_installed:
            print(f"{voice.name:<30}{voice.program} is not installed")
            continue
        plain = listen(voice, PLAIN, has_texts=has_texts)
        harvard = listen(voice, HARVARD, has_texts=has_texts)
        speed = (plain.heard + harvard.heard) / (plain.spent + harvard.spent)
        print(f"{voice.name:<30}{_rate(plain):>8.0%}{_rate(harvard):>9.0%}{speed:>28.1f}", flush=True)
    print(f"memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def listen(voice: Voice, texts: Sequence[str], *, has_texts: bool) -> Score:
    """Return how well *texts* are understood, each a call of its own."""
    score = Score()
    for text in texts:
        audio = telephone(voice, text)
        understood, spent = transcribe(audio)
        wrong = count_errors(text.split(), understood.split())
        if has_texts:
            print(f"  {text}\n    {understood}")
        heard = len(audio) / RATE
        score = Score(
            score.words + len(text.split()), score.errors + wrong, score.heard + heard, score.spent + spent
        )
    return score


def transcribe(audio: bytes) -> tuple[str, float]:
    """Return what is understood of *audio*, and the seconds that a core worked for it."""
    transcriber = make_transcriber()
    began = time.process_time()
    transcriber.take(BeginAudio("", Format()))
    for start in range(0, len(audio), _PIECE):
        transcriber.take(Piece("", start / RATE, audio[start : start + _PIECE]))
    result = transcriber.take(EndAudio())
    spent = time.process_time() - began
    return " ".join(said["text"] for said in (result or {})["transcript"]), spent


def count_errors(said: Sequence[str], understood: Sequence[str]) -> int:
    """Return how many words must be changed, added or left out to get from one to the other."""
    costs = list(range(len(understood) + 1))
    for number, word in enumerate(said, 1):
        before, costs = costs, [number]
        for place, other in enumerate(understood):
            costs.append(min(before[place + 1] + 1, costs[place] + 1, before[place] + (word != other)))
    return costs[-1]


def _rate(score: Score) -> float:
    return score.errors / score.words


if __name__ == "__main__":
    main()
