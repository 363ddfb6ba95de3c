"""SystemOptions: how a system works."""

from dataclasses import dataclass, field
from datetime import timedelta

from callactors.actors.registry import RegistryLimits
from callactors.deliveries import DeliveryOptions
from callactors.legs import Lifetimes
from callactors.processors.gate import GateLimits
from callactors.retry import RetryPolicy
from callactors.store.journal import JournalLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemOptions:
    """How a system works; times in seconds. *node* must differ between servers on one database.

    *max_call_packets* and *max_call_size*, in characters of data, are what a call may have; what comes
    together with the last of it is taken too. Calls that ended longer ago than *retention* are purged; None
    keeps them for ever.
    """

    node: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    gate: GateLimits = field(default_factory=GateLimits)
    grace: float = 1.0
    drop_timeout: float = 30.0
    call_idle_timeout: float = 3_600.0
    max_call_duration: float = 86_400.0
    ack_timeout: float = 5.0
    drain_timeout: float = 10.0
    max_call_packets: int = 5_000_000
    max_call_size: int = 4 * 1024**3
    database_patience: float = 60.0
    is_unsafe_durability_allowed: bool = False
    retention: timedelta | None = None
    registry: RegistryLimits = field(default_factory=RegistryLimits)
    journal: JournalLimits = field(default_factory=JournalLimits)
    deliveries: DeliveryOptions = field(default_factory=DeliveryOptions)

    @property
    def lifetimes(self) -> Lifetimes:
        return Lifetimes(
            grace=self.grace,
            drop_timeout=self.drop_timeout,
            idle_timeout=self.call_idle_timeout,
            max_duration=self.max_call_duration,
        )
