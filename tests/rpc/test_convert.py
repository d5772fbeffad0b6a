"""Model to message and back, with spans to the nanosecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.cluster_config import LONGEST_S, MAY_BE_ZERO, SHORTEST_S, TIMER_NAMES, Wishes, merge
from vmha.errors import InvalidField
from vmha.facts import DiskStorage, HostFacts, SharedDirectory, VmDisk, VmFacts
from vmha.messages import EVENT_KINDS, evacuation_to_proto, event_detail, event_to_proto
from vmha.model import (
    FAST_TIMERS,
    STANDARD_TIMERS,
    ClusterConfig,
    EvacuationState,
    FenceConfig,
    Group,
    GroupMode,
    GroupPolicy,
    HostConfig,
    HostState,
    Observation,
    PeerVerdict,
    Profile,
    ProofPolicy,
    SelfFencing,
    VmOutcome,
)
from vmha.rpc import convert
from vmha.rpc.scalars import duration, enum_from_proto, seconds, timestamp
from vmha.store.records import EvacuationRecord, EventRecord
from vmha.v1 import event_service_pb2 as es
from vmha.v1 import host_pb2

names = st.text(max_size=20)
small = st.integers(0, 2**31 - 1)
texts = st.lists(names, max_size=3).map(tuple)
BOUND_TO_EACH_OTHER = {"stream_stale_s", "heartbeat_interval_s"} | set(TIMER_NAMES[TIMER_NAMES.index("relay_after_s") :])
"""Drawn at random they contradict each other: `safe` draws them together."""
spans = {
    name: st.floats(SHORTEST_S, LONGEST_S) | (st.just(0.0) if name in MAY_BE_ZERO else st.nothing())
    for name in TIMER_NAMES
    if name not in BOUND_TO_EACH_OTHER | {"probe_misses"}
}
safe = {
    "lease_duration_s": st.floats(90, 100),
    "wait_duration_s": st.floats(150, LONGEST_S),
    "lost_heartbeats": st.integers(1, 2),
}
configs = st.builds(
    Wishes,
    profile=st.just(Profile.STANDARD),
    timers=st.fixed_dictionaries({}, optional={**spans, **safe, "probe_misses": st.integers(1, 100)}),
    proof=st.sampled_from(ProofPolicy),
    self_fencing=st.sampled_from(SelfFencing),
    max_down_fraction=st.floats(0, 1),
    reserve_fraction=st.floats(0, 0.95),
    cpu_overcommit=st.floats(0, 1000),
    parallel=st.integers(0, 1000),
    parallel_per_target=st.integers(0, 1000),
    watchers=st.integers(0, 64),
    image_directory=st.sampled_from(["", "/srv/images"]),
).map(merge)
hosts = st.builds(
    HostConfig,
    probe_target=names,
    agent_target=names,
    libvirt_uri=names,
    rack=names,
    aggregates=st.sets(names).map(sorted).map(tuple),
    roles=st.sets(names, min_size=1).map(sorted).map(tuple),
    fence=st.none()
    | st.builds(FenceConfig, agent=names, parameters=st.dictionaries(names, names), secret_files=st.dictionaries(names, names)),
)


@given(configs)
def test_cluster_settings_survive(config: ClusterConfig) -> None:
    """The profile and the overrides that were written, nothing made explicit that was not."""
    back = convert.cluster_config_from_proto(convert.cluster_config_to_proto(config))

    assert set(back.timer_overrides) == set(config.timer_overrides)
    assert back.timer_overrides == pytest.approx(config.timer_overrides, abs=1e-9)
    assert (back.profile, back.proof, back.self_fencing) == (config.profile, config.proof, config.self_fencing)
    assert (back.parallel, back.parallel_per_target, back.watchers) == (
        config.parallel,
        config.parallel_per_target,
        config.watchers,
    )


@given(hosts)
def test_host_settings_survive(config: HostConfig) -> None:
    """Fence parameters and secret files included."""
    assert convert.host_config_from_proto(convert.host_config_to_proto(config)) == config


@given(
    st.builds(
        HostFacts,
        vcpus=small,
        memory_mib=small,
        storage_pools=texts,
        machines=texts,
        cpu_models=texts,
        hugepages=st.dictionaries(small, small, max_size=3),
        shared_directories=st.lists(st.builds(SharedDirectory, path=names, storage_id=names, problem=names), max_size=3).map(
            tuple
        ),
        tpm_storage_id=names,
    )
)
def test_host_facts_survive(facts: HostFacts) -> None:
    """What an agent found."""
    assert convert.host_facts_from_proto(convert.host_facts_to_proto(facts)) == facts


disks = st.builds(
    VmDisk,
    target=names,
    storage=st.sampled_from(DiskStorage),
    source=names,
    storage_id=names,
    servers=texts,
    root=st.booleans(),
)


@given(
    st.builds(
        VmFacts,
        vcpus=small,
        memory_mib=small,
        ha_enabled=st.booleans(),
        priority=st.integers(-1000, 1000),
        machine=names,
        groups=texts,
        image=names,
        disks=st.lists(disks, max_size=3).map(tuple),
        cpu_mode=names,
        cpu_model=names,
        hugepage_kib=st.integers(-1, 2**30),
    )
)
def test_vm_facts_survive(facts: VmFacts) -> None:
    """What placement needs."""
    assert convert.vm_facts_from_proto(convert.vm_facts_to_proto(facts)) == facts


@given(
    st.builds(
        Group,
        group_id=names,
        policy=st.sampled_from(GroupPolicy),
        mode=st.sampled_from(GroupMode),
        vm_ids=st.sets(names).map(sorted).map(tuple),
        etag=names,
    )
)
def test_groups_survive(group: Group) -> None:
    """Policy and mode."""
    assert convert.group_from_proto(convert.group_to_proto(group)) == group


@given(st.sampled_from(PeerVerdict), st.floats(0, 86_400), st.none() | st.floats(0, 10))
def test_observations_survive(verdict: PeerVerdict, age_s: float, round_trip_s: float | None) -> None:
    """A round trip that was not measured stays unset."""
    back = convert.observation_from_proto(
        convert.observation_to_proto(Observation(host_id="h1", verdict=verdict, age_s=age_s, round_trip_s=round_trip_s))
    )

    assert (back.verdict, back.round_trip_s is None) == (verdict, round_trip_s is None)
    assert back.age_s == pytest.approx(age_s, abs=1e-9)


@given(st.floats(-1e9, 1e9))
def test_spans_survive_to_the_nanosecond(span_s: float) -> None:
    """Also negative ones, whose seconds and nanos must have one sign."""
    message = duration(span_s)

    assert abs(message.nanos) < 1_000_000_000
    assert message.seconds * message.nanos >= 0
    assert seconds(message) == pytest.approx(span_s, abs=1e-6)


def test_profiles_are_complete() -> None:
    """Without overrides a cluster has exactly its profile's figures."""
    assert merge(Wishes(profile=Profile.STANDARD)).timers == STANDARD_TIMERS
    assert merge(Wishes(profile=Profile.FAST)).timers == FAST_TIMERS
    assert merge(Wishes(profile=Profile.FAST)).parallel == 16


def test_no_time_leaves_the_field_unset() -> None:
    """0.0 means "not yet"."""
    assert timestamp(0.0) is None
    moment = timestamp(1_800_000_000.25)
    assert moment is not None and moment.ToMilliseconds() == 1_800_000_000_250


def test_an_unknown_enum_value_is_the_default() -> None:
    """A newer server's value must not end an older client; without a default it is the caller's mistake."""
    assert enum_from_proto(HostState, host_pb2.HostState, 99, HostState.UNKNOWN) is HostState.UNKNOWN
    with pytest.raises(InvalidField):
        enum_from_proto(PeerVerdict, host_pb2.PeerVerdict, 0, field="verdict")


def test_counts_of_an_evacuation() -> None:
    """Rebuilt VMs run elsewhere, too."""
    record = EvacuationRecord(
        evacuation_id="e", cluster_id="c1", host_id="h1", fence_epoch=1, incarnation=1, state=EvacuationState.RUNNING,
        counts={VmOutcome.MOVED: 2, VmOutcome.REBUILT: 1, VmOutcome.OPEN: 4, VmOutcome.PENDING: 1},
    )  # fmt: skip

    message = evacuation_to_proto(record)

    assert (message.total_count, message.moved_count, message.pending_count, message.failed_count) == (8, 3, 1, 0)
    assert not message.HasField("proof_time")


@pytest.mark.parametrize("kind", sorted(EVENT_KINDS))
def test_events_survive_the_store(kind: str) -> None:
    """A message becomes a record's detail, and the same message again; an empty one still says its kind."""
    event = es.Event()
    part = getattr(event, kind)
    part.SetInParent()
    record = EventRecord(revision=1, time_s=0.0, kind=kind, detail=event_detail(part))

    assert event_to_proto(record, "c1").WhichOneof("detail") == kind


def test_an_alarm_survives_the_store() -> None:
    """With its fields by name."""
    alarm = es.Alarm(reason="FENCE_PENDING", host_id="h1", cleared=True)
    record = EventRecord(revision=1, time_s=5.0, kind="alarm", detail=event_detail(alarm), actor="manager")

    assert event_to_proto(record, "c1").alarm == alarm


def test_what_a_newer_release_wrote_is_left_out() -> None:
    """An older replica still streams the event."""
    newer = EventRecord(revision=1, time_s=5.0, kind="comet_sighted", detail={"size": 3})
    field = EventRecord(revision=1, time_s=5.0, kind="alarm", detail={"reason": "STORE_LOST", "colour": "red"})

    assert event_to_proto(newer, "c1").WhichOneof("detail") is None
    assert event_to_proto(field, "c1").alarm.reason == "STORE_LOST"
