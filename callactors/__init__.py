"""One actor per call: the names for applications that embed callactors.

Those of the HTTP front end are imported when they are first asked for, so that who runs actors without it
does not wait.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from callactors.access import Grant, Scope
from callactors.call_actor import CallActor, CallServices
from callactors.call_events import CallEvent
from callactors.deliveries import DeliveryOptions
from callactors.errors import AudioNotStored, CallactorsError
from callactors.facts import Accepted, Completed, Event, EventKind
from callactors.messages import Message, OwnMessage
from callactors.options import SystemOptions
from callactors.packets import CompleteRequest, EndReason, Packet, PacketKind
from callactors.processors.contract import Audio, CallRecord, Processor
from callactors.processors.gate import GateLimits
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.states import CallState
from callactors.store.contents import StoredPacket
from callactors.store.journal import JournalLimits
from callactors.system import CallSystem

if TYPE_CHECKING:
    from callactors.web.guard import Authorize, GuardRules
    from callactors.web.keys import get_calls
    from callactors.web.limits import Limits
    from callactors.web.setup import routes, setup
    from callactors.web.vendor_access import VendorRules, make_verifiers
else:
    _FRONT_END = {
        "Authorize": "guard",
        "GuardRules": "guard",
        "Limits": "limits",
        "VendorRules": "vendor_access",
        "get_calls": "keys",
        "make_verifiers": "vendor_access",
        "routes": "setup",
        "setup": "setup",
    }

    def __getattr__(name: str) -> object:
        if name not in _FRONT_END:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.web.{_FRONT_END[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0.dev0"

__all__ = [
    "Accepted",
    "Audio",
    "AudioNotStored",
    "Authorize",
    "CallActor",
    "CallEvent",
    "CallRecord",
    "CallServices",
    "CallState",
    "CallSystem",
    "CallactorsError",
    "CompleteRequest",
    "Completed",
    "DeliveryOptions",
    "Done",
    "EndReason",
    "Event",
    "EventKind",
    "GateLimits",
    "GiveUp",
    "Grant",
    "GuardRules",
    "JournalLimits",
    "Limits",
    "Message",
    "Outcome",
    "OwnMessage",
    "Packet",
    "PacketKind",
    "Processor",
    "Retry",
    "RetryPolicy",
    "Scope",
    "StoredPacket",
    "SystemOptions",
    "VendorRules",
    "get_calls",
    "make_verifiers",
    "routes",
    "setup",
]
