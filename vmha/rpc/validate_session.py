"""What the messages of an agent's session must look like, and what an agent takes from its manager. See `validate`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmha.model import valid_id
from vmha.rpc.checks import Checks, valid_uuid
from vmha.rpc.scalars import seconds
from vmha.v1 import heartbeat_pb2, host_pb2
from vmha.v1 import manager_service_pb2 as manager

MAX_XML_BYTES: Final = 256 * 1024
MAX_OBSERVATIONS: Final = 1000
MAX_VMS: Final = 10_000
MAX_FORWARDED: Final = 64
MAX_INSTANCE: Final = 64
MAX_NONCE: Final = 128
MAX_COPY_BYTES: Final = 512 * 1024
"""Of a cluster's configuration, as agents keep it: some two thousand hosts."""
LONGEST_BOOT_S: Final = 100 * 366 * 86_400.0
_VERDICTS: Final = frozenset(host_pb2.PeerVerdict.values()) - {0}


def hello(message: manager.AgentHello) -> None:
    """The first message of a session."""
    with Checks() as wrong:
        wrong.identifier("hello.host_id", message.host_id)
        wrong.text("hello.boot_id", message.boot_id, required=True, limit=64)
        wrong.text("hello.agent_instance_id", message.agent_instance_id, required=True, limit=64)
        wrong.text("hello.agent_version", message.agent_version, limit=64)
        wrong.not_negative("hello.last_acked_sequence", message.last_acked_sequence)
        wrong.not_negative("hello.incarnation", message.incarnation)
        wrong.not_negative("hello.config_version", message.config_version)
        wrong.not_negative("hello.store_generation", message.store_generation)
        wrong.span("hello.boot_time", message.boot_time, LONGEST_BOOT_S)
        wrong.not_negative("hello.copy_version", message.copy_version)
        if message.HasField("cluster_copy"):
            copy = message.cluster_copy
            wrong.identifier("hello.cluster_copy.cluster_id", copy.cluster_id)
            wrong.positive("hello.cluster_copy.version", copy.version)
            wrong.that(copy.ByteSize() <= MAX_COPY_BYTES, "hello.cluster_copy", f"must have at most {MAX_COPY_BYTES} bytes")


def registration(message: manager.AgentRegistration) -> None:
    """A request for an incarnation."""
    with Checks() as wrong:
        wrong.text("registration.boot_token", message.boot_token, required=True, limit=128)
        _vm_epochs(wrong, "registration.vms", message.vms)


def health_report(message: manager.HealthReport) -> None:
    """What an agent saw of its peers. Whether they are of its cluster is the manager's to say."""
    with Checks() as wrong:
        wrong.positive("report.sequence", message.sequence)
        wrong.text("report.assignment_version", message.assignment_version, limit=128)
        wrong.text("report.scout_id", message.scout_id, limit=128)
        wrong.count("report.observations", len(message.observations), MAX_OBSERVATIONS)
        for number, seen in enumerate(message.observations[:MAX_OBSERVATIONS]):
            _observation(wrong, f"report.observations[{number}]", seen)


def _observation(wrong: Checks, path: str, seen: manager.PeerObservation) -> None:
    wrong.identifier(f"{path}.host_id", seen.host_id)
    wrong.that(seen.verdict in _VERDICTS, f"{path}.verdict", "must be OK, REFUSED, TIMEOUT or DEGRADED")
    wrong.positive(f"{path}.consecutive_count", seen.consecutive_count)
    wrong.span(f"{path}.age", seen.age)
    if seen.HasField("round_trip_duration"):
        wrong.span(f"{path}.round_trip_duration", seen.round_trip_duration)


def heartbeats(message: manager.AgentHeartbeat) -> None:
    """An agent's own heartbeat and those that it carries."""
    # Thousands come each second and nearly none is wrong: `Checks` finds the words for those.
    if len(message.forwarded) <= MAX_FORWARDED and _is_sound(message.own) and all(map(_is_sound, message.forwarded)):
        return
    with Checks() as wrong:
        _heartbeat(wrong, "heartbeat.own", message.own)
        wrong.count("heartbeat.forwarded", len(message.forwarded), MAX_FORWARDED)
        for number, forwarded in enumerate(message.forwarded[:MAX_FORWARDED]):
            _heartbeat(wrong, f"heartbeat.forwarded[{number}]", forwarded)


def _is_sound(beat: heartbeat_pb2.Heartbeat) -> bool:
    """Whether `_heartbeat` would find nothing; a tenth of its time."""
    vms = beat.vms
    return (
        beat.incarnation >= 1
        and beat.sequence >= 1
        and beat.config_version >= 0
        and beat.store_generation >= 0
        and len(beat.agent_instance_id) <= MAX_INSTANCE
        and len(beat.echoed_nonce) <= MAX_NONCE
        and valid_id(beat.host_id)
        and 0 <= seconds(beat.boot_time) <= LONGEST_BOOT_S
        and (not vms or (len(vms) <= MAX_VMS and all(vm.epoch >= 0 and valid_uuid(vm.vm_id) for vm in vms)))
    )


def _heartbeat(wrong: Checks, path: str, beat: heartbeat_pb2.Heartbeat) -> None:
    wrong.identifier(f"{path}.host_id", beat.host_id)
    wrong.positive(f"{path}.incarnation", beat.incarnation)
    wrong.positive(f"{path}.sequence", beat.sequence)
    wrong.text(f"{path}.agent_instance_id", beat.agent_instance_id, limit=MAX_INSTANCE)
    wrong.text(f"{path}.echoed_nonce", beat.echoed_nonce, limit=MAX_NONCE)
    wrong.not_negative(f"{path}.config_version", beat.config_version)
    wrong.not_negative(f"{path}.store_generation", beat.store_generation)
    wrong.span(f"{path}.boot_time", beat.boot_time, LONGEST_BOOT_S)
    _vm_epochs(wrong, f"{path}.vms", beat.vms)


def _vm_epochs(wrong: Checks, path: str, vms: Iterable[heartbeat_pb2.VmEpoch]) -> None:
    listed = list(vms)
    wrong.count(path, len(listed), MAX_VMS)
    for number, vm in enumerate(listed[:MAX_VMS]):
        wrong.uuid(f"{path}[{number}].vm_id", vm.vm_id)
        wrong.not_negative(f"{path}[{number}].epoch", vm.epoch)


def inventory(message: manager.InventoryReport) -> None:
    """What the host and its VMs are. Whether the XML parses is `vmha.domain_xml`'s to say."""
    with Checks() as wrong:
        wrong.positive("inventory.sequence", message.sequence)
        wrong.that(message.full or not message.more, "inventory.more", "is only for full inventories")
        wrong.count("inventory.vms", len(message.vms), MAX_VMS)
        if message.HasField("host"):
            wrong.not_negative("inventory.host.vcpus", message.host.vcpus)
            wrong.not_negative("inventory.host.memory_mib", message.host.memory_mib)
        for number, vm in enumerate(message.vms[:MAX_VMS]):
            _vm_report(wrong, f"inventory.vms[{number}]", vm)
        wrong.distinct("inventory.vms", (vm.vm_id for vm in message.vms))


def _vm_report(wrong: Checks, path: str, vm: manager.VmReport) -> None:
    wrong.uuid(f"{path}.vm_id", vm.vm_id)
    wrong.text(f"{path}.name", vm.name, required=True)
    wrong.that(vm.state != 0, f"{path}.state", "is required")
    wrong.text(f"{path}.state_reason", vm.state_reason, limit=64)
    size = len(vm.domain_xml.encode())
    wrong.that(size <= MAX_XML_BYTES, f"{path}.domain_xml", f"must have at most {MAX_XML_BYTES} bytes, has {size}")
    wrong.not_negative(f"{path}.epoch", vm.epoch)
    if vm.HasField("facts"):
        wrong.not_negative(f"{path}.facts.vcpus", vm.facts.vcpus)
        wrong.not_negative(f"{path}.facts.memory_mib", vm.facts.memory_mib)
