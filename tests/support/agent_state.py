"""An agent's record in tests: where it is kept, and a registration whose lease holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vmha.agent.departures import Departures
from vmha.agent.lease_events import Kept, LeaseConfig
from vmha.agent.state import FILE_NAME, MARKER_NAME, State
from vmha.agent.state_file import DiskFile, MemoryFile
from vmha.clock import SystemClock
from vmha.rpc.scalars import duration
from vmha.v1 import manager_service_pb2 as ms

FAST = LeaseConfig(
    version=1,
    enforced=True,
    voters=("h1", "h2", "h3"),
    certificate_quorum=2,
    relay_after_s=1.1,
    certificate_window_s=1.5,
    attest_after_s=3.6,
    ack_max_age_s=0.9,
    lease_duration_s=7.6,
    request_interval_s=0.5,
    kill_timeout_s=4.0,
)
"""The constants of the fast profile, in a cluster of three that enforces them."""


def open_state(folder: Path, host_id: str = "h1", boot_id: str = "boot-1") -> State:
    """The record below `folder`, and the marker beside it."""
    return State(DiskFile(folder / FILE_NAME), DiskFile(folder / "disk" / MARKER_NAME), host_id, boot_id)


def unmoved() -> Departures:
    """No VM has left this host."""
    return Departures(MemoryFile(), lambda vm_id: 0)


def leased(incarnation: int, lasts_s: float = 1000.0, config: LeaseConfig = FAST, now: float | None = None) -> Kept:
    """The record of a registration whose lease ends in `lasts_s`."""
    now = SystemClock().now() if now is None else now
    return Kept(
        incarnation=incarnation,
        leased_incarnation=incarnation,
        last_ack=now,
        lease_until=now + lasts_s,
        config=replace(config, lease_duration_s=lasts_s) if lasts_s > config.lease_duration_s else config,
    )


def register(state: State, incarnation: int) -> None:
    """The host is registered, and its lease holds for long."""
    state.keep(leased(incarnation))


class HandClock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.time = now

    def now(self) -> float:
        """See `Clock`."""
        return self.time

    def wall(self) -> float:
        """See `Clock`."""
        return self.time


def agent_config(*peers: tuple[str, str], version: int = 1, scale: float = 1.0, protected: bool = True) -> ms.AgentConfig:
    """The fast profile's constants, times `scale`, for h1 and `peers`, given as (host_id, agent_target)."""
    members = [ms.Peer(host_id="h1", agent_target="127.0.0.1:1"), *(ms.Peer(host_id=h, agent_target=t) for h, t in peers)]
    return ms.AgentConfig(
        version=version,
        protection_enabled=protected,
        self_fencing=True,
        members=members,
        voter_host_ids=[member.host_id for member in members],
        certificate_quorum=len(members) // 2 + 1,
        evacuation_quorum=(len(members) + 1) // 2,
        timers=ms.SafetyTimers(
            heartbeat_interval=duration(0.5 * scale),
            relay_after=duration(FAST.relay_after_s * scale),
            contact_ttl=duration(2.0 * scale),
            certificate_window=duration(FAST.certificate_window_s * scale),
            attest_after=duration(FAST.attest_after_s * scale),
            ack_max_age=duration(FAST.ack_max_age_s * scale),
            lease_duration=duration(FAST.lease_duration_s * scale),
            kill_timeout=duration(FAST.kill_timeout_s * scale),
            wait_duration=duration(11.9 * scale),
            request_interval=duration(FAST.request_interval_s * scale),
        ),
    )
