"""The simulated world: the real services settle in it, every act of a timeline does what it says, and twice is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vmha.agent.lease_events import GuardState
from vmha.model import HostState, VmState
from vmha.sim.acts import ACTS
from vmha.sim.history import Fact, Refused
from vmha.sim.scenario import Act, parse
from vmha.sim.timeloop import VirtualLoop
from vmha.sim.world import Unsettled, World

HOSTS = ("h1", "h2", "h3")
Open = Callable[..., "Stage"]


class Stage:
    """A settled world, and ways to drive it."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.loop = VirtualLoop()
        self.failures: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self.world = World(self.loop, parse(raw))
        self.site = self.world._site

    def settle(self) -> Stage:
        self.loop.run_until(self.world.settle())
        return self

    def do(self, name: str, **arguments: Any) -> None:
        """One act."""
        self.loop.run_until(self.world.perform(Act(at=0.0, do=name, arguments=arguments)))

    def refused(self, name: str, **arguments: Any) -> str:
        """The reason of an act that must be refused."""
        with pytest.raises(Refused) as caught:
            self.do(name, **arguments)
        return caught.value.reason

    def run(self, span_s: float) -> None:
        self.loop.run_for(span_s)

    def executing(self) -> dict[str, list[str]]:
        """Where each VM's guest counts in the occupancy."""
        found: dict[str, list[str]] = {}
        for host_id, host in self.site.hosts.items():
            for domain in host.hypervisor.domains.values():
                if domain.counts:
                    found.setdefault(host.hypervisor.site.name(domain.vm_id), []).append(host_id)
        return found

    def state(self, host_id: str) -> HostState:
        return self.loop.run_until(self.world.books()).hosts[host_id].state

    def facts(self, *facts: Fact) -> list[tuple[str, str]]:
        """(host or VM, cause) of the lines that say one of these."""
        return [(line.host, line.cause) for line in self.world.history.of(*facts)]

    def close(self) -> None:
        self.loop.run_until(self.world.close())
        self.loop.shut_down()


def scenario(**changes: Any) -> dict[str, Any]:
    """Three hosts with a VM each, fast, without fence devices."""
    cluster = {"fencing": changes.pop("fencing", "none"), "ha_enabled": changes.pop("ha_enabled", True)}
    vms = [{"id": f"vm{i}", "host": f"h{i}"} for i in (1, 2, 3)]
    hosts = [{"id": name} for name in HOSTS]
    return {"seed": 5, "until": 600, "profile": "fast", "cluster": cluster, "hosts": hosts, "vms": vms} | changes


@pytest.fixture
def open_stage() -> Iterator[Open]:
    stages: list[Stage] = []

    def make(**changes: Any) -> Stage:
        stages.append(Stage(scenario(**changes)))
        return stages[-1].settle()

    yield make
    for stage in stages:
        stage.close()
        assert not stage.failures


def test_the_start_is_settled(open_stage: Open) -> None:
    """t = 0: hosts healthy, leased and confirmed, protection active, guests counted from 0.0, nothing before is told."""
    stage = open_stage()
    books = stage.loop.run_until(stage.world.books())

    assert 0.0 <= stage.world.t < 0.01
    assert {host.state for host in books.hosts.values()} == {HostState.HEALTHY}
    assert books.protection == "ACTIVE"
    assert {vm: record.owner_host_id for vm, record in books.vms.items()} == {"vm1": "h1", "vm2": "h2", "vm3": "h3"}
    for host in stage.site.hosts.values():
        assert host.parts is not None
        assert host.parts.keeper.lease.state(host.machine.clock.now()) is GuardState.LEASED
    assert stage.executing() == {"vm1": ["h1"], "vm2": ["h2"], "vm3": ["h3"]}
    assert [line.t for line in stage.world.history.of(Fact.GUEST_RUNS)] == [0.0, 0.0, 0.0]
    assert stage.world.events == []


@pytest.mark.parametrize(
    "changes",
    [
        {"ha_enabled": False},
        {"fencing": "always", "profile": "standard"},
        {"managers": 3},
        {"hosts": [{"id": "h1"}], "vms": []},
        {
            "hosts": [{"id": "h1"}, {"id": "h2"}, {"id": "h3", "power": "off"}],
            "vms": [{"id": "v", "host": "h3", "state": "shutoff"}],
        },
        {"hosts": [{"id": "h1"}, {"id": "h2"}, {"id": "s1", "roles": ["block-storage"]}], "vms": []},
        {
            "vms": [
                {"id": "v1", "host": "h1", "state": "paused", "vtpm": True, "root_disk": "local", "aggregates": ["a"]},
                {"id": "v2", "host": "h2", "state": "shutoff", "gpu": True, "ha": False, "resize_unconfirmed": True},
            ],
            "groups": [{"id": "g", "policy": "anti-affinity", "mode": "hard", "vms": ["v1", "v2"]}],
        },
    ],
)
def test_any_cluster_settles_and_stays_quiet(open_stage: Open, changes: dict[str, Any]) -> None:
    """A minute without faults changes nothing."""
    stage = open_stage(**changes)
    before = stage.executing()
    stage.run(60.0)

    assert stage.executing() == before
    assert [e.record.kind for e in stage.world.events if e.record.kind == "host_state_change"] == []


def test_a_cluster_that_cannot_settle_says_what_is_missing() -> None:
    """Instead of a run from a wrong start."""
    stage = Stage(scenario())
    stage.site.network.isolate(["h2"], "management")
    with pytest.raises(Unsettled, match="h2"):
        stage.settle()
    stage.close()


def test_a_crashed_host_is_fenced_and_evacuated(open_stage: Open) -> None:
    """With a fence device within seconds; each VM runs once, elsewhere."""
    stage = open_stage(fencing="always")
    stage.do("crash", host="h1")
    stage.run(8.0)

    assert stage.state("h1") is HostState.EVACUATED
    assert stage.executing()["vm1"] in (["h2"], ["h3"])
    assert stage.facts(Fact.HOST_DOWN) == [("h1", "crash")]


def test_a_returned_host_has_another_boot_and_its_old_disks(open_stage: Open) -> None:
    """Its definition of the VM that moved is removed, and it is healthy again; its marker was kept."""
    stage = open_stage(fencing="always")
    marker = stage.site.host("h1")._marker.content
    stage.do("reboot", host="h1", down_s=20.0)
    stage.run(40.0)

    assert stage.state("h1") is HostState.HEALTHY
    assert stage.loop.run_until(stage.world.books()).hosts["h1"].boot_id == "h1-boot-2"
    assert marker is not None and stage.site.host("h1")._marker.content == marker
    assert [guest.host for guest in stage.world.guests() if guest.vm == "vm1"] != ["h1"]


def test_a_reboot_does_not_boot_a_host_that_was_lost_since(open_stage: Open) -> None:
    """It was booted meanwhile, and lost again: the reboot of before has nothing to say of that."""
    stage = open_stage()
    stage.do("reboot", host="h1", down_s=30.0)
    stage.run(5.0)
    stage.do("boot", host="h1")
    stage.run(5.0)
    stage.do("crash", host="h1")
    stage.run(60.0)

    assert not stage.site.host("h1").powered


def test_an_isolated_host_fences_itself_before_its_vms_start_elsewhere(open_stage: Open) -> None:
    """Without any fence device."""
    stage = open_stage()
    stage.do("isolate", hosts=["h1"], plane="all")
    stage.run(30.0)

    assert stage.executing()["vm1"] in (["h2"], ["h3"])
    lines = [line for line in stage.world.history.lines if line.vm == "vm1" and line.t > 0]
    assert [line.fact for line in lines] == [Fact.GUEST_ENDS, Fact.GUEST_CREATED, Fact.GUEST_RUNS]
    assert lines[0].cause == "self_fencing"
    assert ("h1", "") in stage.facts(Fact.SELF_FENCED)


def test_a_dead_management_plane_kills_no_guest(open_stage: Open) -> None:
    """Managers, evacuator and store are gone for two minutes: hosts live on certificates; then everything goes on."""
    stage = open_stage(managers=2)
    before = stage.executing()
    for act in ("manager_crash", "evac_crash", "store_down"):
        stage.do(act, **({"i": "all"} if act == "manager_crash" else {}))
    stage.run(120.0)
    assert stage.executing() == before
    assert {host for host, _ in stage.facts(Fact.CERTIFIED)} == set(HOSTS)
    for act in ("manager_start", "evac_start", "store_up"):
        stage.do(act)
    stage.run(60.0)

    assert stage.executing() == before
    assert {stage.state(host) for host in HOSTS} == {HostState.HEALTHY}


def test_an_agent_that_restarts_keeps_its_guests_and_its_lease(open_stage: Open) -> None:
    """Its state file outlives it; a host without agent is not dead."""
    stage = open_stage()
    stage.do("agent_stop", host="h1")
    stage.run(3.0)
    assert stage.state("h1") is HostState.AGENT_LOST
    stage.do("agent_start", host="h1")
    stage.run(5.0)

    assert stage.state("h1") is HostState.HEALTHY
    assert stage.executing()["vm1"] == ["h1"]
    assert stage.facts(Fact.AGENT_DOWN, Fact.AGENT_UP) == [("h1", ""), ("h1", "")]


def test_the_leader_is_killed_and_another_takes_over(open_stage: Open) -> None:
    """manager_crash without a number is the leader's end; the term grows."""
    stage = open_stage(managers=2)
    first = stage.site.observer.leader
    stage.do("manager_crash")
    assert first is not None and not first.runs
    stage.run(20.0)

    second = stage.site.observer.leader
    assert second is not None and second is not first
    terms = [line.detail["term"] for line in stage.world.history.of(Fact.LEADS)]
    assert terms == sorted(set(terms)) and len(terms) == 2
    assert {stage.state(host) for host in HOSTS} == {HostState.HEALTHY}


def test_virsh_acts_on_the_host_where_the_guest_is(open_stage: Open) -> None:
    """suspend, resume, shutdown, start, metadata, undefine; what makes no sense is refused with a reason."""
    stage = open_stage()
    stage.do("vm_pause", vm="vm1")
    assert stage.refused("vm_pause", vm="vm1") == "VM_NOT_RUNNING"
    stage.do("vm_resume", vm="vm1")
    stage.do("vm_stop", vm="vm1")
    stage.run(2.0)
    assert "vm1" not in stage.executing()
    assert stage.refused("vm_migrate", vm="vm1", host="h2") == "VM_NOT_RUNNING"
    stage.do("vm_start", vm="vm1", host="h1")
    assert stage.executing()["vm1"] == ["h1"]
    assert stage.refused("vm_start", vm="vm1", host="h2") == "LIBVIRT_REFUSED"
    stage.do("vm_ha", vm="vm1", ha=False)
    stage.run(2.0)
    assert not stage.loop.run_until(stage.world.books()).vms["vm1"].facts.ha_enabled
    stage.do("vm_delete", vm="vm1")
    stage.run(2.0)

    assert "vm1" not in stage.loop.run_until(stage.world.books()).vms
    assert stage.refused("vm_resume", vm="vm1") == "DOMAIN_UNKNOWN"


def test_a_live_migration_moves_the_guest_and_its_ownership(open_stage: Open) -> None:
    """At one instant, after migrate_s."""
    stage = open_stage(migrate_s=3.0)
    stage.do("vm_migrate", vm="vm1", host="h2")
    stage.run(2.9)
    assert stage.executing()["vm1"] == ["h1"]
    stage.run(5.0)

    assert stage.executing()["vm1"] == ["h2"]
    assert stage.loop.run_until(stage.world.books()).vms["vm1"].owner_host_id == "h2"


def test_operators_act_through_the_real_services(open_stage: Open) -> None:
    """Maintenance, protection and a confirmation; a refusal has the service's reason."""
    stage = open_stage(managers=2)
    stage.do("maintenance_on", host="h2")
    assert stage.loop.run_until(stage.world.books()).hosts["h2"].in_maintenance
    stage.do("maintenance_off", host="h2")
    stage.do("ha_disable")
    assert stage.loop.run_until(stage.world.books()).protection == "DISABLED"
    stage.do("ha_enable")
    assert stage.refused("confirm_off", host="h1") == "HOST_ALIVE"
    stage.do("manager_crash", i="all")

    assert stage.refused("ha_disable") == "PEER_UNREACHABLE"


def test_edges_fail_and_come_back(open_stage: Open) -> None:
    """Exporter, libvirt, clock, liar, fence, links and store: nobody's guest is touched."""
    stage = open_stage(fencing="always")
    before = stage.executing()
    acts: list[tuple[str, dict[str, Any]]] = [
        ("exporter_stop", {"host": "h1"}),
        ("hypervisor_hang", {"host": "h2"}),
        ("liar", {"host": "h3", "says": "down", "of": ["h1"]}),
        ("clock_rate", {"host": "h3", "rate": 1.0005}),
        ("fence_fail", {"host": "h1"}),
        ("link", {"from": "h1", "to": "h2", "loss": 0.5}),
        ("store_down", {}),
        ("exporter_start", {"host": "h1"}),
        ("hypervisor_resume", {"host": "h2"}),
        ("liar", {"host": "h3", "says": "truth"}),
        ("fence_heal", {"host": "h1"}),
        ("store_up", {}),
        ("heal_all", {}),
    ]
    for name, arguments in acts:
        stage.do(name, **arguments)
        stage.run(3.0)
    stage.run(30.0)

    assert stage.executing() == before
    assert {stage.state(host) for host in HOSTS} == {HostState.HEALTHY}


def test_a_flushed_store_is_written_down_and_its_events_are_not_lost(open_stage: Open) -> None:
    """What was told before is still there afterwards."""
    stage = open_stage()
    stage.do("maintenance_on", host="h2")
    count = len(stage.world.events)
    assert count > 0
    stage.do("store_flush")
    stage.run(60.0)

    assert len(stage.world.events) > count
    assert list(stage.world.history.of(Fact.STORE_LOST))


def test_a_goodbye_ends_the_agent_and_leaves_the_host_up(open_stage: Open) -> None:
    """Twice is refused: there is nobody to say it."""
    stage = open_stage()
    stage.do("goodbye", host="h1")
    stage.run(3.0)

    assert stage.facts(Fact.AGENT_DOWN) == [("h1", "")]
    assert stage.executing()["vm1"] == ["h1"]
    assert stage.refused("goodbye", host="h1") == "AGENT_DOWN"


def test_every_act_of_a_timeline_is_a_method() -> None:
    """With the fields of the format as its keywords."""
    for name, fields in ACTS.items():
        method = getattr(World, name)
        wanted = {"from_" if f.name == "from" else f.name for f in fields}
        assert wanted == set(method.__annotations__) - {"return"}, name


def _told(seed: int) -> tuple[list[Any], list[Any]]:
    stage = Stage(scenario(seed=seed, managers=2, fencing="always")).settle()
    lossy = {"from": "h2", "to": "management", "loss": 0.5}
    acts: list[tuple[str, dict[str, Any]]] = [("crash", {"host": "h1"}), ("link", lossy), ("manager_crash", {})]
    for name, arguments in acts:
        stage.do(name, **arguments)
        stage.run(7.0)
    stage.close()
    assert not stage.failures
    return [(e.t, e.record) for e in stage.world.events], list(stage.world.history.lines)


def test_the_same_seed_is_the_same_run() -> None:
    """Event by event and to the last digit, also as the second run of a process; another seed is another run."""
    first = _told(1)

    assert _told(1) == first
    assert _told(2) != first


def test_a_vm_state_of_the_scenario_is_the_start(open_stage: Open) -> None:
    """Running, paused and shut off."""
    vms = [{"id": f"v-{state}", "host": "h1", "state": state} for state in ("running", "paused", "shutoff")]
    stage = open_stage(vms=vms)

    assert {guest.vm: guest.state for guest in stage.world.guests()} == {
        "v-running": VmState.RUNNING,
        "v-paused": VmState.PAUSED,
        "v-shutoff": VmState.SHUTOFF,
    }
