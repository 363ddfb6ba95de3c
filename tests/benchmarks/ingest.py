"""Durable 202s per second over those of a bare handler that stores nothing, on one busy core each."""

from tests.benchmarks.arms import compare
from tests.benchmarks.report import Options, Report


async def ingest(options: Options) -> Report:
    """Measure with 200 calls, whose packets come in order."""
    return await compare("ingest", options, wanted=0.9)
