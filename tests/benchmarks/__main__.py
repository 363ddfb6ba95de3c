"""`python -m tests.benchmarks [NAME...]` measures, prints tables, and with --json a line of JSON for each."""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.benchmarks.body import body
from tests.benchmarks.burst import burst
from tests.benchmarks.cluster import cluster
from tests.benchmarks.fairness import fairness
from tests.benchmarks.fanout import fanout
from tests.benchmarks.growth import growth
from tests.benchmarks.hostile import hostile
from tests.benchmarks.imports import imports
from tests.benchmarks.ingest import ingest
from tests.benchmarks.memory import memory
from tests.benchmarks.metrics import metrics
from tests.benchmarks.mischief import KINDS
from tests.benchmarks.new_calls import new_calls
from tests.benchmarks.overload import overload
from tests.benchmarks.recovery import recovery
from tests.benchmarks.report import Benchmark, Options, Report
from tests.benchmarks.streams import stream_ndjson, stream_websocket
from tests.benchmarks.telephony import telephony
from tests.benchmarks.webhooks import webhooks

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "ingest": ingest,
    "ingest-new-calls": new_calls,
    "stream-ndjson": stream_ndjson,
    "stream-websocket": stream_websocket,
    "fanout": fanout,
    "memory": memory,
    "recovery": recovery,
    "growth": growth,
    "overload": overload,
    "fairness": fairness,
    "hostile": hostile,
    "body": body,
    "telephony": telephony,
    "burst": burst,
    "metrics": metrics,
    "cluster": cluster,
    "imports": imports,
    "webhooks": webhooks,
}


_ON_UVLOOP: Final = ("ingest", "ingest-new-calls", "stream-ndjson", "stream-websocket")


def main() -> None:
    """Run the benchmarks that are named, or all."""
    arguments = _read_arguments()
    options = Options(
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        profile=arguments.profile,
        is_long=arguments.long,
        on_uvloop=arguments.uvloop,
        kinds=tuple(arguments.kinds),
    )
    reports = []
    for name in arguments.names or (_ON_UVLOOP if arguments.uvloop else BENCHMARKS):
        report = asyncio.run(BENCHMARKS[name](options))
        if options.profile is not None:
            report = replace(report, problems=[*report.problems, "--profile slows the server down"])
        reports.append(report)
        _print(report, has_json=arguments.json)
    if arguments.plot is not None:
        form = "long" if options.is_long else "short"
        _plot(reports, arguments.plot, f"{datetime.now(tz=UTC):%d %B %Y}, the {form} form")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--json", action="store_true", help="print a JSON object behind each table")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round in an arm (default 3)")
    parser.add_argument("--rounds", type=int, default=4, help="in each arm (default 4)")
    parser.add_argument("--long", action="store_true", help="measure at the sizes the figures are stated for")
    parser.add_argument(
        "--uvloop", action="store_true", help=f"on uvloop over on asyncio's own loop: {', '.join(_ON_UVLOOP)}"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="DIR", help="draw performance-*.svg there, of all that is measured now"
    )
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=(),
        metavar="KIND",
        help=f"of hostile: {', '.join(KINDS)}",
    )
    parser.add_argument("--profile", type=Path, metavar="FILE", help="run the server under cProfile")
    return parser


def _read_arguments() -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if arguments.seconds <= 0 or arguments.rounds < 1:
        parser.error("--seconds and --rounds must be positive")
    if arguments.uvloop and find_spec("uvloop") is None:
        parser.error("uvloop is not installed: install callactors[uvloop]")
    if arguments.uvloop and (others := set(arguments.names) - set(_ON_UVLOOP)):
        parser.error(f"--uvloop is not for {', '.join(sorted(others))}")
    if arguments.plot is not None and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: install callactors[bench]")
    return arguments


def _print(report: Report, *, has_json: bool) -> None:
    print("\n".join(report.lines), flush=True)
    for problem in report.problems:
        print(f"warning: {problem}", file=sys.stderr, flush=True)
    if has_json:
        print(report.to_json(), flush=True)


def _plot(reports: Sequence[Report], directory: Path, title: str) -> None:
    from tests.benchmarks.plots import draw  # noqa: PLC0415  matplotlib is only there for who plots

    for path in draw([report.told for report in reports], directory, title=title):
        print(f"drawn: {path}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
