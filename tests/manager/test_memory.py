"""Tests of vmha.manager.memory: what the store says last is not always what it decided last."""

from __future__ import annotations

from vmha.manager.memory import ClusterMemory
from vmha.model import ClusterConfig, HostConfig, HostState
from vmha.store.records import ClusterRecord, HostRecord, Incident


def memory() -> ClusterMemory:
    """A cluster whose host h1 is registered as 17."""
    config = HostConfig(probe_target="h1:1", agent_target="h1:2", libvirt_uri="test:///")
    host = HostRecord(
        cluster_id="c1", host_id="h1", config=config, version=1, state=HostState.HEALTHY, incarnation=17, boot_id="b"
    )
    cluster = ClusterRecord(
        cluster_id="c1", config=ClusterConfig(), ha_enabled=True, version=1, config_version=0, store_generation=0
    )
    return ClusterMemory(cluster=cluster, hosts={"h1": host}, groups={})


def test_r17_a_registration_whose_answer_comes_after_its_revocation_is_not_in_force() -> None:
    """Redis put 18 in force and then revoked it; the answers came over two connections, the other way round."""
    known = memory()
    known.put_incident(Incident(incident_id="i1", host_id="h1", boot_id="b", incarnation=18, fence_epoch=1, evidence=""))
    assert not known.put_registration("h1", 18, "b2")
    assert not known.in_force("h1", 18)
    assert "h1" not in known.undelivered


def test_the_next_registration_is_in_force() -> None:
    """Whatever was revoked before it."""
    known = memory()
    known.put_incident(Incident(incident_id="i1", host_id="h1", boot_id="b", incarnation=17, fence_epoch=1, evidence=""))
    assert known.put_registration("h1", 18, "b2")
    assert known.in_force("h1", 18) and known.undelivered == {"h1": 18}


def test_a_registration_of_a_host_that_left_is_none() -> None:
    """It was removed while the store was asked."""
    known = memory()
    known.forget_host("h1")
    assert not known.put_registration("h1", 18, "b2")
