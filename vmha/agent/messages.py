"""What an agent says in a session, built from what it knows. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from vmha.agent.guests import Guest
from vmha.agent.lease_events import LeaseConfig
from vmha.agent.ownership import Owned, Released
from vmha.agent.probe_plan import Assigned, PeerTarget
from vmha.agent.state import State
from vmha.facts import HostFacts
from vmha.model import Observation, Timers, VmState
from vmha.rpc.convert import host_facts_to_proto, observation_to_proto, vm_facts_to_proto
from vmha.rpc.scalars import enum_from_proto, enum_to_proto, seconds
from vmha.v1 import heartbeat_pb2, vm_pb2
from vmha.v1 import manager_service_pb2 as ms

CHUNK_BYTES: Final = 256 * 1024
"""A message of an inventory is closed when it is this large; with one more VM it stays below the manager's 1 MiB."""
LEAST_INTERVAL_S: Final = 0.05
"""No interval that a manager sends is taken below this."""


def vm_epochs(table: Mapping[str, Guest] | None, state: State) -> Iterator[heartbeat_pb2.VmEpoch]:
    """The VMs that execute here, or are about to, with the epochs that were told for them."""
    for vm_id, guest in (table or {}).items():
        if guest.state in {VmState.RUNNING, VmState.PAUSED, VmState.AWAITING_ADMISSION}:
            number = enum_to_proto(vm_pb2.VmState, guest.state)
            yield heartbeat_pb2.VmEpoch(vm_id=vm_id, epoch=state.epoch(vm_id), state=number)


def lease_config(config: ms.AgentConfig, *, may_destroy: bool) -> LeaseConfig:
    """What a configuration says about the lease. A constant that is not in it is the standard profile's."""
    timers, standard = config.timers, Timers()

    def span(name: str) -> float:
        return seconds(getattr(timers, name)) or float(getattr(standard, f"{name}_s"))

    return LeaseConfig(
        version=config.version,
        enforced=config.protection_enabled and config.self_fencing and may_destroy,
        voters=tuple(config.voter_host_ids),
        certificate_quorum=config.certificate_quorum,
        relay_after_s=span("relay_after"),
        certificate_window_s=span("certificate_window"),
        attest_after_s=span("attest_after"),
        ack_max_age_s=span("ack_max_age"),
        lease_duration_s=span("lease_duration"),
        request_interval_s=span("request_interval"),
        kill_timeout_s=span("kill_timeout"),
    )


def report(sequence: int, version: str, observations: Iterable[Observation], scout_id: str = "") -> ms.HealthReport:
    """What was seen of peers."""
    seen = [observation_to_proto(observation) for observation in observations]
    return ms.HealthReport(sequence=sequence, assignment_version=version, observations=seen, scout_id=scout_id)


def vm_report(guest: Guest, state: State) -> ms.VmReport:
    """One VM. Always with its XML while it is there: whoever adopts it may have no older one."""
    return ms.VmReport(
        vm_id=guest.vm_id,
        name=guest.name,
        state=enum_to_proto(vm_pb2.VmState, guest.state),
        state_reason=guest.reason,
        domain_xml=guest.domain_xml,
        epoch=guest.left_epoch or state.epoch(guest.vm_id),
        autostart=guest.autostart or guest.autostart_taken,
        facts=None if guest.facts is None else vm_facts_to_proto(guest.facts),
        claim_epoch=guest.claim_epoch,
    )


def inventory(guests: Iterable[Guest], host: HostFacts | None, state: State, *, full: bool) -> list[ms.InventoryReport]:
    """An inventory in messages of bounded size. Their sequences are given when they are sent."""
    parts = [ms.InventoryReport(full=full, host=None if host is None else host_facts_to_proto(host))]
    size = 0
    for guest in guests:
        vm = vm_report(guest, state)
        if size + vm.ByteSize() > CHUNK_BYTES and parts[-1].vms:
            parts[-1].more = full
            parts.append(ms.InventoryReport(full=full))
            size = 0
        parts[-1].vms.append(vm)
        size += vm.ByteSize()
    return parts


def peers(found: Iterable[ms.Peer]) -> tuple[PeerTarget, ...]:
    """Whom to probe."""
    return tuple(PeerTarget(host_id=peer.host_id, probe_target=peer.probe_target) for peer in found)


def assigned(assignment: ms.SessionAssignment) -> Assigned:
    """Whom to probe, and how."""
    return Assigned(
        version=assignment.assignment_version,
        peers=peers(assignment.peers),
        probe_interval_s=max(LEAST_INTERVAL_S, seconds(assignment.probe_interval)),
        probe_timeout_s=max(LEAST_INTERVAL_S, seconds(assignment.probe_timeout)),
        probe_misses=max(1, assignment.probe_misses),
    )


def owned(vm: ms.OwnedVm) -> Owned:
    """A VM that this host owns."""
    desired = enum_from_proto(VmState, vm_pb2.VmState, vm.desired_state, VmState.UNSPECIFIED)
    return Owned(vm_id=vm.vm_id, epoch=vm.epoch, desired=desired, domain_xml=vm.domain_xml, admit=vm.admit, start=vm.start)


def released(vm: ms.VmRelease) -> Released:
    """A VM that another host owns."""
    return Released(vm_id=vm.vm_id, epoch=vm.epoch, owner_host_id=vm.owner_host_id)
