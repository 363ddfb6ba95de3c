"""The public names: what is there is promised, so that each change of these lists is one to think about."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from callactors import errors

DOCS = (Path(__file__).parent.parent / "docs" / "embedding.md").read_text(encoding="utf-8")
LINE = re.compile(r"^((?:│   |    |├── |└── )*)([A-Z]\w+)(?:  .*)?$", re.MULTILINE)
NAMES = {
    "callactors": """
        setup routes get_calls CallSystem SystemOptions
        Processor CallRecord StoredPacket Audio AudioNotStored Outcome Done Retry GiveUp RetryPolicy
        Packet PacketKind CompleteRequest EndReason Accepted Completed CallState
        CallActor CallServices Message OwnMessage Event EventKind CallEvent
        Authorize Grant Scope GuardRules Limits GateLimits JournalLimits DeliveryOptions
        VendorRules make_verifiers
        CallactorsError
    """,
    "callactors.actors": "Actor ActorRegistry Envelope Home Mailbox RegistryLimits",
    "callactors.cluster": "NatsOptions NatsRouter",
    "callactors.testing": "Databases callactors_databases callactors_dsn callactors_options",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_are_these(module: str) -> None:
    found = import_module(module)
    assert sorted(found.__all__) == sorted(NAMES[module].split())
    assert all(hasattr(found, name) for name in found.__all__)


@pytest.mark.parametrize("module", NAMES)
def test_the_page_on_embedding_lists_them(module: str) -> None:
    (row,) = re.findall(rf"^\| `{module}` \| (.*) \|$", DOCS, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(NAMES[module].split())


def test_the_front_end_is_imported_by_who_asks_for_it() -> None:
    """In another process, since here it is long there."""
    loaded = "any(one.startswith(('callactors.web.', 'aiohttp.web')) for one in sys.modules)"
    program = (
        f"import sys, callactors; print({loaded}); callactors.setup; print({loaded}); callactors.nothing"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"]
    assert done.stderr.endswith("AttributeError: module 'callactors' has no attribute 'nothing'\n")


def drawn() -> Iterator[tuple[str, str]]:
    """Base and name of each error in the drawing."""
    bases = {-1: "Exception"}
    for indent, name in LINE.findall(errors.__doc__ or ""):
        depth = len(indent) // 4
        bases[depth] = name
        yield bases[depth - 1], name


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    known = [found for found in classes if issubclass(found, errors.CallactorsError)]
    assert sorted(drawn()) == sorted((found.__bases__[0].__name__, found.__name__) for found in known)
