"""Numbered configurations (R18), the generation of decisions, and safe mode (R20)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.store.ways import C, planned, started
from tests.support.failures import cluster_of, confirm_down
from vmha.errors import Aborted, Unavailable
from vmha.store import Store
from vmha.store.records import ClusterRecord, SafetyConfig

CONFIG = SafetyConfig(
    protected=True,
    self_fencing=True,
    voters=("h1", "h2", "h3"),
    certificate_quorum=2,
    evacuation_quorum=2,
    constants={"wait_duration_s": 150.0},
)
OTHER = replace(CONFIG, voters=("h1", "h2"), evacuation_quorum=1)


async def put(store: Store, config: SafetyConfig, *hosts: str, at_least: int = 0, keep_from: int = 0) -> ClusterRecord:
    known = await store.clusters.get(C)
    return await store.clusters.put_config(known, config, at_least=at_least, keep_from=keep_from, hosts=hosts)


async def test_each_content_has_a_number_that_never_changes_its_meaning(store: Store) -> None:
    """The first content fills the cluster's number; another one gets the next; the same again changes nothing."""
    await cluster_of(store, C, ["h1", "h2"])
    first = await put(store, CONFIG)
    again = await put(store, CONFIG)
    second = await put(store, OTHER)

    assert again == first and second.config_version == first.config_version + 1
    assert (await store.clusters.snapshot(C)).configs == {first.config_version: CONFIG, second.config_version: OTHER}


async def test_who_does_not_know_the_newest_makes_none(store: Store) -> None:
    """CONFIG_CHANGED: a manager that stood still cannot put its old view on top."""
    await cluster_of(store, C, ["h1"])
    old = await store.clusters.get(C)
    await put(store, CONFIG)
    await put(store, OTHER)
    with pytest.raises(Aborted) as caught:
        await store.clusters.put_config(old, CONFIG, at_least=0, keep_from=0, hosts=[])

    assert caught.value.reason == "CONFIG_CHANGED"


async def test_a_number_is_above_what_agents_hold(store: Store) -> None:
    """A store that lost its configurations cannot give a number that an agent holds with another content."""
    await cluster_of(store, C, ["h1"])

    assert (await put(store, CONFIG, at_least=57)).config_version == 57


async def test_who_may_be_sent_it_is_on_record_and_what_nobody_holds_is_forgotten(store: Store) -> None:
    """`config_sent` is raised for those hosts only; numbers below `keep_from` go."""
    await cluster_of(store, C, ["h1", "h2"])
    first = await put(store, CONFIG)
    second = await put(store, OTHER, "h1", "gone", keep_from=first.config_version + 1)
    snapshot = await store.clusters.snapshot(C)

    assert {host: record.config_sent for host, record in snapshot.hosts.items()} == {"h1": second.config_version, "h2": 0}
    assert snapshot.configs == {second.config_version: OTHER}


async def test_every_decision_raises_the_generation(store: Store) -> None:
    """Registration, confirmation, a claim, an operator's word and a configuration: each makes a lost store visible (R20)."""
    seen = []

    async def note() -> None:
        seen.append((await store.clusters.get(C)).store_generation)

    way = await planned(store, ["a"])
    await store.hosts.note(C, "h2", config_confirmed=9)
    await note()
    await way.claim(way.entries[0])
    await note()
    await confirm_down(store, C, "h3")
    await note()
    host = await store.hosts.get(C, "h3")
    await store.hosts.confirm_off(C, "h3", host.fence_epoch, "anna")
    await note()
    incarnation = await store.hosts.offer(C, "h3", "token")
    await store.hosts.complete_registration(C, "h3", incarnation, "b2")
    await note()
    await put(store, CONFIG)
    await note()

    assert all(later > earlier for earlier, later in pairwise(seen)), seen


async def test_safe_mode_ends_with_the_last_host(store: Store) -> None:
    """It waits for each host's word or an operator's; entered again it only grows; nothing leaves it by itself."""
    await cluster_of(store, C, ["h1", "h2", "h3"])
    entered = await store.clusters.enter_safe_mode(C, 1000, ["h1", "h2", "h3"])
    again = await store.clusters.enter_safe_mode(C, 2000, ["h1"])
    one_less = await store.clusters.safe_arrived(C, ["h1"])
    await store.clusters.safe_arrived(C, ["h1"])
    await store.hosts.confirm_off(C, "h2", (await store.hosts.get(C, "h2")).fence_epoch, "anna")
    last = await store.clusters.get(C)
    over = await store.clusters.safe_arrived(C, ["h3"])

    assert entered.awaited == again.awaited == ("h1", "h2", "h3") and entered.safe_mode
    assert (entered.store_generation > 1000, again.store_generation > 2000) == (True, True)
    assert (one_less.awaited, last.awaited, over.awaited, over.safe_mode) == (("h2", "h3"), ("h3",), (), False)


async def test_a_word_that_is_taken_back_is_waited_for_again(store: Store) -> None:
    """R20: also where it was the last that safe mode waited for; a host that had reported already is not."""
    await cluster_of(store, C, ["h1", "h2"])
    await store.clusters.enter_safe_mode(C, 1000, ["h2"])
    for host_id in ("h1", "h2"):
        await store.hosts.confirm_off(C, host_id, 0, "anna")
    assert not (await store.clusters.get(C)).safe_mode
    for host_id in ("h1", "h2"):
        await store.hosts.retract_off(C, host_id, 7)
        assert (await store.hosts.get(C, host_id)).is_confirmed_off
        assert not (await store.hosts.retract_off(C, host_id, 0)).is_confirmed_off

    assert (await store.clusters.get(C)).awaited == ("h2",)


async def test_nothing_is_claimed_in_safe_mode(store: Store) -> None:
    """A VM that only a host's own word could save from running twice does not move."""
    way = await planned(store, ["a"])
    await store.hosts.note(C, "h2", config_confirmed=9)
    await store.clusters.enter_safe_mode(C, 0, ["h2"])
    with pytest.raises(Unavailable) as caught:
        await way.claim(way.entries[0])
    await store.clusters.safe_arrived(C, ["h2"])

    assert caught.value.reason == "SAFE_MODE"
    assert (await way.claim(way.entries[0])).target_host_id == "h2"


async def test_a_registration_stays_undelivered_until_somebody_says_so(store: Store) -> None:
    """That a host was not told yet to start what it owns outlives the manager."""
    await started(store, ["a"])
    assert (await store.hosts.get(C, "h2")).undelivered
    await store.hosts.note(C, "h2", undelivered=False, config_confirmed=7, agent_gone=True)
    record = await store.hosts.get(C, "h2")

    assert (record.undelivered, record.config_confirmed, record.agent_gone) == (False, 7, True)
