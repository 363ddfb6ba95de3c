"""`python -m tests.contract [OPTION...]`: to made-up requests the server answers what it says it does.

Requests are made by schemathesis from /openapi.json. Without options it makes few, for less than a minute;
options are schemathesis's own, for instance `--max-examples=500 --max-time=600`.
"""

import asyncio
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callactors.access import Scope
from callactors.store.embedded import EmbeddedPostgres
from tests.acceptance.server import Server, run

_CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
_HOOKS: Final = {"PYTHONPATH": str(_CONFIG.parents[2]), "SCHEMATHESIS_HOOKS": "tests.contract.lines"}
_PHASES: Final = "--phases=coverage,fuzzing,stateful"  # it cannot send the example of NDJSON
_SHORT: Final = ("--max-examples=100", "--seed=1")
_FAST: Final = {"fsync": "off", "full_page_writes": "off"}


async def check(options: Sequence[str]) -> int:
    """Return schemathesis's exit code; the server's log must be clean too."""
    program = shutil.which("schemathesis", path=sysconfig.get_path("scripts"))
    if program is None:
        sys.exit("no schemathesis here: `tox -e contract` has it")
    postgres = EmbeddedPostgres(data_dir=None, settings=_FAST)
    try:
        dsn = await postgres.start()
        with tempfile.TemporaryDirectory() as place:
            async with Server(Path(place), dsn=dsn) as server:
                key = await _make_key(Path(place), dsn)
                command = (program, f"--config-file={_CONFIG}", "run", f"{server.url}/openapi.json")
                fixed = (
                    f"--url={server.url}",
                    f"--header=Authorization: Bearer {key}",
                    "--warnings=off",
                    _PHASES,
                )
                process = await asyncio.create_subprocess_exec(
                    *command, *fixed, *options, cwd=place, env=os.environ | _HOOKS
                )
                return await process.wait()
    finally:
        await postgres.stop()


async def _make_key(place: Path, dsn: str) -> str:
    scopes = [f"--scope={scope}" for scope in Scope]
    return (await run(place, "keys", "create", *scopes, dsn=dsn)).out.strip()


if __name__ == "__main__":
    sys.exit(asyncio.run(check(sys.argv[1:] or _SHORT)))
