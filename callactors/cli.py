"""The command `callactors`."""

import argparse
import asyncio
import gc
import ipaddress
import logging
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from callactors.access import mask_keys
from callactors.admin import add_keys_command, add_purge_command, run_keys, run_purge
from callactors.app import make_app
from callactors.errors import KeysMissing, StartupError, UnknownKey, UvloopNotFound, WrongSettings
from callactors.settings import Settings, read_settings
from callactors.simulate.arguments import add_replay_command, add_simulate_command
from callactors.simulate.command import WrongUsage, run_replay, run_simulate
from callactors.tls import make_context
from callactors.turns import ShortTurns
from callactors.web.doorman import open_door
from callactors.web.keys import SYSTEM

log = logging.getLogger("callactors")

_BACKLOG: Final = 4096
_INTERRUPTED: Final = 130  # as shells have it: 128 and the number of SIGINT
_LINGERING: Final = 2.0  # seconds that the rest of a refused body is read
_OTHER_FILES: Final = 128
_NOT_HTTP: Final = (HttpProcessingError, web.RequestPayloadError)
_LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_CLIENTS: Final = {"simulate": run_simulate, "replay": run_replay}
_HANDLER_MARGIN: Final = 1.0  # seconds: a handler waits for the database no longer than ack_timeout

_READY: Final = """callactors listens on {url}

Try, in another terminal:
  curl -i --json '{{"sequence":1,"data":"hello","timestamp":1.0}}' {url}/v1/call/stream/demo-1
  curl -i -X POST {url}/v1/call/complete/demo-1
  curl -i {url}/v1/call/demo-1
Watch the calls on {url}/ in a browser, or with a program on {ws_url}/ws/supervisor. Ctrl-C stops the server.
"""


class _Formatter(logging.Formatter):
    """Writes no key's secret, whoever logs it."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_keys(super().format(record))


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Whether aiohttp tells of something else than a client's bytes that are no HTTP, which it repeats."""
    return record.exc_info is None or not isinstance(record.exc_info[1], _NOT_HTTP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 could not be done, 2 wrong usage, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter(_LOG_FORMAT))
    logging.getLogger("aiohttp.server").addFilter(_is_worth_telling)
    logging.getLogger("transitions").setLevel(logging.WARNING)
    if options.command in _CLIENTS:
        return _run_client(options)
    try:
        settings = read_settings(vars(options))
        if options.command == "serve":
            return _serve(settings)
        logging.getLogger().setLevel(logging.WARNING)
        run = {"keys": run_keys, "purge": run_purge}[options.command]
        print(asyncio.run(run(settings, options)))
    except (WrongSettings, KeysMissing) as error:
        return _refuse(str(error), 2)
    except (StartupError, UnknownKey) as error:
        return _refuse(str(error), 1)
    return 0


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
    serve.add_argument("--insecure", **flags, help="let everybody in as long as there are no keys")
    serve.add_argument("--tls-cert", type=Path, help="serve TLS with this certificate (chain) in PEM")
    serve.add_argument("--tls-key", type=Path, help="and this key; by default it stands in the same file")
    serve.add_argument(
        "--unsafe-durability", **flags, help="accept a PostgreSQL that may lose commits in a crash"
    )
    serve.add_argument("--uvloop", **flags, help="run on uvloop, which the extra of that name brings")
    add_keys_command(commands)
    add_purge_command(commands)
    add_simulate_command(commands)
    add_replay_command(commands)
    return parser


def _run_client(options: argparse.Namespace) -> int:
    try:
        finished = asyncio.run(_CLIENTS[options.command](options))
    except WrongUsage as error:
        return _refuse(str(error), 2)
    except KeyboardInterrupt:
        return _INTERRUPTED
    print(finished.text)
    return finished.code


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
    try:
        listener = _bind(settings.host, settings.port)
    except OSError as error:
        other = "--host" if isinstance(error, socket.gaierror) else "--port"
        text = f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another {other}"
        return _refuse(text, 1)
    _raise_file_limit(settings.max_connections)
    with listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        with asyncio.Runner(loop_factory=_choose_loop(settings)) as runner:
            return runner.run(_run(settings, listener))


async def _run(settings: Settings, listener: socket.socket) -> int:
    stopping, context = _stop_on_signals(), make_context(settings)
    app = make_app(settings)
    runner = _make_runner(app, settings)
    try:
        if await _start(runner, stopping):
            if app[SYSTEM].keys.is_empty and not (settings.insecure or _is_loopback(settings.host)):
                raise KeysMissing(settings.host)
            _spare_the_collector()
            async with open_door(
                runner,
                listener,
                connections=settings.max_connections,
                rate=settings.max_new_connections,
                context=context,
            ):
                url = _url(settings)
                print(_READY.format(url=url, ws_url=url.replace("http", "ws", 1)), flush=True)
                await stopping.wait()
                log.info("stopping; a second signal stops at once")
    finally:
        await runner.cleanup()
    return 0


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
    if settings.public_url is not None:
        return settings.public_url
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'http' if settings.tls_cert is None else 'https'}://{host}:{settings.port}"


def _raise_file_limit(connections: int) -> None:
    """Let the process have a file for each connection, as far as it may."""
    wanted = connections + _OTHER_FILES
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
