"""The evacuator's Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.metrics import LATENCY_BUCKETS_S
from vmha.model import EvacuationState, VmStep
from vmha.store.records import VmEntry


class Metrics:
    """What the evacuator counts and measures, on a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._running = Gauge("vmha_evac_running", "Evacuations that this process runs now", registry=self.registry)
        self._states = Counter("vmha_evac_states", "Evacuations that entered a state", ["state"], registry=self.registry)
        self._outcomes = Counter("vmha_evac_vm_outcomes", "VMs that got an outcome", ["outcome"], registry=self.registry)
        self._proofs = Counter("vmha_evac_proofs", "Answers of the ladder of proof", ["answer"], registry=self.registry)
        self._durations = Histogram(
            "vmha_evac_operation_seconds",
            "Time that operations take, journal included",
            ["operation", "answer"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )

    def began(self) -> None:
        """A runner began."""
        self._running.inc()

    def ended(self) -> None:
        """A runner ended."""
        self._running.dec()

    def advanced(self, state: EvacuationState) -> None:
        """An evacuation entered a state."""
        self._states.labels(state.value).inc()

    def settled(self, entry: VmEntry) -> None:
        """An entry was written; counts when it is an outcome."""
        if entry.step is VmStep.SETTLED:
            self._outcomes.labels(entry.outcome.value).inc()

    def operated(self, operation: fx.AnyOperation, event: ev.Event, duration_s: float) -> None:
        """An operation ended."""
        self._durations.labels(type(operation).__name__, type(event).__name__).observe(duration_s)
        if isinstance(event, ev.ProofGiven):
            self._proofs.labels(event.kind.value).inc()
        elif isinstance(event, ev.ProofDenied):
            self._proofs.labels(event.reason).inc()
        elif isinstance(event, ev.VmVerified | ev.VmMigrated | ev.VmStopped):
            self.settled(event.entry)
        elif isinstance(event, ev.PlanMade):
            for entry in event.entries:
                self.settled(entry)
