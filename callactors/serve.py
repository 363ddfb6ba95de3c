"""Runs the server: what the command `callactors serve` does, from the port to the drain."""

import asyncio
import gc
import logging
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Final

from aiohttp import web

from callactors.app import make_app
from callactors.demo import calling, set_up_demo, tell_demo
from callactors.errors import CannotListen, KeysMissing, UvloopNotFound
from callactors.settings import Settings
from callactors.store.nodes import LEASE
from callactors.system import CallSystem
from callactors.systemd import READY, STOPPING, Systemd
from callactors.tls import make_context
from callactors.turns import ShortTurns
from callactors.watchdog import watched
from callactors.web.doorman import open_door
from callactors.web.keys import SYSTEM

log = logging.getLogger(__name__)

_BACKLOG: Final = 4096
_LINGERING: Final = 2.0  # seconds that the rest of a refused body is read
_HANDLER_MARGIN: Final = 1.0  # seconds: a handler waits for the database no longer than ack_timeout

_READY: Final = """callactors listens on {url}

Try, in another terminal:
  curl -i --json '{{"sequence":1,"data":"hello","timestamp":1.0}}' {url}/v1/call/stream/demo-1
  curl -i -X POST {url}/v1/call/complete/demo-1
  curl -i {url}/v1/call/demo-1
Watch the calls on {url}/ in a browser, or with a program on {ws_url}/ws/supervisor. Ctrl-C stops the server.
"""


def serve(settings: Settings) -> None:
    """Serve until a signal asks for the end.

    Raises:
        StartupError: it cannot be done; the text says the mend.
    """
    if settings.demo is not None:
        settings = set_up_demo(settings)
    listener = _bind(settings)
    _raise_file_limit(settings.open_files)
    with listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        with asyncio.Runner(loop_factory=_choose_loop(settings)) as runner:
            runner.run(_run(settings, listener))


def _choose_loop(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.uvloop:
        try:
            import uvloop  # noqa: PLC0415  only who asks for it needs it
        except ImportError:
            raise UvloopNotFound from None
        return uvloop.new_event_loop
    if not hasattr(select, "epoll"):  # not on Linux
        return None
    return lambda: asyncio.SelectorEventLoop(ShortTurns(settings.port))


async def _run(settings: Settings, listener: socket.socket) -> None:
    systemd = Systemd()
    stopping, context = _stop_on_signals(), make_context(settings)
    app = make_app(settings)
    runner = _make_runner(app, settings)
    try:
        if await _start(runner, stopping):
            if app[SYSTEM].keys.is_empty and not (settings.insecure or settings.is_loopback):
                raise KeysMissing(settings.host)
            _spare_the_collector()
            with _telling(settings):
                listener.listen(_BACKLOG)
            async with open_door(
                runner,
                listener,
                connections=settings.max_connections,
                rate=settings.max_new_connections,
                context=context,
            ):
                await _live(settings, app[SYSTEM], systemd, stopping)
    finally:
        await runner.cleanup()


async def _live(settings: Settings, system: CallSystem, systemd: Systemd, stopping: asyncio.Event) -> None:
    """Say that the server is there, and return when it is to stop."""
    url = settings.public_url or _url(settings)
    print(_READY.format(url=url, ws_url=url.replace("http", "ws", 1)), flush=True)
    async with AsyncExitStack() as stack:
        if settings.demo is not None:
            print(tell_demo(settings), flush=True)
            await stack.enter_async_context(calling(_url(settings)))
        if settings.nats:
            await stack.enter_async_context(watched(LEASE))
        systemd.tell(READY)
        await stack.enter_async_context(systemd.watched(lambda: system.failed is None))
        await stopping.wait()
        systemd.tell(STOPPING)
        log.info("stopping; a second signal stops at once")


def _make_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=settings.keepalive_timeout,
        lingering_time=_LINGERING,
        max_field_size=settings.max_header_size,
        max_headers=settings.max_headers,
        max_line_size=settings.max_header_size,
        shutdown_timeout=settings.ack_timeout + _HANDLER_MARGIN,
    )


def _url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'http' if settings.tls_cert is None else 'https'}://{host}:{settings.port}"


def _raise_file_limit(wanted: int) -> None:
    """Let the process have so many files open, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        log.warning("only %d open files are allowed: set CALLACTORS_MAX_CONNECTIONS below that", hard)


async def _start(runner: web.AppRunner, stopping: asyncio.Event) -> bool:
    """Set *runner* up; return False if a signal came first."""
    setting_up = asyncio.create_task(runner.setup())
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait((setting_up, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not setting_up.done():
        setting_up.cancel()
        await asyncio.gather(setting_up, return_exceptions=True)
        return False
    await setting_up
    return True


def _spare_the_collector() -> None:
    """Look at what lives for long rarely: packets make no cycles, and all halts meanwhile.

    But a WebSocket leaves objects that hold each other: they must not pile up for hours. The door has the
    rest of it done.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 2, 10)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(1)  # what was acknowledged is stored; the rest was asked to be given up
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopping


def _bind(settings: Settings) -> socket.socket:
    """Take the port before anything is started, so that a second server fails at once.

    Clients wait until it serves; those of a cluster are told that nobody listens, and go to another server.
    """
    with ExitStack() as stack, _telling(settings):
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = stack.enter_context(socket.socket(family, kind, protocol))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if not settings.nats:
            listener.listen(_BACKLOG)
        stack.pop_all()
        return listener


@contextmanager
def _telling(settings: Settings) -> Iterator[None]:
    """Tell what is wrong with the address that is listened on."""
    try:
        yield
    except OSError as error:
        flag = "--host" if isinstance(error, socket.gaierror) else "--port"
        raise CannotListen(f"{settings.host}:{settings.port}", str(error.strerror), flag) from None
