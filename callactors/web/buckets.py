"""Token buckets: so many a second, and as many at once."""


class Bucket:
    """Holds up to *rate* tokens and gets that many in a second; full at first."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token, or return False if there is none; *now* is in seconds and does not fall."""
        if self._at is not None:
            self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
