"""What the commands `simulate` and `replay` can be told."""

import argparse
from collections.abc import Callable
from math import inf, isfinite
from pathlib import Path
from urllib.parse import urlsplit

from callactors.simulate.dialects import DIALECTS


def add_simulate_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `simulate` to *commands*."""
    simulate = commands.add_parser(
        "simulate",
        help="make calls to a server as a telephony vendor would",
        description="Make many calls at once, with made-up audio in real time, as a telephony vendor sends"
        " them to a server's media WebSocket; then ask the server about each call, and compare.",
        epilog="The exit code is 0 only if the server took all calls, and knows of each what was sent, what"
        " was lost on the way, and how it ended; else it is 1, and 2 for wrong usage.",
    )
    simulate.add_argument(
        "--vendor", choices=list(DIALECTS), default="twilio", help="whose format to speak (default twilio)"
    )
    simulate.add_argument("--calls", type=_count, default=1, help="how many calls (default 1)")
    simulate.add_argument("--seconds", type=_seconds, default=10.0, help="how long each lasts (default 10)")
    _add_server(simulate)
    for name, what in (
        ("loss", "numbered message is never sent"),
        ("reorder", "message changes its place with the next"),
        ("duplicate", "message is sent twice"),
        ("drop", "call's connection is cut before its end"),
    ):
        text = f"chance that a {what}, 0 to 1 (default 0)"
        simulate.add_argument(f"--{name}", type=_chance, default=0.0, help=text)
    simulate.add_argument("--ramp", type=_seconds, default=1.0, help="seconds in which all begin (default 1)")
    simulate.add_argument("--seed", type=int, help="makes the same trouble again (default: a new one)")
    simulate.add_argument(
        "--patience",
        type=_seconds,
        default=60.0,
        help="seconds to wait for the right answers (default 60)",
    )
    simulate.add_argument("--record", type=Path, metavar="FILE", help="write what is sent, for `replay`")
    simulate.add_argument("--json", action="store_true", help="print one line of JSON in place of the table")


def add_replay_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `replay` to *commands*."""
    replaying = commands.add_parser(
        "replay",
        help="send a captured session to a server again",
        description="Send what was captured, as `simulate --record` writes it, on the same connections.",
        epilog='Each line is JSON: {"at": seconds, "connection": "a", "path": "/v1/media", "text": "..."}, or'
        ' with "binary": base64, or with "close": code (1006: the connection broke off). The exit code is 0'
        " only if the server took all; else it is 1, and 2 for wrong usage or a file that is no capture.",
    )
    replaying.add_argument("file", type=Path, metavar="FILE", help="JSON Lines")
    replaying.add_argument(
        "--speed", type=_speed, default=1.0, help="how many times as fast as it was, or max (default 1)"
    )
    _add_server(replaying)


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("url", type=_url, metavar="URL", help="the server, as http://127.0.0.1:8000")
    command.add_argument("--key", help="the API key, for sending and for asking")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.query or parts.fragment or parts.username is not None:
        raise argparse.ArgumentTypeError("write the server's address as http://127.0.0.1:8000")
    return text.rstrip("/")


def _number(text: str, is_good: Callable[[float], bool], wanted: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = inf
    if not isfinite(number) or not is_good(number):
        raise argparse.ArgumentTypeError(f"must be {wanted}")
    return number


def _count(text: str) -> int:
    return int(
        _number(text, lambda number: number >= 1 and number == int(number), "a whole number from 1 on")
    )


def _seconds(text: str) -> float:
    return _number(text, lambda number: number >= 0, "a number of seconds")


def _chance(text: str) -> float:
    return _number(text, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def _speed(text: str) -> float:
    return inf if text == "max" else _number(text, lambda number: number > 0, "a number above 0, or max")
