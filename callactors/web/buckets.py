"""Token buckets: so many a second, and so many at once."""


class Bucket:
    """Gets *rate* tokens in a second and holds up to *burst*; full at first."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, *, burst: float) -> None:
        self._rate = rate
        self._burst = self._tokens = max(1.0, burst)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token, or return False if there is none; *now* is in seconds and does not fall."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
