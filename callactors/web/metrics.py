"""What a server counts, as Prometheus has it. The parts keep plain numbers."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily as HistogramFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from callactors.counts import Histogram
from callactors.processors.gate import GateState
from callactors.routing import Router
from callactors.system import CallSystem
from callactors.web.problems import ProblemCounts
from callactors.web.supervisor import SUPERVISORS

Family = TypeVar("Family", Counter, Gauge)


def make_writer(system: CallSystem, problems: ProblemCounts) -> Callable[[], bytes]:
    """Return what writes, in the text format, what `make_registry` has."""
    return partial(generate_latest, make_registry(system, problems))


def make_registry(system: CallSystem, problems: ProblemCounts) -> CollectorRegistry:
    """Return a registry for *system* and *problems*, which shares nothing with the process's own."""
    registry = CollectorRegistry()
    registry.register(SystemCollector(system, problems))
    ProcessCollector(registry=registry)
    return registry


class SystemCollector(Collector):
    """Reads, when it is asked, the numbers that the parts of *system* and its front keep."""

    def __init__(self, system: CallSystem, problems: ProblemCounts) -> None:
        self._system = system
        self._problems = problems

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_packets()
        yield from self._collect_storage()
        yield from self._collect_actors()
        yield from self._collect_ai_step()
        yield from self._collect_calls()
        yield from self._collect_supervising()
        yield from self._collect_webhooks()
        if self._system.router is not None:
            yield from self._collect_routing(self._system.router)

    def _collect_packets(self) -> Iterator[Metric]:
        counts = self._system.counts
        packets = {"accepted": self._system.journal.packets, "duplicate": counts.duplicates}
        yield _with(Counter("callactors_packets", "Packets answered as stored.", labels=["outcome"]), packets)
        yield Counter(
            "callactors_packets_late", "Accepted packets that came behind their place.", counts.late
        )
        yield Counter("callactors_packet_gaps", "Accepted packets with others missing before.", counts.gaps)
        problems = Counter("callactors_problems", "Answers with a problem.", labels=["route", "problem"])
        for labels, count in self._problems.items():
            problems.add_metric(labels, count)
        yield problems
        text = "From when a packet was with its call's actor until it was committed."
        yield _histogram("callactors_ack_seconds", text, counts.acks)

    def _collect_storage(self) -> Iterator[Metric]:
        journal = self._system.journal
        yield _histogram("callactors_flush_seconds", "How long a flush took.", journal.flush_seconds)
        yield _histogram("callactors_flush_items", "Packets and other changes in it.", journal.flush_items)
        yield Gauge("callactors_journal_items", "Those that are not committed yet.", journal.items)
        yield Gauge("callactors_journal_bytes", "What they take.", journal.size)
        yield Counter("callactors_fenced", "Calls found to have another owner.", journal.fenced)
        text = "For how long the oldest change or claim has been waiting for the database."
        yield Gauge("callactors_storage_lag_seconds", text, self._system.storage_lag)
        size, idle = self._system.connections
        pool = Gauge("callactors_pool_connections", "Connections for reads.", labels=["state"])
        yield _with(pool, {"busy": size - idle, "idle": idle})

    def _collect_actors(self) -> Iterator[Metric]:
        registry = self._system.registry
        yield Gauge("callactors_actors", "Calls that are in memory.", len(registry))
        yield Counter("callactors_actor_activations", "Actors made.", registry.activations)
        yield Counter("callactors_actor_passivations", "Actors that left in order.", registry.passivations)
        yield Counter("callactors_actor_restarts", "Actors that failed.", registry.restarts)
        mailboxes = registry.look()
        yield Gauge("callactors_mailbox_messages", "Messages in all mailboxes.", mailboxes.messages)
        yield Gauge("callactors_mailbox_fullest", "Messages in the fullest one.", mailboxes.fullest)
        yield Gauge("callactors_mailbox_oldest_seconds", "Age of the oldest message.", mailboxes.age)

    def _collect_ai_step(self) -> Iterator[Metric]:
        text = "How long attempts took."
        attempts = HistogramFamily("callactors_attempt_seconds", text, labels=["outcome"])
        for outcome, histogram in self._system.counts.attempts.items():
            attempts.add_metric([outcome], _buckets(histogram), histogram.sum)
        yield attempts
        gate = self._system.gate
        yield Gauge("callactors_attempts_running", "Attempts that run.", gate.running)
        yield Gauge("callactors_attempts_waiting", "Attempts that wait at the gate.", gate.waiting)
        state = Gauge("callactors_ai_step", "1 for the state of the gate.", labels=["state"])
        yield _with(state, {state: state is gate.state for state in GateState})

    def _collect_calls(self) -> Iterator[Metric]:
        figures = self._system.stats.latest or {"states": {}, "ended": {}}
        live = Gauge("callactors_calls", "Live calls of all servers on the database.", labels=["state"])
        yield _with(live, figures["states"])
        ended = Gauge("callactors_calls_ended", "Calls that ended in the last hour.", labels=["state"])
        yield _with(ended, figures["ended"])

    def _collect_supervising(self) -> Iterator[Metric]:
        feed = self._system.feed
        yield Gauge("callactors_feed_lag_seconds", "For how long events have been held back.", feed.lag)
        yield Gauge("callactors_events_late", "1 if supervisors are told so.", feed.trouble is not None)
        yield Gauge("callactors_supervisors", "Supervisors' sockets.", self._system.hub.count(SUPERVISORS))
        yield Counter("callactors_supervisors_cut_off", "Those that did not read.", feed.cut_off)
        text = "How late the event loop was for what was due, ten times a second."
        yield _histogram("callactors_loop_lag_seconds", text, self._system.loop_lag.seconds)

    def _collect_webhooks(self) -> Iterator[Metric]:
        deliveries = self._system.deliveries
        attempts = Counter("callactors_webhook_attempts", "Attempts to deliver.", labels=["outcome"])
        yield _with(attempts, deliveries.attempts)
        pending, oldest = deliveries.backlog
        yield Gauge("callactors_webhooks_pending", "What endpoints are still to be told.", pending)
        text = "For how long the oldest of it has been due."
        yield Gauge("callactors_webhooks_oldest_seconds", text, oldest)

    def _collect_routing(self, router: Router) -> Iterator[Metric]:
        yield Gauge("callactors_cluster_joined", "1 if the other servers are reached.", router.is_up)
        routed = Counter("callactors_routed", "Messages between servers.", labels=["way"])
        yield _with(routed, vars(router.counts))


def _with(family: Family, values: Mapping[str, float]) -> Family:
    """Return *family*, which has one label, with *values* by that label."""
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramFamily:
    return HistogramFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.sum)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return [*zip(bounds, accumulate(histogram.counts), strict=True)]
