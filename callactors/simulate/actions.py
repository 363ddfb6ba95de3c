"""What is done on a connection, and when: all that a script has to say to those who send."""

from typing import Final, NamedTuple

ORDERLY: Final = 1000
"""The close code of a connection that ends as it should (RFC 6455, 7.4.1)."""


class Send(NamedTuple):
    """A frame is sent *at* seconds after the start; *sequence* is what the server counts it as, if at all."""

    at: float
    frame: str | bytes
    sequence: int | None = None


class Lose(NamedTuple):
    """The message with *sequence* is never sent."""

    at: float
    sequence: int


class Close(NamedTuple):
    """The connection is closed in order."""

    at: float
    code: int = ORDERLY


class Cut(NamedTuple):
    """The connection breaks off, without a close frame."""

    at: float


Action = Send | Lose | Close | Cut
