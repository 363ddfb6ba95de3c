"""The types of what conftest.py makes."""

from collections.abc import Awaitable, Callable

from tests.acceptance.checker import Report
from tests.acceptance.client import Client
from tests.acceptance.server import Server
from tests.acceptance.supervisor import Supervisor

Serve = Callable[..., Awaitable[Server]]
Connect = Callable[[Server], Client]
Watch = Callable[..., Awaitable[Supervisor]]
Check = Callable[[Client], Awaitable[Report]]
