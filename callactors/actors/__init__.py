"""The actor runtime: mailboxes, actors and their registry. It knows no calls."""

from callactors.actors.actor import Actor, Home
from callactors.actors.mailbox import Envelope, Mailbox
from callactors.actors.registry import ActorRegistry, RegistryLimits

__all__ = ["Actor", "ActorRegistry", "Envelope", "Home", "Mailbox", "RegistryLimits"]
