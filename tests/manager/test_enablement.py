"""Enablement: the exact refusals of the configuration, and the three words for protection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.manager.prerequisites import cluster, found, host, running_vm
from vmha.manager.enablement import check, protection_state
from vmha.manager.findings import Finding, Severity
from vmha.model import HostConfig, ProtectionState


def refusals(*aggregates: tuple[str, ...]) -> list[Finding]:
    """What refuses, of hosts h0, h1, ... in these aggregates."""
    hosts = [host(f"h{number}", aggregates=names) for number, names in enumerate(aggregates)]
    return [finding for finding in check(cluster(*hosts), []) if finding.severity is Severity.REFUSES]


@pytest.mark.parametrize("count", [0, 1])
def test_s10_fewer_than_two_hosts_is_refused_with_the_exact_text(count: int) -> None:
    """Fewer than two hosts: enabling is refused with S10's text, to the letter."""
    [broken] = refusals(*[()] * count)

    assert broken.description == "At least two hosts are required to enable VM HA."
    assert (broken.type, broken.subject) == ("MIN_HOSTS", "clusters/c1")


def test_s10_only_hypervisors_count() -> None:
    """A host without the hypervisor role is no second host."""
    seen = found(cluster(host("h1"), host("h2", roles=("block-storage",))))

    assert ("MIN_HOSTS", "REFUSES", "clusters/c1") in seen


def test_s10_two_hosts_are_enough() -> None:
    """Two hosts may be protected."""
    assert refusals((), ()) == []


def test_s11_different_aggregates_are_refused_with_the_exact_text() -> None:
    """Hosts of different aggregates: refused with S11's text, to the letter."""
    [broken] = refusals(("a",), ("b",))

    assert broken.description == (
        "VM HA cannot be enabled because hosts belong to different host aggregates, which prevents cross-host migration."
    )
    assert (broken.type, broken.subject) == ("AGGREGATES_DIFFER", "clusters/c1")


@pytest.mark.parametrize(
    ("sets", "fine"),
    [
        ([(), ()], True),
        ([("a",), ("a",)], True),
        ([("a", "b"), ("a",), ("c", "a")], True),
        ([("a",), ()], False),
        ([("a", "b"), ("b", "c"), ("c", "a")], False),
    ],
)
def test_s11_all_share_one_or_none_is_in_any(sets: list[tuple[str, ...]], fine: bool) -> None:
    """Fine is: one aggregate holds all hosts (some may be in further ones), or no host is in any."""
    assert (refusals(*sets) == []) is fine


@given(st.lists(st.sets(st.sampled_from("abc"), max_size=3), min_size=2, max_size=6))
def test_s11_for_any_sets_of_aggregates(sets: list[set[str]]) -> None:
    """Refused exactly when some host is in an aggregate and no aggregate holds them all."""
    shared = any(all(name in aggregates for aggregates in sets) for name in "abc")

    assert (refusals(*(tuple(sorted(names)) for names in sets)) == []) == (shared or not any(sets))


def test_s11_an_aggregate_does_not_span_clusters() -> None:
    """A hypervisor of another cluster in one of ours is named; its other aggregates and other roles are no concern of ours."""
    ours = cluster(host("h1", aggregates=("a",)), host("h2", aggregates=("a",)))
    apart = cluster(host("h7", aggregates=("b",)), host("h8", aggregates=("a",), roles=("block-storage",)), cluster_id="c2")
    spans = cluster(host("h9", aggregates=("a", "b")), cluster_id="c3")

    assert [f for f in check(ours, [], others=[apart]) if f.type == "AGGREGATE_SPANS_CLUSTERS"] == []
    [named] = [f for f in check(ours, [], others=[apart, spans]) if f.type == "AGGREGATE_SPANS_CLUSTERS"]
    assert (named.severity, named.subject) == (Severity.REFUSES, "aggregates/a")
    assert "h9 of c3" in named.description


def test_s13_every_broken_rule_is_named_at_once() -> None:
    """Who breaks several rules is told all of them, so that one try is enough to know what to mend; what refuses comes first."""
    case = cluster(host("h1", aggregates=("a",), facts=None), host("h2", aggregates=("b",)))
    vms = [running_vm("gpu", has_passthrough=True), running_vm("tpm", has_vtpm=True)]

    told = check(case, vms)

    assert [f.type for f in told if f.severity is Severity.REFUSES] == ["AGGREGATES_DIFFER", "GPU"]
    assert [f.type for f in told if f.severity is Severity.WARNS] == ["FACTS_UNKNOWN"]
    assert [f.severity for f in told] == sorted(f.severity for f in told)
    assert all(f.description.endswith(".") and f.remedy.endswith(".") for f in told)


def test_s12_disabled_waiting_active() -> None:
    """A cluster is Disabled, Waiting (enabled, but below two hosts) or Active; a second host makes Waiting Active by itself."""

    def config(*roles: str) -> HostConfig:
        return HostConfig(probe_target="a:1", agent_target="a:2", libvirt_uri="test:///default", roles=roles or ("hypervisor",))

    one, two = {"h1": config()}, {"h1": config(), "h2": config()}

    assert protection_state(False, two) is ProtectionState.DISABLED
    assert protection_state(True, one) is ProtectionState.WAITING
    assert protection_state(True, {}) is ProtectionState.WAITING
    assert protection_state(True, two) is ProtectionState.ACTIVE
    assert protection_state(True, {"h1": config(), "s1": config("block-storage")}) is ProtectionState.WAITING
