"""As ingest, but every packet is the first of its call: each 202 stands for a claim and a flush."""

from tests.benchmarks.arms import compare
from tests.benchmarks.report import Options, Report


async def new_calls(options: Options) -> Report:
    """Measure with as many calls as packets."""
    return await compare("ingest-new-calls", options, wanted=0.5, are_calls_new=True)
