"""The command `callactors`."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from callactors.admin import add_keys_command, add_purge_command, run_keys, run_purge
from callactors.doctor.command import add_doctor_command, run_doctor
from callactors.errors import (
    KeysMissing,
    NatsPlaintext,
    StartupError,
    UnknownDelivery,
    UnknownEndpoint,
    UnknownKey,
    WrongEndpoint,
    WrongSettings,
)
from callactors.logs import set_up_logs
from callactors.serve import serve
from callactors.settings import read_settings
from callactors.simulate.arguments import add_replay_command, add_simulate_command
from callactors.simulate.command import WrongUsage, run_replay, run_simulate
from callactors.webhook_commands import add_webhooks_command, run_webhooks

_INTERRUPTED: Final = 130  # as shells have it: 128 and the number of SIGINT
_OF_CLIENTS: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionResetError)
_CLIENTS: Final = {"simulate": run_simulate, "replay": run_replay}
_AT_THE_DATABASE: Final = {"keys": run_keys, "purge": run_purge, "webhooks": run_webhooks}


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Whether aiohttp tells of something else than a client that sends what is no HTTP, or has hung up."""
    return record.exc_info is None or not isinstance(record.exc_info[1], _OF_CLIENTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 could not be done, 2 wrong usage, 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.getLogger("aiohttp.server").addFilter(_is_worth_telling)
    logging.getLogger("transitions").setLevel(logging.WARNING)
    try:
        return _run(options)
    except (WrongSettings, WrongUsage, WrongEndpoint, KeysMissing, NatsPlaintext) as error:
        return _refuse(str(error), 2)
    except (StartupError, UnknownKey, UnknownEndpoint, UnknownDelivery) as error:
        return _refuse(str(error), 1)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    if options.command in _CLIENTS:
        set_up_logs()
        finished = asyncio.run(_CLIENTS[options.command](options))
        print(finished.text)
        return finished.code
    settings = read_settings(vars(options))
    if options.command == "serve":
        set_up_logs(settings.log_format, settings.log_level)
        serve(settings)
        return 0
    set_up_logs(settings.log_format, "warning")
    if options.command == "doctor":
        diagnosis = asyncio.run(run_doctor(settings, options))
        print(diagnosis.text)
        return diagnosis.code
    print(asyncio.run(_AT_THE_DATABASE[options.command](settings, options)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="callactors",
        description="A call-processing server: each live call is one actor.",
        epilog="`callactors COMMAND --help` tells more of each, with its exit codes.",
    )
    parser.add_argument("--version", action="version", version=f"callactors {version('callactors')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser(
        "serve",
        help="run the server",
        description="Run the server; without DATABASE_URL with a PostgreSQL of its own, which stops with it.",
        epilog="Every flag is also a variable, CALLACTORS_HOST for --host and so on; flags win. Exit codes:"
        " 0 stopped in order, by Ctrl-C or SIGTERM; 1 it could not start, or a second signal came; 2 wrong"
        " flags or settings.",
    )
    serving.add_argument(
        "--demo",
        nargs="?",
        const="own",
        choices=["own", "any"],
        help="let made-up calls come in, which go into a database that is deleted at the end, or into"
        " --data-dir; with --demo=any also into that of DATABASE_URL",
    )
    _add_server_flags(serving)
    add_keys_command(commands)
    add_purge_command(commands)
    add_webhooks_command(commands)
    _add_server_flags(add_doctor_command(commands))
    add_simulate_command(commands)
    add_replay_command(commands)
    return parser


def _add_server_flags(command: argparse.ArgumentParser) -> None:
    """Add what says how the server is to run, for it and for whoever looks whether it can."""
    command.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on, 0 for any that is free (default 8000)")
    command.add_argument("--data-dir", type=Path, help="where the own PostgreSQL keeps its data")
    flags: dict[str, Any] = {"action": "store_const", "const": True}
    command.add_argument(
        "--ephemeral", **flags, help="keep nothing: the own PostgreSQL's data is deleted at the end"
    )
    command.add_argument("--insecure", **flags, help="let everybody in as long as there are no keys")
    command.add_argument("--tls-cert", type=Path, help="serve TLS with this certificate (chain) in PEM")
    command.add_argument("--tls-key", type=Path, help="and this key; by default it stands in the same file")
    command.add_argument(
        "--unsafe-durability", **flags, help="accept a PostgreSQL that may lose commits in a crash"
    )
    command.add_argument(
        "--nats", metavar="URLS", help="be one cluster with the servers on the same NATS and database"
    )
    command.add_argument("--nats-credentials", type=Path, help="what NATS wants to see of this server")
    command.add_argument("--nats-ca", type=Path, help="trust NATS servers with certificates of this CA")
    command.add_argument(
        "--nats-plaintext",
        **flags,
        help="go without TLS to NATS on other machines: packets can be read on the way",
    )
    command.add_argument("--node", help="this server's own name (default the machine's, with the port)")
    command.add_argument("--uvloop", **flags, help="run on uvloop, which the extra of that name brings")
    command.add_argument(
        "--log-format",
        choices=["auto", "human", "json"],
        help="how the log is written: auto (the default) is human at a terminal, and else JSON",
    )
    command.add_argument(
        "--log-level", choices=["debug", "info", "warning", "error"], help="from which on (default info)"
    )


def _refuse(sentence: str, code: int) -> int:
    print(f"callactors: {sentence}", file=sys.stderr)
    return code
