"""Who may come in: names of the server, origins of pages, and what a request is granted."""

import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, wraps
from time import monotonic
from typing import Final, TypeAlias

from aiohttp import hdrs, web

from callactors.access import LOCAL, Grant, Scope
from callactors.errors import (
    ForeignOrigin,
    InsufficientScope,
    KeyBusy,
    Misdirected,
    TooManyNewCalls,
    Unauthorized,
)
from callactors.web.buckets import Bucket
from callactors.web.keys import get_calls
from callactors.web.limits import Limits
from callactors.web.problems import Handler
from callactors.web.sockets import SUBPROTOCOL

Authorize: TypeAlias = Callable[[web.Request, frozenset[Scope]], Awaitable[Grant]]
"""Returns what a request is granted, of which one of the scopes must be a part, or raises an AccessError."""
FindKey: TypeAlias = Callable[[web.Request], str | None]
FindSignature: TypeAlias = Callable[[web.Request], Awaitable[Grant | None]]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_BEARER_SUBPROTOCOL: Final = "bearer."
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """Whom to let in.

    *hosts* are the names that a Host header may say, all if there are none; *origins* are those of pages that
    may write and open WebSockets, beside the server's own; *proxies* may say whom they speak for.
    *is_insecure* lets everybody in as long as there are no keys, not only who asks from this machine.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    proxies: tuple[Network, ...] = ()
    is_insecure: bool = False


class Guard:
    """Decides about each request; *authorize* in place of keys."""

    def __init__(self, rules: GuardRules, limits: Limits, authorize: Authorize | None = None) -> None:
        self._rules = rules
        self._limits = limits
        self._authorize = authorize
        self._busy: dict[str, int] = {}
        self._new_calls: dict[str, Bucket] = {}

    async def admit(
        self,
        request: web.Request,
        opens: frozenset[Scope],
        *,
        find_key: FindKey | None = None,
        find_signature: FindSignature | None = None,
    ) -> Grant:
        """Return what *request* is granted; the table of routes says which scopes open its route.

        *find_key* says where its key is; what has none may be signed instead.

        Raises:
            AccessError: it may not.
        """
        self._check_names(request)
        if self._authorize is not None:
            grant = await self._authorize(request, opens)
        else:
            text = (find_key or _find_key)(request)
            signed = None if text is not None or find_signature is None else await find_signature(request)
            grant = signed or self._find_grant(request, text)
        if grant.scopes.isdisjoint(opens):
            raise InsufficientScope(opens)
        if grant.prefix and "call_id" in request.match_info:
            grant.check([request.match_info["call_id"]])
        return grant

    def _check_names(self, request: web.Request) -> None:
        """Refuse a Host that is not ours, and what a page of another origin must not do."""
        rules, headers = self._rules, request.headers
        if rules.hosts and _name(headers.get(hdrs.HOST, "")) not in rules.hosts:
            raise Misdirected
        origin = headers.get(hdrs.ORIGIN)
        if origin is None or (request.method in _SAFE and hdrs.UPGRADE not in headers):
            return
        if origin.partition("://")[2] != headers.get(hdrs.HOST) and origin not in rules.origins:
            raise ForeignOrigin

    def begin(self, grant: Grant) -> None:
        """Count a request of *grant* as under way, until `end`.

        Raises:
            KeyBusy: too many are.
        """
        count, limit = self._busy.get(grant.name, 0), self._limits.key_busy
        if count >= limit and grant is not LOCAL:
            raise KeyBusy(limit)
        self._busy[grant.name] = count + 1

    def end(self, grant: Grant) -> None:
        """Count a request of *grant* as over."""
        self._busy[grant.name] -= 1
        if not self._busy[grant.name]:
            del self._busy[grant.name]

    def count_call(self, request: web.Request, call_id: str) -> None:
        """Count a call that is not in memory against what *request*'s key may begin.

        Raises:
            TooManyNewCalls: it has begun too many.
        """
        grant, limit = request[GRANT], self._limits.key_new_calls
        if grant is LOCAL or get_calls(request).has(call_id):
            return
        if not self._new_calls.setdefault(grant.name, Bucket(limit, burst=limit)).take(monotonic()):
            raise TooManyNewCalls(limit)

    def holding(self, request: web.Request, on_end: Callable[[], None]) -> AbstractContextManager[None]:
        """Call *on_end* if what *request* was granted ends."""
        if self._authorize is not None or not request[GRANT].ends:
            return nullcontext()
        return get_calls(request).keys.holding(request[GRANT], on_end)

    def client_address(self, request: web.Request) -> str:
        """Return whose request it is: the last that no trusted proxy speaks for."""
        address = request.remote or ""
        # A proxy may add a line of its own to those of the client.
        lines = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
        for told in reversed(",".join(lines).split(",")):
            if not told.strip() or not self._is_proxy(address):
                break
            address = told.strip()
        return address

    def _find_grant(self, request: web.Request, text: str | None) -> Grant:
        keys = get_calls(request).keys
        if text is not None:
            grant = keys.find(text)
            if grant is None:
                raise Unauthorized("the key is wrong, or it has ended")
            return grant
        if not keys.is_empty:
            raise Unauthorized("send a key: Authorization: Bearer KEY")
        if not self._rules.is_insecure:
            _check_local(request)
        return LOCAL

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._rules.proxies)


GUARD: Final = web.AppKey("callactors_guard", Guard)
GRANT: Final = web.RequestKey("callactors_grant", Grant)


def get_guard(request: web.Request) -> Guard:
    """Return the guard of *request*, also from within a sub-app."""
    guard = request.app.get(GUARD)
    return request.config_dict[GUARD] if guard is None else guard


def guarded(
    handler: Handler,
    opens: frozenset[Scope],
    *,
    find_key: FindKey | None = None,
    find_signature: FindSignature | None = None,
) -> Handler:
    """Wrap *handler* so that it gets only requests that one of the scopes opens; their grant is in GRANT.

    *find_key* and *find_signature* are as `Guard.admit` has them.
    """

    @wraps(handler)
    async def guard(request: web.Request) -> web.StreamResponse:
        guard = get_guard(request)
        request[GRANT] = grant = await guard.admit(
            request, opens, find_key=find_key, find_signature=find_signature
        )
        guard.begin(grant)
        try:
            return await handler(request)
        finally:
            guard.end(grant)

    return guard


def _find_key(request: web.Request) -> str | None:
    """Return the key that *request* brings: a program's in Authorization, a page's as a subprotocol."""
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is not None:
        scheme, _, text = header.partition(" ")
        return text.strip() if scheme.lower() == "bearer" else ""
    told = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL)
    if told is None:
        return None
    offered = [protocol.strip() for protocol in told.split(",")]
    found = [
        protocol.removeprefix(_BEARER_SUBPROTOCOL)
        for protocol in offered
        if protocol.startswith(_BEARER_SUBPROTOCOL)
    ]
    if found and SUBPROTOCOL not in offered:
        raise Unauthorized(f"offer the subprotocol {SUBPROTOCOL} beside the key, for the answer to name")
    return found[0] if found else None


def _check_local(request: web.Request) -> None:
    """While there are no keys only this machine may ask, and by a loopback name: any page could by another.

    Raises:
        Unauthorized: it comes from elsewhere, or perhaps does.
    """
    headers = request.headers
    if hdrs.X_FORWARDED_FOR in headers or hdrs.FORWARDED in headers:
        raise Unauthorized("there are no keys yet, and this came through a proxy: make keys first")
    if not _is_loopback(request.remote) or _name(headers.get(hdrs.HOST, "")) not in _LOOPBACK_NAMES:
        raise Unauthorized("there are no keys yet: until then ask from this machine, by the name localhost")


def _is_loopback(address: str | None) -> bool:
    if address == "127.0.0.1":
        return True
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and not port.endswith("]") else host).lower()
