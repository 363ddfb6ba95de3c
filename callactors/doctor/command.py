"""The command `doctor`."""

import argparse
import json
from typing import NamedTuple

from callactors.app import data_dir_of
from callactors.doctor.database import check_database
from callactors.doctor.findings import Finding, Level, error, ok, warning
from callactors.doctor.machine import check_extras, check_files, check_own_postgres
from callactors.errors import NatsNotFound, TlsFailed
from callactors.settings import Settings
from callactors.store.embedded import find_running
from callactors.tls import make_context


class Diagnosis(NamedTuple):
    """What to print, and the exit code."""

    text: str
    code: int


def add_doctor_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    """Add `doctor` to *commands*, and return it."""
    doctor = commands.add_parser(
        "doctor",
        help="look whether all is well, and say how to mend what is not",
        description="Look at the database, this machine and the settings, as `serve` would find them with the"
        " same flags and variables, and change nothing. Each line is ok, a warning, or an error, by which a"
        " server does not start or does not keep what it promises; behind the colon stands the mend.",
        epilog="Exit codes: 0 all is well, or there are only warnings; 1 warnings, with --strict; 2 errors,"
        " or wrong usage. Every flag is also a variable, as for `serve`.",
    )
    doctor.add_argument("--strict", action="store_true", help="end with 1 if there are warnings")
    doctor.add_argument("--json", action="store_true", help="print one line of JSON in place of the table")
    return doctor


async def run_doctor(settings: Settings, options: argparse.Namespace) -> Diagnosis:
    """Do what `doctor` was asked for."""
    found = [*await _look_at_database(settings), check_files(settings), _check_tls(settings)]
    found += [*check_extras(settings), *await _look_at_nats(settings)]
    return diagnose(found, is_strict=options.strict, as_json=options.json)


def diagnose(found: list[Finding], *, is_strict: bool, as_json: bool) -> Diagnosis:
    """Return what to say of all that was *found*."""
    errors, warnings = (sum(one.level is level for one in found) for level in (Level.ERROR, Level.WARNING))
    code = 2 if errors else 1 if warnings and is_strict else 0
    if as_json:
        told = {"errors": errors, "warnings": warnings, "checks": [one._asdict() for one in found]}
        return Diagnosis(json.dumps(told), code)
    return Diagnosis("\n".join([*map(str, found), f"errors: {errors}, warnings: {warnings}"]), code)


async def _look_at_database(settings: Settings) -> list[Finding]:
    if settings.database_url is not None:
        return await check_database(settings.database_url, settings)
    if settings.ephemeral:
        return [ok("database", "a server makes one of its own, and deletes it at its end")]
    data_dir = data_dir_of(settings)
    found = list(check_own_postgres(data_dir))
    try:
        dsn = find_running(data_dir)
    except OSError as failure:
        text = f"{failure.filename}: {failure.strerror}"
        return [*found, error("database", text, "ask as the user that the server runs as")]
    if dsn is None:
        text = "the own PostgreSQL does not run, so that nothing in it was looked at"
        return [*found, warning("database", text, "start the server, and ask again")]
    return [*found, *await check_database(dsn, settings)]


async def _look_at_nats(settings: Settings) -> list[Finding]:
    if not settings.nats:
        return []
    try:
        from callactors.doctor.cluster import check_nats  # noqa: PLC0415  an extra, for who asks for it
    except ImportError:
        return [error("nats", str(NatsNotFound()))]
    return await check_nats(settings)


def _check_tls(settings: Settings) -> Finding:
    try:
        context = make_context(settings)
    except TlsFailed as failure:
        return error("tls", str(failure))
    return ok("tls", "is not served" if context is None else f"is served with {settings.tls_cert}")
