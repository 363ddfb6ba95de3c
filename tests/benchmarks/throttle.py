"""Keeping to a share of a processor. Pure: time and CPU time are told."""

from typing import Final

_BURST: Final = 0.02  # seconds of CPU time that may be saved up


class Throttle:
    """Says how long to sleep so that no more than *share* of one core is used, from *now* and *cpu* on."""

    def __init__(self, share: float, now: float, cpu: float) -> None:
        if share <= 0:
            raise ValueError("the share must be positive")
        self._share = share
        self._now, self._cpu = now, cpu
        self._saved = 0.0

    def pause(self, now: float, cpu: float) -> float:
        """Return the seconds to sleep from *now* on, when *cpu* seconds have been used; 0 if it may go on."""
        earned, spent = (now - self._now) * self._share, cpu - self._cpu
        self._now, self._cpu = now, cpu
        self._saved = min(self._saved + earned - spent, _BURST)
        return max(-self._saved / self._share, 0.0)
