"""Let the real server run for long under a steady load, and see whether anything grows that should not.

    python -m tests.soak [--minutes 60] [--rate 1000]

Calls come, rest until they have left memory, go on, are completed or forgotten; attempts of the AI step fail
and hang; supervisors come and go; for a sixth of the time, up to its half, a backup has its snapshot open.
In the end it tells what each series does in an hour, by least squares, with the standard error. It ends with
1 if one grows in the second half, if anything acknowledged is lost, or if a supervisor was told wrong.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.soak.report import SAMPLE_HEAD, judge_samples, make_table, tell_sample
from tests.soak.run import Outcome, Soak
from tests.soak.samples import Sample


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 if all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; not less than a quarter")
    parser.add_argument("--rate", type=float, default=1_000.0, help="packets a second")
    options = parser.parse_args(arguments)
    if options.minutes < 0.25:
        parser.error("that is too short for a trend")
    print(SAMPLE_HEAD, flush=True)
    soak = Soak(options.minutes * 60, options.rate, on_sample=_print_sample)
    with tempfile.TemporaryDirectory(prefix="callactors-soak-") as name:
        outcome = asyncio.run(soak.run(Path(name)))
    judged = judge_samples(outcome.samples)
    print(f"\n{make_table(judged)}\n\n{_tell(outcome)}")
    is_well = not (outcome.lost or outcome.unended or outcome.wrong)
    return 0 if is_well and not any(one.verdict == "GROWS" for one in judged) else 1


def _print_sample(sample: Sample) -> None:
    print(tell_sample(sample), flush=True)


def _tell(outcome: Outcome) -> str:
    wrong = ", ".join(f"{count} {what}" for what, count in outcome.wrong.items())
    setbacks = ", ".join(f"{count} times {what}" for what, count in outcome.setbacks.items())
    return (
        f"{outcome.acked:,} packets acknowledged in {outcome.calls:,} calls, {outcome.lost:,} of them lost;"
        f" {outcome.unended:,} calls have not ended\n"
        f"instead of an answer: {setbacks or 'never anything'}\n"
        f"supervisors were told wrong: {wrong or 'nothing'}\n"
        f"the server was busy for {outcome.busy:.2f} of a core"
    )


if __name__ == "__main__":
    sys.exit(main())
