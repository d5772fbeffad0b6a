"""What the lease is told, what it wants done, and what of it outlives the agent. All times are seconds on CLOCK_BOOTTIME."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

NEVER = float("-inf")
"""The end of a lease or certificate that was never given."""


class GuardState(StrEnum):
    """What lets a host keep its VMs (docs/safety.md)."""

    EMPTY = "EMPTY"
    """Nothing was ever promised: no ack yet, or the cluster does not enforce leases."""
    LEASED = "LEASED"
    """The manager's ack holds."""
    CERTIFIED = "CERTIFIED"
    """A majority's word that the manager is gone holds."""
    LATCHED = "LATCHED"
    """Expired: this incarnation is finished for ever (R3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseConfig:
    """What a configuration of the cluster says about the lease (R18).

    Attributes:
        enforced: The cluster is protected and its agents destroy their VMs when the guard expires.
        voters: Hosts whose word counts.
        certificate_quorum: Voters that make a certificate, the host itself included where it votes (C).
    """

    version: int
    enforced: bool
    voters: tuple[str, ...]
    certificate_quorum: int
    relay_after_s: float
    certificate_window_s: float
    attest_after_s: float
    ack_max_age_s: float
    lease_duration_s: float
    request_interval_s: float
    kill_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What must be on tmpfs before it takes effect outside (R9).

    Attributes:
        incarnation: The registration in force; 0 without one.
        leased_incarnation: The registration under which `lease_until` was given.
        carried_until: The end of an earlier registration's guard, which VMs that ran through the change keep.
        vms_gone: After the latch: every VM was verified to be gone.
    """

    incarnation: int = 0
    leased_incarnation: int = 0
    last_ack: float = NEVER
    lease_until: float = NEVER
    cert_until: float = NEVER
    carried_until: float = NEVER
    latched: bool = False
    vms_gone: bool = False
    config: LeaseConfig | None = None


# Events


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigTaken:
    """A newer configuration came from the manager."""

    config: LeaseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An offer for the current boot token was taken (R14)."""

    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregistered:
    """The registration was revoked; its VMs keep what is left of its guard."""


class HeartbeatSent(NamedTuple):
    """A heartbeat is about to be handed to the socket (R1)."""

    sequence: int


class AckReceived(NamedTuple):
    """An ack, from the manager or through a peer."""

    incarnation: int
    sequence: int
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAsked:
    """A request to relay or attest is about to be handed to the socket."""

    host_id: str
    request_nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestReceived:
    """A peer's word.

    Attributes:
        host_id: Who said it, authenticated (R24).
        no_ack_age_s: For how long it had had no ack when it said so, on its own clock (R8).
    """

    host_id: str
    cluster_id: str
    incarnation: int
    request_nonce: str
    no_ack_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsGone:
    """After the latch every VM was verified to be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condemned:
    """The VMs that run here may not: their guard ended while no agent ran, and nobody said that they are still this host's."""

    reason: str


Event = Condemned | ConfigTaken | Registered | Unregistered | HeartbeatSent | AckReceived | PeerAsked | AttestReceived | VmsGone

# Effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Write this to tmpfs before any later effect, and before anything that follows from it leaves the host (R9)."""

    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPeers:
    """Make one heartbeat and ask each of these hosts to relay it or to attest; tell PeerAsked before each is sent."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyAll:
    """Destroy every VM, verify that its process is gone, and tell VmsGone then (R3)."""

    reason: str


Effect = Keep | AskPeers | DestroyAll
