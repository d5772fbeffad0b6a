"""Core: what the detector knows of one host, and which state may follow which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vmha.manager.clock_check import ClockCheck
from vmha.model import EvacuationState, HostState, PeerVerdict

H = HostState

TRANSITIONS: dict[HostState, frozenset[HostState]] = {
    H.UNKNOWN: frozenset({H.HEALTHY, H.IN_MAINTENANCE, H.ISOLATED, H.AGENT_LOST, H.SUSPECT, H.DOWN}),
    H.HEALTHY: frozenset({H.IN_MAINTENANCE, H.ISOLATED, H.AGENT_LOST, H.SUSPECT, H.DOWN, H.UNKNOWN}),
    H.IN_MAINTENANCE: frozenset({H.HEALTHY, H.ISOLATED, H.AGENT_LOST, H.SUSPECT, H.DOWN, H.UNKNOWN}),
    H.ISOLATED: frozenset({H.HEALTHY, H.IN_MAINTENANCE, H.AGENT_LOST, H.SUSPECT, H.DOWN}),
    H.AGENT_LOST: frozenset({H.HEALTHY, H.IN_MAINTENANCE, H.ISOLATED, H.SUSPECT, H.DOWN}),
    H.SUSPECT: frozenset({H.HEALTHY, H.IN_MAINTENANCE, H.ISOLATED, H.AGENT_LOST, H.COOLDOWN, H.DOWN}),
    H.COOLDOWN: frozenset({H.HEALTHY, H.IN_MAINTENANCE, H.ISOLATED, H.AGENT_LOST, H.DOWN}),
    H.DOWN: frozenset({H.FENCING, H.FENCE_PENDING, H.FENCED, H.UNKNOWN, H.HEALTHY, H.IN_MAINTENANCE}),
    H.FENCING: frozenset({H.FENCE_PENDING, H.FENCED, H.UNKNOWN, H.HEALTHY, H.IN_MAINTENANCE}),
    H.FENCE_PENDING: frozenset({H.FENCING, H.FENCED, H.UNKNOWN, H.HEALTHY, H.IN_MAINTENANCE}),
    H.FENCED: frozenset({H.EVACUATING, H.EVACUATED, H.UNKNOWN, H.HEALTHY, H.IN_MAINTENANCE}),
    H.EVACUATING: frozenset({H.EVACUATED, H.UNKNOWN, H.HEALTHY, H.IN_MAINTENANCE}),
    H.EVACUATED: frozenset({H.HEALTHY, H.IN_MAINTENANCE}),
}
"""The machine (design section 4). A change that is not in it raises, and changes nothing."""

NO_INCARNATION = frozenset({H.EVACUATED})
"""Nothing of such a host is in force: a completed registration brings it back, no heartbeat does."""
IN_INCIDENT = frozenset({H.DOWN, H.FENCING, H.FENCE_PENDING, H.FENCED, H.EVACUATING})
SUSPECTED = frozenset({H.SUSPECT, H.COOLDOWN})
STREAMING = frozenset({H.HEALTHY, H.IN_MAINTENANCE})
LONG_AGO = -1e18
"""Earlier than anything."""
FLAPPING_WINDOW_S = 3600.0
FLAPPING_FROM = 3
CLEARED_KEPT = 16
FLAPPING_COOLDOWN_MAX_S = 600.0
FLAPPING_COOLDOWN_MIN_S = 10.0
"""Doubling starts from here where the cluster's own cooldown is shorter."""


class IllegalInput(Exception):
    """The detector was told something that cannot be: our bug. Nothing was changed."""


@dataclass(slots=True)
class Suspicion:
    """A suspicion under way. `confirm_at` is unset until the store holds it."""

    since: float
    cooldown_s: float
    evidence: str
    confirm_at: float | None = None
    asked_at: float = 0.0
    confirm_asked_at: float | None = None
    fence_decides: bool = False
    """Too few credible reporters: only a fence that reads "off" can prove it."""
    held_at: float | None = None
    """When too many hosts were silent last, and it was held with them."""


@dataclass(slots=True)
class OpenIncident:
    """A confirmed failure, from ConfirmEnded until the evacuation is over. `evacuation` is the evacuator's last word."""

    incident_id: str
    evacuation: EvacuationState | None = None
    cancelling: bool = False
    registered: bool = False
    was_proven: bool = False
    """A former run of the manager heard that its death is proven."""
    fence_decides: bool = False
    """It was confirmed without a quorum: no lease proof is given for it."""
    lease_proven: bool = False
    """The evacuator was told in this run that the lease has run out."""

    @property
    def lets_register(self) -> bool:
        """Whether nothing that the evacuator may still claim stands against a new incarnation (docs/decisions/002)."""
        return self.evacuation is not None and (self.evacuation is EvacuationState.PENDING or self.evacuation.is_terminal)

    @property
    def is_proven(self) -> bool:
        """Whether the host's death was proven."""
        return self.was_proven if self.evacuation is None else self.evacuation.is_proven


@dataclass(slots=True)
class HostView:
    """One host. Times are seconds on the manager's clock; None where a thing never happened in this run."""

    host_id: str
    state: HostState
    started_at: float
    boot_id: str = ""
    in_maintenance: bool = False
    heard_at: float | None = None
    relayed_at: float | None = None
    planned_until: float | None = None
    probe: PeerVerdict | None = None
    probed_at: float = LONG_AGO
    probe_asked_at: float = LONG_AGO
    suspicion: Suspicion | None = None
    incident: OpenIncident | None = None
    wants_registration: bool = False
    registration_asked_at: float = LONG_AGO
    cleared: tuple[float, ...] = ()
    """When it was suspected in vain, the newest last."""
    scout_id: str = ""
    scouts: dict[str, PeerVerdict] = field(default_factory=dict)
    scouts_asked: tuple[str, ...] = ()
    scouted_at: float = LONG_AGO
    alarms: set[str] = field(default_factory=set)
    held: str = ""
    due: float = 0.0
    created_at: float = 0.0
    """Since when this run knows it; `started_at` is later where what was said could not be heard."""
    has_fence: bool = False
    self_fencing: bool = False
    """Its agent's newest word: it holds a guard."""
    watchdog: bool = False
    announced_watchdog: bool = False
    """What its newest hello said of a watchdog; `watchdog` is what holds for its silence."""
    agent_gone: bool = False
    """Its agent ended before anything else of it was lost."""
    reached_at: float = LONG_AGO
    """When anybody last reached its kernel."""
    lease_held: str = ""
    """Why there is no lease proof for its incident."""
    clock: ClockCheck = field(default_factory=ClockCheck)
    census: Counter[HostState] = field(default_factory=Counter)
    """How many hosts of the cluster are in which state; shared by all of them."""

    @property
    def silent_since(self) -> float:
        """The last sign of life, or the moment from which this run could have heard one."""
        return max(self.started_at, self.last_heard_at)

    @property
    def quiet_since(self) -> float:
        """The last sign of life, for people; `silent_since` is later where what was said could not be heard."""
        return self.started_at if self.last_heard_at == LONG_AGO else self.last_heard_at

    @property
    def last_heard_at(self) -> float:
        """The last sign of life in this run; long ago where there was none."""
        return max(LONG_AGO if at is None else at for at in (self.heard_at, self.relayed_at, self.registration_asked_at))

    @property
    def last_beat_at(self) -> float:
        """Its last heartbeat, own or relayed; the moment from which this run knows it where there was none."""
        return max(self.created_at, *(LONG_AGO if at is None else at for at in (self.heard_at, self.relayed_at)))

    @property
    def is_watched(self) -> bool:
        """Whether silence of this host means anything: it has been there, and no incident of it is open or over."""
        return bool(self.boot_id) and self.state not in IN_INCIDENT and self.state is not HostState.EVACUATED

    def is_flapping(self, now: float) -> bool:
        """Whether it was suspected in vain too often within an hour."""
        return sum(1 for at in self.cleared if now - at < FLAPPING_WINDOW_S) >= FLAPPING_FROM - 1

    def cooldown_s(self, base_s: float, now: float) -> float:
        """The cooldown of its next suspicion: doubled from the third within an hour on."""
        recent = sum(1 for at in self.cleared if now - at < FLAPPING_WINDOW_S) + 1
        if recent < FLAPPING_FROM:
            return base_s
        doubled: float = max(base_s, FLAPPING_COOLDOWN_MIN_S) * 2 ** (recent - FLAPPING_FROM + 1)
        return min(max(doubled, base_s), max(FLAPPING_COOLDOWN_MAX_S, base_s))

    def note_cleared(self, *times: float) -> None:
        """It was suspected in vain."""
        self.cleared = (*self.cleared, *times)[-CLEARED_KEPT:]

    @property
    def is_asked(self) -> bool:
        """Whether the store is being asked to confirm it down: from here on nothing but its answer counts."""
        return self.suspicion is not None and self.suspicion.confirm_asked_at is not None

    def may_enter(self, new: HostState) -> bool:
        """Whether the machine allows a change of state."""
        return new in TRANSITIONS[self.state]

    def enter(self, new: HostState) -> None:
        """Change its state.

        Raises:
            IllegalInput: The machine does not allow it; nothing was changed.
        """
        if not self.may_enter(new):
            raise IllegalInput(f"{self.host_id}: {self.state} -> {new} is not in the table")
        self.census[self.state] -= 1
        self.census[new] += 1
        self.state = new
