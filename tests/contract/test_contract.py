"""The contract's files: style, compatibility, generated code, and the model's agreement with it."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from vmha import facts, model
from vmha.cluster_config import TIMER_NAMES
from vmha.evac import fencing
from vmha.manager import findings
from vmha.messages import EVENT_KINDS
from vmha.rpc.scalars import enum_from_proto, enum_prefix, enum_to_proto
from vmha.v1 import (
    agent_service_pb2,
    cluster_pb2,
    cluster_service_pb2,
    evacuation_service_pb2,
    event_service_pb2,
    heartbeat_pb2,
    host_pb2,
    manager_service_pb2,
    vm_pb2,
)

TOP = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        agent_service_pb2,
        cluster_pb2,
        cluster_service_pb2,
        evacuation_service_pb2,
        event_service_pb2,
        heartbeat_pb2,
        host_pb2,
        manager_service_pb2,
        vm_pb2,
    )
]
ENUMS: dict[str, type[StrEnum]] = {
    "ProtectionState": model.ProtectionState,
    "Profile": model.Profile,
    "ProofPolicy": model.ProofPolicy,
    "SelfFencing": model.SelfFencing,
    "GroupPolicy": model.GroupPolicy,
    "GroupMode": model.GroupMode,
    "HostState": model.HostState,
    "PeerVerdict": model.PeerVerdict,
    "VmState": model.VmState,
    "GoodbyeReason": model.GoodbyeReason,
    "EvacuationState": model.EvacuationState,
    "EvacuationKind": model.EvacuationKind,
    "VmOutcome": model.VmOutcome,
    "VmStep": model.VmStep,
    "ProofKind": model.ProofKind,
    "DiskStorage": facts.DiskStorage,
    "FindingSeverity": findings.Severity,
    "FencePower": fencing.Power,
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("lint",), ("format", "--diff", "--exit-code"), ("breaking", "--against", "proto/baseline.binpb")],
    ids=lambda arguments: arguments[0],
)
def test_buf_is_content(arguments: tuple[str, ...]) -> None:
    """STANDARD and COMMENTS, the canonical format, and nothing that breaks a client of the baseline."""
    done = run(str(BIN / "buf"), *arguments)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_generated_code_is_fresh() -> None:
    """What is committed is what the proto files generate."""
    done = run("tools/generate-proto", "--check")

    assert (done.returncode, done.stdout) == (0, "")


def enums() -> dict[str, EnumDescriptor]:
    return {name: enum for file in FILES for name, enum in file.enum_types_by_name.items()}


def test_every_enum_has_its_model() -> None:
    """No enum of the contract is left without a counterpart, and none is made up."""
    assert set(enums()) == set(ENUMS)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_agree_by_name(name: str) -> None:
    """Each member has its value in the contract, and each value its member; only "unspecified" may be missing in the model."""
    prefix = enum_prefix(name)
    promised = {value.name.removeprefix(prefix) for value in enums()[name].values}
    known = {member.value for member in ENUMS[name]}

    assert known <= promised
    assert promised - known <= {"UNSPECIFIED"}


@pytest.mark.parametrize("name", ENUMS)
def test_enums_survive_the_wire(name: str) -> None:
    """Member to number to member is the identity."""
    wrapper: Any = EnumTypeWrapper(enums()[name])
    for member in ENUMS[name]:
        number: int = enum_to_proto(wrapper, member)

        assert enum_from_proto(ENUMS[name], wrapper, number) is member


def test_timers_agree_by_name() -> None:
    """Every timer of the model can be overridden in the contract, under the same name."""
    fields = {field.name for field in cluster_pb2.ClusterTimers.DESCRIPTOR.fields}

    assert {name.removesuffix("_s") for name in TIMER_NAMES} == fields


def test_safety_timers_agree_by_name() -> None:
    """Every constant that an agent is told is a timer of the cluster, under the same name."""
    fields = {field.name for field in manager_service_pb2.SafetyTimers.DESCRIPTOR.fields}

    assert fields <= {name.removesuffix("_s") for name in TIMER_NAMES}


@pytest.mark.parametrize(
    ("message", "record"),
    [
        (host_pb2.HostConfig.DESCRIPTOR, model.HostConfig),
        (host_pb2.HostFacts.DESCRIPTOR, facts.HostFacts),
        (host_pb2.FenceConfig.DESCRIPTOR, model.FenceConfig),
        (vm_pb2.VmFacts.DESCRIPTOR, facts.VmFacts),
        (cluster_service_pb2.Group.DESCRIPTOR, model.Group),
    ],
)
def test_messages_agree_with_the_model(message: object, record: type) -> None:
    """A field that is added on one side is missed on the other."""
    fields = {field.name for field in message.fields}  # type: ignore[attr-defined]

    assert fields == set(record.__dataclass_fields__)  # type: ignore[attr-defined]


def test_event_kinds_are_the_oneof() -> None:
    """An event's kind in the store is the name of its case in the contract."""
    assert "host_state_change" in EVENT_KINDS and "alarm" in EVENT_KINDS
