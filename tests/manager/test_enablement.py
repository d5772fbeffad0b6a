"""Enablement: the exact refusals, and the three words for protection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.manager.enablement import protection_state, refusals
from vmha.model import HostConfig, ProtectionState


def host(*aggregates: str, roles: tuple[str, ...] = ("hypervisor",)) -> HostConfig:
    return HostConfig(
        probe_target="a:1", agent_target="a:2", libvirt_uri="test:///default", aggregates=tuple(aggregates), roles=roles
    )


@pytest.mark.parametrize("count", [0, 1])
def test_s10_fewer_than_two_hosts_is_refused_with_the_exact_text(count: int) -> None:
    """Fewer than two hosts: enabling is refused with S10's text, to the letter."""
    [broken] = refusals("c1", {f"h{n}": host() for n in range(count)})

    assert broken.message == "At least two hosts are required to enable VM HA."
    assert (broken.rule, broken.subject) == ("MIN_HOSTS", "clusters/c1")


def test_s10_only_hypervisors_count() -> None:
    """A host without the hypervisor role is no second host."""
    hosts = {"h1": host(), "h2": host(roles=("block-storage",))}

    assert [broken.rule for broken in refusals("c1", hosts)] == ["MIN_HOSTS"]


def test_s10_two_hosts_are_enough() -> None:
    """Two hosts may be protected."""
    assert refusals("c1", {"h1": host(), "h2": host()}) == []


def test_s11_different_aggregates_are_refused_with_the_exact_text() -> None:
    """Hosts of different aggregates: refused with S11's text, to the letter."""
    [broken] = refusals("c1", {"h1": host("a"), "h2": host("b")})

    assert broken.message == (
        "VM HA cannot be enabled because hosts belong to different host aggregates, which prevents cross-host migration."
    )
    assert (broken.rule, broken.subject) == ("DIFFERENT_AGGREGATES", "clusters/c1")


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
    hosts = {f"h{number}": host(*aggregates) for number, aggregates in enumerate(sets)}

    assert (refusals("c1", hosts) == []) is fine


@given(st.lists(st.sets(st.sampled_from("abc"), max_size=3), min_size=2, max_size=6))
def test_s11_for_any_sets_of_aggregates(sets: list[set[str]]) -> None:
    """Refused exactly when some host is in an aggregate and no aggregate holds them all."""
    hosts = {f"h{number}": host(*sorted(aggregates)) for number, aggregates in enumerate(sets)}

    shared = any(all(name in aggregates for aggregates in sets) for name in "abc")
    assert (refusals("c1", hosts) == []) == (shared or not any(sets))


def test_every_broken_rule_is_named_at_once() -> None:
    """Who breaks two rules is told both, so that one try is enough to know what to mend."""
    hosts = {"h1": host("a"), "h2": host("b"), "s1": host("c", roles=("storage",))}
    one = {"h1": host("a")}

    assert [broken.rule for broken in refusals("c1", hosts)] == ["DIFFERENT_AGGREGATES"]
    assert [broken.rule for broken in refusals("c1", one)] == ["MIN_HOSTS"]


def test_s12_disabled_waiting_active() -> None:
    """A cluster is Disabled, Waiting (enabled, but below two hosts) or Active; a second host makes Waiting Active by itself."""
    one, two = {"h1": host()}, {"h1": host(), "h2": host()}

    assert protection_state(False, two) is ProtectionState.DISABLED
    assert protection_state(True, one) is ProtectionState.WAITING
    assert protection_state(True, {}) is ProtectionState.WAITING
    assert protection_state(True, two) is ProtectionState.ACTIVE
    assert protection_state(True, {"h1": host(), "s1": host(roles=("storage",))}) is ProtectionState.WAITING
