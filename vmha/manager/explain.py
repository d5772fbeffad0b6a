"""Why a host or VM is where it is, in words and figures (B5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from vmha.errors import NotFound, OutOfRange
from vmha.manager.evidence import HostEvidence
from vmha.manager.hostview import STREAMING
from vmha.manager.operations import Operations
from vmha.manager.votes import CountedVote
from vmha.messages import vm_to_proto
from vmha.model import PROVEN_DEAD, HostState, PeerVerdict, VmState
from vmha.rpc.scalars import duration, enum_to_proto, timestamp
from vmha.store import Store
from vmha.store.records import EventRecord, VmRecord
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import host_pb2
from vmha.v1 import manager_service_pb2 as ms

LOOK_BACK: Final = 1000
"""Events of the cluster among which a host's or VM's own are looked for."""
HISTORY: Final = 20
HEARD: Final = STREAMING | {HostState.ISOLATED}
"""States of a host whose agent's word on its VMs is of now (S28)."""


async def explain_host(operations: Operations, cluster_id: str, host_id: str) -> cs.HostExplanation:
    """The evidence on a host.

    Raises:
        NotFound: CLUSTER_UNKNOWN, HOST_UNKNOWN.
    """
    loop = await operations.loop(cluster_id)
    record = await operations.store.hosts.get(cluster_id, host_id)
    history = await _history(operations.store, cluster_id, lambda event: _concerns_host(event, host_id))
    explanation = cs.HostExplanation(host=await operations.host_message(record), history=history)
    try:
        evidence = loop.core.explain(host_id, operations.clock.now())
    except KeyError:
        explanation.summary = "It has no hypervisor role: it is not watched."
        return explanation
    _put_evidence(explanation, evidence, host_id, operations)
    return explanation


async def explain_vm(operations: Operations, cluster_id: str, vm_id: str) -> cs.VmExplanation:
    """Where a VM is, and what became of it.

    Raises:
        NotFound: CLUSTER_UNKNOWN, VM_UNKNOWN.
    """
    await operations.store.clusters.get(cluster_id)
    record = await operations.store.vms.get(cluster_id, vm_id)
    owner = await _host_state(operations.store, cluster_id, record.owner_host_id)
    history = await _history(operations.store, cluster_id, lambda event: _concerns_vm(event, vm_id))
    return cs.VmExplanation(vm=vm_to_proto(record, cluster_id), summary=_vm_summary(record, owner), history=history)


async def _host_state(store: Store, cluster_id: str, host_id: str) -> HostState:
    try:
        return (await store.hosts.get(cluster_id, host_id)).state
    except NotFound:
        return HostState.UNKNOWN


def _put_evidence(to: cs.HostExplanation, evidence: HostEvidence, host_id: str, operations: Operations) -> None:
    now, wall = operations.clock.now(), operations.clock.wall()
    to.summary = evidence.summary
    to.quorum = evidence.quorum
    to.held_reason = evidence.held
    if evidence.silent_s is not None and (silent_since := timestamp(wall - evidence.silent_s)):
        to.silent_since.CopyFrom(silent_since)
    if evidence.confirm_in_s is not None and (confirm_time := timestamp(wall + evidence.confirm_in_s)):
        to.confirm_time.CopyFrom(confirm_time)
    if evidence.probe is not None:
        to.manager_probe.CopyFrom(_seen(host_id, evidence.probe, 1, evidence.probe_age_s or 0.0, None))
    to.votes.extend(_vote(host_id, counted, now) for counted in evidence.tally.votes)


def _vote(host_id: str, counted: CountedVote, now: float) -> cs.Vote:
    vote = counted.vote
    return cs.Vote(
        reporter_host_id=vote.reporter_id,
        observation=_seen(host_id, vote.verdict, vote.consecutive_count, max(0.0, now - vote.seen_at), vote.round_trip_s),
        credible=not counted.discredit,
        discredit_reason=counted.discredit,
    )


def _seen(host_id: str, verdict: PeerVerdict, count: int, age_s: float, round_trip_s: float | None) -> ms.PeerObservation:
    return ms.PeerObservation(
        host_id=host_id,
        verdict=enum_to_proto(host_pb2.PeerVerdict, verdict),
        consecutive_count=count,
        age=duration(age_s),
        round_trip_duration=None if round_trip_s is None else duration(round_trip_s),
    )


async def _history(store: Store, cluster_id: str, concerns: Callable[[EventRecord], bool]) -> list[str]:
    last = await store.events.last_revision(cluster_id)
    try:
        events = await store.events.read(cluster_id, max(0, last - LOOK_BACK), limit=LOOK_BACK)
    except OutOfRange:
        events = await store.events.read(cluster_id, 0, limit=LOOK_BACK)
    return [_line(event) for event in events if concerns(event)][-HISTORY:]


def _concerns_host(event: EventRecord, host_id: str) -> bool:
    detail = event.detail
    evacuation = _part(detail, "evacuation")
    return (
        host_id in (detail.get("host_id"), detail.get("source_host_id"), evacuation.get("host_id"))
        or detail.get("subject") == f"{host_id}"
        or str(detail.get("subject", "")).endswith(f"/{host_id}")
    )


def _concerns_vm(event: EventRecord, vm_id: str) -> bool:
    return vm_id in (_part(event.detail, "vm").get("vm_id"), event.detail.get("vm_id"))


def _part(detail: Mapping[str, object], name: str) -> Mapping[str, Any]:
    value = detail.get(name)
    return value if isinstance(value, Mapping) else {}


def _line(event: EventRecord) -> str:
    time = datetime.fromtimestamp(event.time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return f"{time} {_words(event)}".rstrip()


def _words(event: EventRecord) -> str:
    detail = event.detail
    if event.kind == "host_state_change":
        old, new = (str(detail.get(name, "")).removeprefix("HOST_STATE_") for name in ("old_state", "new_state"))
        return f"{old} -> {new} {detail.get('reason', '')} {detail.get('message', '')}"
    if event.kind == "alarm":
        return f"alarm {detail.get('reason')} {'over' if detail.get('cleared') else detail.get('message', '')}"
    if event.kind == "operator_act":
        refused = detail.get("refused_reason")
        return f"{event.actor}: {detail.get('act')}" + (f" refused: {refused}" if refused else "")
    if event.kind == "vm_evacuation_change":
        return _vm_words(_part(detail, "vm"))
    if event.kind == "evacuation_state_change":
        evacuation = _part(detail, "evacuation")
        return f"evacuation {str(evacuation.get('state', '')).removeprefix('EVACUATION_STATE_')} {evacuation.get('reason', '')}"
    return event.kind


def _vm_words(vm: Mapping[str, Any]) -> str:
    step = str(vm.get("step", "")).removeprefix("VM_STEP_")
    outcome = str(vm.get("outcome", "")).removeprefix("VM_OUTCOME_").replace("UNSPECIFIED", "")
    to = f"to {vm['target_host_id']}" if vm.get("target_host_id") else ""
    said = " ".join(word for word in (vm.get("vm_name", ""), step, to, outcome, vm.get("reason", "")) if word)
    return f"{said}: {vm['message']}" if vm.get("message") else said


def _vm_summary(record: VmRecord, host: HostState) -> str:
    owner = f"{record.owner_host_id} owns it under epoch {record.epoch}"
    if record.reason:
        return f"{owner}; it does not run: {record.reason}."
    if host in PROVEN_DEAD:
        return f"{owner}; it does not run there: {record.owner_host_id} is {host}."
    if host not in HEARD:
        return f"{owner}; it was {record.state.value.lower()} when {record.owner_host_id} was heard last, which is {host} now."
    if record.state is record.desired_state:
        return f"{owner}; it is {record.state.value.lower()}, as it should be."
    why = f" ({record.state_reason})" if record.state_reason else ""
    wanted = record.desired_state.value.lower()
    seen = "not on its host" if record.state is VmState.ABSENT else record.state.value.lower()
    return f"{owner}; it should be {wanted} and is {seen}{why}."
