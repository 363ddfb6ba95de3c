"""What is done at the command line beside serving: keys are made and ended, and calls purged."""

import argparse
import getpass
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from callactors.access import Scope
from callactors.app import data_dir_of
from callactors.packets import CALL_ID
from callactors.retention import purge
from callactors.settings import Settings, read_duration
from callactors.store.api_keys import StoredKey, create_key, list_keys, revoke_key, rotate_key
from callactors.store.audit import try_to_write_audit
from callactors.store.connection import Connection, connected, wait_for_database
from callactors.store.embedded import EmbeddedPostgres, find_running
from callactors.store.migrations import migrate

CODES: Final = (
    "It works on the database of DATABASE_URL, or on the own PostgreSQL, whether it runs or not. Exit codes:"
    " 0 done; 1 it could not be done; 2 wrong usage or settings; 130 Ctrl-C."
)
_HEAD: Final = ("id", "scopes", "prefix", "made", "ends", "state", "note")


def duration(text: str) -> timedelta:
    """Return the duration in *text*, an argument."""
    try:
        return read_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _prefix(text: str) -> str:
    if text and CALL_ID.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("no call id begins so: a letter or digit comes first")
    return text


def add_keys_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `keys` and what follows it to *commands*."""
    keys = commands.add_parser(
        "keys",
        help="make, list, revoke and rotate API keys",
        description="API keys: every server on the database knows of a change within seconds.",
        epilog=CODES,
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = add_action(actions, "create", "make a key and print it; it cannot be shown again")
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=[*Scope],
        help="what it opens; may be given several times",
    )
    create.add_argument("--expires", type=duration, metavar="DURATION", help="when it ends, as 90d")
    create.add_argument("--prefix", type=_prefix, default="", help="only for calls whose ids begin with this")
    create.add_argument("--note", default="", help="what it is for, for the list")
    add_action(actions, "list", "show all keys, without what would open anything")
    revoke = add_action(actions, "revoke", "end a key now; its open sockets are closed within 5 s")
    rotate = add_action(actions, "rotate", "make a key that opens the same; the old one ends later")
    rotate.add_argument(
        "--overlap",
        type=duration,
        default=timedelta(days=1),
        metavar="DURATION",
        help="how long the old one goes on (default 1d)",
    )
    for action in (revoke, rotate):
        action.add_argument("key_id", metavar="ID", help="the part between the underscores")


def add_action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """Add an action that works at the database to those of a command."""
    action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=CODES)
    _add_data_dir(action)
    return action


def add_purge_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `purge` to *commands*."""
    purging = commands.add_parser(
        "purge",
        help="delete calls that ended long ago",
        description="Delete calls that ended long ago, with all they have; servers may go on meanwhile.",
        epilog=CODES,
    )
    purging.add_argument(
        "--older-than",
        type=duration,
        required=True,
        metavar="DURATION",
        help="how long ago they must have ended, as 90d",
    )
    _add_data_dir(purging)


async def run_purge(settings: Settings, options: argparse.Namespace) -> str:
    """Do what `purge` was asked for, and return what to print.

    Raises:
        StartupError: the database cannot be used.
    """
    async with open_database(settings) as connection:
        purged = await purge(connection, older_than=options.older_than)
        detail = {"older_than": str(options.older_than), "calls": purged}
        await try_to_write_audit(connection, name_actor(), "calls purged", detail=detail)
        return f"calls purged: {purged}"


def _add_data_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", help="where the own PostgreSQL keeps its data")


def name_actor() -> str:
    """Return who works at the command line, as the audit has it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


async def run_keys(settings: Settings, options: argparse.Namespace) -> str:
    """Do what `keys` was asked for, and return what to print.

    Raises:
        UnknownKey: there is no such key.
        StartupError: the database cannot be used.
    """
    async with open_database(settings) as connection:
        actor = name_actor()
        match options.action:
            case "create":
                return await create_key(
                    connection,
                    actor,
                    frozenset(map(Scope, options.scope)),
                    prefix=options.prefix,
                    note=options.note,
                    lifetime=options.expires,
                )
            case "revoke":
                await revoke_key(connection, actor, options.key_id)
                return f"{options.key_id} has ended"
            case "rotate":
                return await rotate_key(connection, actor, options.key_id, overlap=options.overlap)
            case _:
                return make_table(_HEAD, *map(_row, await list_keys(connection)))


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Connection]:
    """Connect to the servers' database; the own PostgreSQL is started if it does not run."""
    dsn = settings.database_url or find_running(data_dir_of(settings))
    if dsn is None:
        async with (
            EmbeddedPostgres(data_dir=data_dir_of(settings)) as postgres,
            _connected(postgres.dsn) as own,
        ):
            yield own
    else:
        async with _connected(dsn) as connection:
            yield connection


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    await wait_for_database(dsn, patience=0)
    await migrate(dsn)
    async with connected(dsn) as connection:
        yield connection


def make_table(*rows: Sequence[str]) -> str:
    """Return *rows* in columns, the first being their names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _row(key: StoredKey) -> tuple[str, ...]:
    state = "good" if key.is_live else "revoked" if key.revoked_at else "expired"
    return (
        key.key_id,
        ",".join(key.scopes),
        key.prefix,
        tell_minute(key.created_at),
        tell_minute(key.expires_at),
        state,
        key.note,
    )


def tell_minute(at: datetime | None) -> str:
    """Return *at* as a table has it."""
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M}Z"
