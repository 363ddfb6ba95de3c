"""The command `callactors`."""

import argparse
import asyncio
import gc
import ipaddress
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from callactors.app import make_app
from callactors.errors import StartupError, UvloopNotFound, WrongSettings
from callactors.settings import Settings, read_settings
from callactors.turns import ShortTurns

log = logging.getLogger("callactors")

_BACKLOG: Final = 1024
_KEEPALIVE: Final = 75.0
_HANDLER_MARGIN: Final = 1.0  # seconds: a handler waits for the database no longer than ack_timeout
_DOORSTEP: Final = 10  # turns of the loop from a connection's accept to its first request

_READY: Final = """callactors listens on {url}

Try, in another terminal:
  curl -i --json '{{"sequence":1,"data":"hello","timestamp":1.0}}' {url}/v1/call/stream/demo-1
  curl -i -X POST {url}/v1/call/complete/demo-1
  curl -i {url}/v1/call/demo-1
Watch the calls on {url}/ in a browser, or with a program on {ws_url}/ws/supervisor. Ctrl-C stops the server.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 could not start, 2 wrong usage."""
    options = vars(_parser().parse_args(arguments))
    options.pop("command")
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("transitions").setLevel(logging.WARNING)
    try:
        return _serve(read_settings(options))
    except WrongSettings as error:
        return _refuse(str(error), 2)
    except StartupError as error:
        return _refuse(str(error), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callactors", description="A call-processing server: each live call is one actor."
    )
    parser.add_argument("--version", action="version", version=f"callactors {version('callactors')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the server",
        description="Run the server; without DATABASE_URL with a PostgreSQL of its own, which stops with it.",
        epilog="Every flag is also a variable, CALLACTORS_HOST for --host and so on; flags win.",
    )
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for any that is free (default 8000)")
    serve.add_argument("--data-dir", type=Path, help="where the own PostgreSQL keeps its data")
    flags: dict[str, Any] = {"action": "store_const", "const": True}
    serve.add_argument(
        "--ephemeral", **flags, help="keep nothing: the own PostgreSQL's data is deleted at the end"
    )
    serve.add_argument("--insecure", **flags, help="listen beyond loopback although there are no keys yet")
    serve.add_argument(
        "--unsafe-durability", **flags, help="accept a PostgreSQL that may lose commits in a crash"
    )
    serve.add_argument("--uvloop", **flags, help="run on uvloop, which the extra of that name brings")
    return parser


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


def _refuse(sentence: str, code: int) -> int:
    print(f"callactors: {sentence}", file=sys.stderr)
    return code


def _serve(settings: Settings) -> int:
    if not settings.insecure and not _is_loopback(settings.host):
        text = (
            f"{settings.host} can be reached from elsewhere and there are no keys: add --insecure to allow it"
        )
        return _refuse(text, 2)
    try:
        listener = _bind(settings.host, settings.port)
    except OSError as error:
        other = "--host" if isinstance(error, socket.gaierror) else "--port"
        text = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another {other}"
        return _refuse(text, 1)
    with listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        with asyncio.Runner(loop_factory=_choose_loop(settings)) as runner:
            return runner.run(_run(settings, listener))


async def _run(settings: Settings, listener: socket.socket) -> int:
    stopping = _stop_on_signals()
    runner = web.AppRunner(
        make_app(settings),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=_KEEPALIVE,
        shutdown_timeout=settings.ack_timeout + _HANDLER_MARGIN,
    )
    try:
        if await _start(runner, stopping):
            _spare_the_collector()
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            address = f"{host}:{settings.port}"
            print(_READY.format(url=f"http://{address}", ws_url=f"ws://{address}"), flush=True)
            await stopping.wait()
            log.info("stopping; a second signal stops at once")
    finally:
        await _clean_up(runner, listener)
    return 0


async def _clean_up(runner: web.AppRunner, listener: socket.socket) -> None:
    """Let nobody in any more but those who are at the door, and clean up.

    When it closes, asyncio forgets a connection that is accepted but not made, and aiohttp drops what one
    sends that has not come to its first request, and waits for that in vain.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(_DOORSTEP):
        await asyncio.sleep(0)
    await runner.cleanup()


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
    """Look at what lives for long rarely, and at little at once: packets make no cycles, and all halts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 2, 100)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(1)  # what was acknowledged is stored; the rest was asked to be given up
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopping


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything is started, so that a second server fails at once."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # without it two servers may bind to one port; clients wait until it serves
    except OSError:
        listener.close()
        raise
    return listener
