"""`python -m tests.speech.server` recognises nothing for ever, and prints the process that does it."""

import asyncio

from callactors.processors.workers import Workers


async def _run() -> None:
    async with Workers(1, waiting=0).lend() as worker:
        print(worker.pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run())
