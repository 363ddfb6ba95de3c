"""One actor per call: the names for applications that embed callactors."""

from callactors.errors import AudioNotStored, CallactorsError
from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.processors.contract import Audio, CallRecord, Processor
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.states import CallState
from callactors.store.contents import StoredPacket
from callactors.system import CallSystem, SystemOptions
from callactors.web.keys import get_calls
from callactors.web.setup import routes, setup

__version__ = "0.1.0.dev0"

__all__ = [
    "Audio",
    "AudioNotStored",
    "CallRecord",
    "CallState",
    "CallSystem",
    "CallactorsError",
    "CompleteRequest",
    "Done",
    "EndReason",
    "GiveUp",
    "Outcome",
    "Packet",
    "Processor",
    "Retry",
    "RetryPolicy",
    "StoredPacket",
    "SystemOptions",
    "get_calls",
    "routes",
    "setup",
]
