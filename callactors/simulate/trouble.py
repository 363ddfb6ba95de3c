"""What goes wrong on the way: messages are lost, overtake each other, come twice, and connections break."""

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import chain, pairwise
from math import inf
from random import Random
from typing import NamedTuple

from callactors.simulate.actions import Action, Cut, Lose, Send


class Trouble(NamedTuple):
    """How likely each of it is: for a message the first three, for a call that its connection is cut."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    drop: float = 0.0

    @property
    def is_of_messages(self) -> bool:
        """Whether single messages are touched, which makes sense only if they are numbered."""
        return max(self.loss, self.reorder, self.duplicate) > 0


def disturb(script: Iterable[Action], trouble: Trouble, rng: Random, seconds: float) -> Iterator[Action]:
    """Yield *script*, which lasts so many *seconds*, with *trouble*; one *rng* always makes the same of it.

    The first numbered message and the last are never touched, so that every loss leaves a gap. A message that
    is reordered changes its place with the next one that is sent.
    """
    cut_at = rng.uniform(0, seconds) if rng.random() < trouble.drop else inf
    held: list[Send] = []
    for action, place in _find_places(script):
        if place is not _Place.FIRST and action.at >= cut_at:
            yield from _release(held, cut_at)
            yield Cut(cut_at)
            return
        if not isinstance(action, Send) or action.sequence is None or place is not _Place.INNER:
            yield from _release(held, action.at)
            yield action
            continue
        is_lost, is_held, is_doubled = (rng.random() < chance for chance in trouble[:3])
        if is_lost:
            yield Lose(action.at, action.sequence)
        elif is_held and not held:
            held.append(action)
        else:
            yield from (action, action) if is_doubled else (action,)
            yield from _release(held, action.at)


class _Place(Enum):
    FIRST = auto()  # what is numbered first, and all before it
    INNER = auto()
    LAST = auto()  # what is numbered last, and all after it


def _find_places(script: Iterable[Action]) -> Iterator[tuple[Action, _Place]]:
    place = _Place.FIRST
    for action, after in pairwise(chain(script, [None])):
        if action is not None:
            if place is _Place.INNER and not isinstance(after, Send):
                place = _Place.LAST
            yield action, place
            if place is _Place.FIRST and isinstance(action, Send) and action.sequence is not None:
                place = _Place.INNER


def _release(held: list[Send], at: float) -> Iterator[Send]:
    yield from (action._replace(at=at) for action in held)
    held.clear()
