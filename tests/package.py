"""`python -m tests.package DIST`: the wheel in DIST, in a clean environment, must serve and stop in order."""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")
_PACKET: Final = b'{"sequence":1,"data":"hello","timestamp":1.0}'
_PAGES: Final = ("/", "/docs", "/openapi.json", "/metrics", "/v1/call/c")


def main(dist: Path) -> None:
    """Install the one wheel in *dist* with what it needs, and use what it serves.

    Raises:
        Exception: something of that failed; its text says what.
    """
    (wheel,) = dist.glob("*.whl")
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        programs = Path(place, "bin")
        install = [str(programs / "pip"), "install", "--quiet", f"{wheel}[embedded,docs]"]
        subprocess.run(install, check=True, cwd=place)
        with serving(programs / "callactors", place) as url:
            stream = urllib.request.Request(f"{url}/v1/call/stream/c", _PACKET)
            stream.add_header("Content-Type", "application/json")
            with urllib.request.urlopen(stream) as answer:
                print(answer.status, json.load(answer)["message"])
            for page in _PAGES:
                with urllib.request.urlopen(url + page) as answer:
                    print(answer.status, page)


@contextmanager
def serving(program: Path, place: str) -> Iterator[str]:
    """Run the server, which must end with 0 when it is told to."""
    command = [str(program), "serve", "--ephemeral", "--port", "0"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = next((found for line in server.stdout if (found := _URL.search(line))), None)
            if found is None:
                raise RuntimeError("the server has ended and told no URL")
            yield found[0]
        finally:
            server.terminate()
    if server.returncode:
        raise RuntimeError(f"the server has ended with {server.returncode}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
