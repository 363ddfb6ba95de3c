"""Short turns of the event loop: however many clients call at once, the database is heard in between."""

import math
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

TURN: Final = 128


class ShortTurns(BaseSelector):
    """An epoll that tells of at most TURN sockets at once, but of all that are not the clients'.

    Clients are what is connected to *port*. With asyncio's own selector a loop that has thousands of requests
    to answer comes to what the database says only behind all of them, and a commit waits for three turns.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._all = select.epoll()
        self._own = select.epoll()
        self._own_fds: set[int] = set()
        self._keys: dict[int, SelectorKey] = {}

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Do as BaseSelector says."""
        fd = _descriptor(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fd} is already registered")
        key = SelectorKey(fileobj, fd, events, data)
        mask = (events & EVENT_READ and select.EPOLLIN) | (events & EVENT_WRITE and select.EPOLLOUT)
        self._all.register(fd, mask)
        self._keys[fd] = key
        if not self._is_client(fd):
            self._own.register(fd, mask)
            self._own_fds.add(fd)
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Do as BaseSelector says."""
        fd = _descriptor(fileobj)
        key = self._keys.pop(fd)
        _forget(self._all, fd)
        if fd in self._own_fds:
            self._own_fds.remove(fd)
            _forget(self._own, fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return what is ready, as BaseSelector says, but not all of it."""
        if timeout is not None:
            timeout = math.ceil(max(timeout, 0) * 1e3) * 1e-3  # epoll counts in ms; rather late than early
        try:
            found = self._all.poll(timeout, TURN)
        except InterruptedError:
            return []
        if len(found) == TURN:
            found = [*{**dict(self._own.poll(0)), **dict(found)}.items()]
        return [(key, _events(mask) & key.events) for fd, mask in found if (key := self._keys.get(fd))]

    def get_key(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Do as BaseSelector says."""
        return self._keys[_descriptor(fileobj)]

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """Return the keys by file descriptor, which is all that asyncio asks for."""
        return MappingProxyType[Any, SelectorKey](self._keys)

    def close(self) -> None:
        """Do as BaseSelector says."""
        self._keys.clear()
        self._all.close()
        self._own.close()

    def _is_client(self, fd: int) -> bool:
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            return False  # a pipe
        try:
            name = sock.getsockname()
            return isinstance(name, tuple) and name[1] == self._port  # else it is not of IP
        finally:
            sock.detach()


def _descriptor(fileobj: "FileDescriptorLike") -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()


def _events(mask: int) -> int:
    """Return what an epoll's *mask* means; an error or hang-up is for who reads and who writes to see."""
    return (mask & ~select.EPOLLIN and EVENT_WRITE) | (mask & ~select.EPOLLOUT and EVENT_READ)


def _forget(epoll: select.epoll, fd: int) -> None:
    with suppress(OSError):  # it was closed, and so forgotten already
        epoll.unregister(fd)
