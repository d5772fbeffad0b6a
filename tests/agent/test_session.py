"""Tests of the whole agent against a scripted manager over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.agent.conftest import VM1, VM2
from tests.support.agent_state import open_state
from tests.support.hypervisor import MemoryHypervisor, domain_xml
from tests.support.manager_server import ScriptedManager, assignment
from tests.support.waiting import until
from vmha.agent import watchdog_app
from vmha.agent.app import run
from vmha.agent.departures import DEPARTURES_NAME
from vmha.agent.hypervisor import DomainChange
from vmha.agent.state import State
from vmha.clock import SystemClock
from vmha.config import AgentSettings
from vmha.errors import Aborted, NotFound, PreconditionFailed
from vmha.model import PeerVerdict, VmState
from vmha.probe import ProbeResult
from vmha.rpc.scalars import duration, seconds
from vmha.v1 import host_pb2, vm_pb2
from vmha.v1 import manager_service_pb2 as ms

MakeManager = Callable[[], Awaitable[ScriptedManager]]


class Peers:
    """What every exporter answers."""

    def __init__(self) -> None:
        self.verdicts: dict[str, PeerVerdict] = {}
        self.asked: list[str] = []

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        self.asked.append(target)
        return ProbeResult(verdict=self.verdicts.get(target, PeerVerdict.OK), round_trip_s=0.001)


class Agent:
    """An agent process, with its libvirt and its peers, that can be stopped and started."""

    def __init__(self, folder: Path, hypervisor: MemoryHypervisor, peers: Peers) -> None:
        self.folder = folder
        self.hypervisor = hypervisor
        self.peers = peers
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.host_stops = False
        self.watchdog_device: Path | None = None

    def settings(self, *managers: str) -> AgentSettings:
        (self.folder / "boot_id").write_text("boot-1")
        return AgentSettings(
            host_id="h1",
            managers=managers,
            listen="127.0.0.1:0",
            state_dir=self.folder,
            marker_dir=self.folder / "disk",
            boot_id_file=self.folder / "boot_id",
            drain_grace_s=0.05,
            watchdog_device=self.watchdog_device,
            watchdog_timeout_s=1,
        )

    async def start(self, *managers: str) -> None:
        settings = self.settings(*managers)

        async def host_is_stopping() -> bool:
            return self.host_stops

        self._stop = asyncio.Event()
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(
            run(
                settings,
                hypervisor=self.hypervisor,
                probe=self.peers,
                stop=self._stop,
                ready=ready,
                host_is_stopping=host_is_stopping,
            )
        )
        self._task.add_done_callback(lambda task: ready.done() or ready.cancel())
        await asyncio.wait([ready])

    async def stop(self) -> None:
        if self._task is not None:
            self._stop.set()
            await self._task
            self._task = None

    @property
    def state(self) -> State:
        """What is on disk."""
        return open_state(self.folder)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """An agent that was not started yet, on a host where VM1 runs."""
    hypervisor = MemoryHypervisor()
    hypervisor.user_defines("one", VM1, running=True)
    agent = Agent(tmp_path, hypervisor, Peers())
    yield agent
    await agent.stop()


@pytest.fixture
async def make_manager() -> AsyncIterator[MakeManager]:
    """Makes managers that listen."""
    async with AsyncExitStack() as stack:

        async def make() -> ScriptedManager:
            manager = ScriptedManager()
            await manager.start()
            stack.push_async_callback(manager.stop)
            return manager

        yield make


@pytest.fixture
async def manager(make_manager: MakeManager) -> ScriptedManager:
    """A manager that listens."""
    return await make_manager()


async def test_a_host_registers_and_then_beats(agent: Agent, manager: ScriptedManager) -> None:
    """hello, registration with what runs, full inventory; then heartbeats with the offered incarnation, which is on disk."""
    manager.in_force = 41
    await agent.start(manager.target)
    session = await manager.session()
    beat = (await session.heard("heartbeat", 3)).own

    hello, registration, inventory = session.all("hello")[0], session.all("registration")[0], session.all("inventory")[0]
    assert (hello.host_id, hello.boot_id, hello.incarnation) == ("h1", "boot-1", 0)
    assert [vm.vm_id for vm in registration.vms] == [VM1]
    assert (inventory.full, [vm.name for vm in inventory.vms], inventory.host.vcpus) == (True, ["one"], 8)
    assert inventory.vms[0].domain_xml == domain_xml("one", VM1)
    assert (beat.incarnation, beat.vms[0].vm_id, beat.store_generation) == (42, VM1, 3)
    assert agent.state.incarnation == 42
    assert beat.echoed_nonce.startswith("ack-")
    assert session.messages[-1].applied_nonce == "nonce-v1"


async def test_an_agent_that_restarts_resumes_its_registration(agent: Agent, manager: ScriptedManager) -> None:
    """The next process of the same boot names its incarnation and beats at once; it says goodbye in between."""
    await agent.start(manager.target)
    first = await manager.session()
    await first.heard("heartbeat")
    await agent.stop()
    assert first.all("goodbye")[-1].reason == ms.GOODBYE_REASON_AGENT_RESTARTING
    assert first.half_closed
    assert agent.hypervisor.states() == {VM1: VmState.RUNNING}

    await agent.start(manager.target)
    second = await manager.session(2)
    await second.heard("heartbeat")

    assert second.all("hello")[0].incarnation == manager.in_force
    assert second.all("registration") == []
    assert second.all("hello")[0].agent_instance_id != first.all("hello")[0].agent_instance_id


async def test_a_host_that_shuts_down_says_so(agent: Agent, manager: ScriptedManager) -> None:
    """The goodbye tells a planned shutdown from an agent's restart."""
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    agent.host_stops = True
    await agent.stop()

    assert session.all("goodbye")[-1].reason == ms.GOODBYE_REASON_HOST_SHUTTING_DOWN
    assert agent.hypervisor.states() == {VM1: VmState.RUNNING}


async def test_a_hung_libvirt_holds_up_no_heartbeat(agent: Agent, manager: ScriptedManager) -> None:
    """While libvirtd does not answer, heartbeats keep their rhythm and no inventory is said to be empty."""
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    inventories = len(session.all("inventory"))
    agent.hypervisor.hang()
    agent.hypervisor.user_sets(VM1, VmState.RUNNING)
    await session.heard("heartbeat", len(session.all("heartbeat")) + 5)

    assert len(session.all("inventory")) == inventories
    agent.hypervisor.hang(False)


async def test_a_host_without_libvirt_waits_with_its_registration(agent: Agent, manager: ScriptedManager) -> None:
    """Nobody can say what runs: no registration and no inventory, until libvirt answers."""
    agent.hypervisor.away()
    await agent.start(manager.target)
    session = await manager.session()
    await asyncio.sleep(0.2)
    assert session.all("registration") == session.all("inventory") == []

    agent.hypervisor.away(False)
    registration = await session.heard("registration")

    assert [vm.vm_id for vm in registration.vms] == [VM1]


async def test_s04_a_changed_verdict_is_reported_at_once(agent: Agent, manager: ScriptedManager) -> None:
    """The interval is 30 s; the report of a peer that fell silent comes right behind its third miss."""
    manager.assignment = assignment(("h2", "p2:1"), ("h3", "p3:1"))
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("report")
    agent.peers.verdicts["p3:1"] = PeerVerdict.TIMEOUT

    def silent() -> bool:
        newest = session.all("report")[-1]
        return {seen.host_id: seen.verdict for seen in newest.observations} == {
            "h2": host_pb2.PEER_VERDICT_OK,
            "h3": host_pb2.PEER_VERDICT_TIMEOUT,
        }

    await until(silent)
    newest = session.all("report")[-1]

    assert newest.assignment_version == "v1"
    assert newest.observations[1].consecutive_count == 3
    assert seconds(newest.observations[1].age) < 1.0


async def test_s04_reports_come_regularly_without_any_change(agent: Agent, manager: ScriptedManager) -> None:
    """Every report interval the whole view is sent, with sequences that grow together with the inventories'."""
    manager.assignment = assignment(("h2", "p2:1"), report_s=0.1)
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("report", 4)

    sequences = [part.sequence for message in session.messages if message.WhichOneof("payload") in {"report", "inventory"}
                 for part in (message.report if message.HasField("report") else message.inventory,)]  # fmt: skip
    assert sequences == list(range(1, len(sequences) + 1))


async def test_s02_peers_are_asked_for_in_each_round(agent: Agent, manager: ScriptedManager) -> None:
    """GetPeers is polled each refresh interval, and a new drawing is probed from then on."""
    manager.assignment = assignment(("h2", "p2:1"), refresh_s=0.1)
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    manager.polled = ms.GetPeersResponse(
        peers=[ms.Peer(host_id="h3", probe_target="p3:1")], assignment_version="v2", refresh_interval=duration(0.1)
    )

    await until(lambda: manager.polls >= 2 and "p3:1" in agent.peers.asked)
    await until(lambda: session.all("report")[-1].assignment_version == "v2")
    assert [seen.host_id for seen in session.all("report")[-1].observations] == ["h3"]


async def test_s02_a_pushed_assignment_is_applied_and_answered(agent: Agent, manager: ScriptedManager) -> None:
    """The next message after an assignment carries its nonce, and its peers are probed."""
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    session.say(assignment=assignment(("h9", "p9:1"), version="v9"))

    await until(lambda: session.messages[-1].applied_nonce == "nonce-v9")
    await until(lambda: "p9:1" in agent.peers.asked)


async def test_scouts_probe_at_once_and_name_their_order(agent: Agent, manager: ScriptedManager) -> None:
    """A scout's report has the request's id, and what was seen of just those peers."""
    manager.assignment = assignment(("h2", "p2:1"))
    agent.peers.verdicts["p7:1"] = PeerVerdict.TIMEOUT
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    session.say(scout=ms.ScoutRequest(scout_id="s-1", peers=[ms.Peer(host_id="h7", probe_target="p7:1")]))

    await until(lambda: any(report.scout_id == "s-1" for report in session.all("report")))
    (report,) = [report for report in session.all("report") if report.scout_id]

    assert [(seen.host_id, seen.verdict, seen.consecutive_count) for seen in report.observations] == [
        ("h7", host_pb2.PEER_VERDICT_TIMEOUT, 3)
    ]


async def test_s06_s08_ownership_is_carried_out(agent: Agent, manager: ScriptedManager) -> None:
    """In two messages: VM2 is started, VM1 given up; the inventory says so with the epochs that were told."""
    agent.hypervisor.user_defines("two", VM2)
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    session.say(
        ownership=ms.OwnershipUpdate(
            incarnation=1,
            owned=[ms.OwnedVm(vm_id=VM2, epoch=7, desired_state=vm_pb2.VM_STATE_RUNNING)],
            start_owned=True,
            more=True,
        )
    )
    session.say(
        ownership=ms.OwnershipUpdate(
            incarnation=1, start_owned=True, releases=[ms.VmRelease(vm_id=VM1, epoch=8, owner_host_id="h2")]
        )
    )
    await until(lambda: agent.hypervisor.states() == {VM2: VmState.RUNNING})

    def told() -> dict[str, tuple[int, int]]:
        return {vm.vm_id: (vm.state, vm.epoch) for inventory in session.all("inventory") for vm in inventory.vms}

    await until(lambda: told() == {VM1: (vm_pb2.VM_STATE_ABSENT, 0), VM2: (vm_pb2.VM_STATE_RUNNING, 7)})
    await until(lambda: [(vm.vm_id, vm.epoch) for vm in session.all("heartbeat")[-1].own.vms] == [(VM2, 7)])


async def test_a_revoked_incarnation_is_followed_by_a_new_registration(agent: Agent, manager: ScriptedManager) -> None:
    """No heartbeat of the old incarnation follows; the host registers anew, in the same session, and touches no guest."""
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    manager.offers = False
    session.say(revoked=ms.IncarnationRevoked(incarnation=1, reason="CONFIRMED_DOWN"))
    registration = await session.heard("registration", 2)
    assert agent.state.incarnation == 0
    beats = len(session.all("heartbeat"))
    await asyncio.sleep(0.2)
    assert len(session.all("heartbeat")) == beats

    session.say(offer=ms.RegistrationOffer(boot_token="somebody else's", incarnation=5))
    session.say(offer=ms.RegistrationOffer(boot_token=registration.boot_token, incarnation=6))
    await session.heard("heartbeat", beats + 1)

    assert session.all("heartbeat")[-1].own.incarnation == 6
    assert session.all("inventory")[-1].full
    assert agent.hypervisor.states() == {VM1: VmState.RUNNING}


async def test_an_inventory_is_sent_on_request_and_after_each_new_session(agent: Agent, manager: ScriptedManager) -> None:
    """InventoryRequest and a new session are both answered with everything."""
    await agent.start(manager.target)
    first = await manager.session()
    await first.heard("inventory")
    first.say(inventory_request=ms.InventoryRequest(reason="STORE_LOST"))
    assert (await first.heard("inventory", 2)).full

    first.end(Aborted("SESSION_SUPERSEDED", "go away"))
    second = await manager.session(2)
    assert (await second.heard("inventory")).full


async def test_r22_a_departure_is_on_disk_until_its_inventory_is_acknowledged(agent: Agent, manager: ScriptedManager) -> None:
    """A manager that does not take inventories in has taken note of nothing; one that does ends the record."""
    record = agent.folder / "disk" / DEPARTURES_NAME
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat")
    manager.acks = False
    agent.hypervisor.user_undefines(VM1, DomainChange.MIGRATED)
    await until(lambda: any(vm.state_reason == "migrated" for part in session.all("inventory") for vm in part.vms))
    await until(lambda: record.exists() and VM1 in record.read_text())

    manager.acks = True
    session.say(inventory_request=ms.InventoryRequest(reason="STORE_LOST"))
    await until(lambda: not record.exists())


async def test_what_is_not_acknowledged_is_sent_anew(
    agent: Agent, manager: ScriptedManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manager that could not store a report or inventory gets the newest again, under a new sequence."""
    monkeypatch.setattr("vmha.agent.session.RESEND_S", 0.1)
    manager.assignment = assignment(("h2", "p2:1"))
    manager.acks = False
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("inventory", 2)
    await session.heard("report", 3)
    manager.acks = True
    await until(lambda: len(session.all("report")) >= 4)
    await asyncio.sleep(0.3)
    reports, inventories = len(session.all("report")), len(session.all("inventory"))
    await asyncio.sleep(0.4)

    assert (len(session.all("report")), len(session.all("inventory"))) == (reports, inventories)


async def test_the_config_decides_about_autostart(agent: Agent, manager: ScriptedManager) -> None:
    """Protection on: taken over. Off, by a newer configuration: put back. An older configuration changes nothing."""
    agent.hypervisor.user_defines("two", VM2, autostart=True)
    manager.config = ms.AgentConfig(version=3, protection_enabled=True)
    await agent.start(manager.target)
    session = await manager.session()
    await until(lambda: agent.hypervisor.autostarts()[VM2] is False)
    session.say(config=ms.AgentConfig(version=2, protection_enabled=False))
    beat = await session.heard("heartbeat", len(session.all("heartbeat")) + 2)
    assert beat.own.config_version == 3
    assert agent.hypervisor.autostarts()[VM2] is False

    session.say(config=ms.AgentConfig(version=4, protection_enabled=False))
    await until(lambda: agent.hypervisor.autostarts()[VM2] is True)


async def test_a_manager_that_is_away_is_found_again(agent: Agent, make_manager: MakeManager) -> None:
    """The first manager dies: the agent goes on with the second, and resumes there with what it holds."""
    first, second = await make_manager(), await make_manager()
    await agent.start(first.target, second.target)
    session = await first.session()
    await session.heard("heartbeat")
    second.in_force = first.in_force
    await first.stop()
    moved = await second.session()
    await moved.heard("heartbeat")

    assert moved.all("hello")[0].incarnation == first.in_force


async def test_the_leader_is_followed(agent: Agent, make_manager: MakeManager) -> None:
    """NOT_LEADER names the leader; the agent opens its session there at once."""
    follower, leader = await make_manager(), await make_manager()
    follower.refuse = PreconditionFailed("NOT_LEADER", "ask the leader", {"leader": leader.target})
    await agent.start(follower.target)
    session = await leader.session()

    assert await session.heard("heartbeat")


async def test_a_drain_moves_the_session_before_the_old_one_ends(agent: Agent, make_manager: MakeManager) -> None:
    """The agent is welcomed elsewhere first, and half-closes the drained session then."""
    first, second = await make_manager(), await make_manager()
    await agent.start(first.target, second.target)
    session = await first.session()
    await session.heard("heartbeat")
    second.in_force = first.in_force
    session.say(drain=ms.SessionDrain(grace_duration=duration(5)))
    moved = await second.session()
    await moved.heard("heartbeat")
    await until(lambda: session.ended)

    assert session.half_closed
    assert session.all("goodbye") == []


async def test_a_host_that_is_not_known_asks_on(agent: Agent, manager: ScriptedManager) -> None:
    """HOST_UNKNOWN is no end: as soon as the operator has added the host, its session opens."""
    manager.refuse = NotFound("HOST_UNKNOWN", "no such host")
    await agent.start(manager.target)
    await asyncio.sleep(0.2)
    assert manager.sessions == []
    manager.refuse = None

    session = await manager.session()
    await session.heard("heartbeat")


async def test_acks_of_others_and_older_ones_count_for_nothing(agent: Agent, manager: ScriptedManager) -> None:
    """Only a newer ack of the own incarnation changes the nonce that is echoed."""
    await agent.start(manager.target)
    session = await manager.session()
    await session.heard("heartbeat", 3)
    manager.acks = False
    await until(session.outbox.empty)
    beat = (await session.heard("heartbeat", len(session.all("heartbeat")) + 2)).own
    for changed in ({"host_id": "h2"}, {"incarnation": 77}, {"sequence": 1}, {"sequence": 999_999}):
        fields = {"host_id": "h1", "incarnation": beat.incarnation, "sequence": beat.sequence, "nonce": "forged"} | changed
        session.say(heartbeat_acks=ms.HeartbeatAcks(acks=[fields]))
    later = (await session.heard("heartbeat", len(session.all("heartbeat")) + 2)).own

    assert later.echoed_nonce == beat.echoed_nonce != "forged"


class Bowl:
    """A watchdog's device that takes what it gets."""

    def feed(self) -> None:
        """See `Watchdog`."""

    def close(self, *, disarm: bool) -> None:
        """See `Watchdog`."""


class NoVms:
    """A host without guests."""

    def alive(self) -> frozenset[str]:
        """See `Processes`."""
        return frozenset()


async def test_r10_a_watchdog_is_announced_only_while_somebody_feeds_it(agent: Agent, manager: ScriptedManager) -> None:
    """A device in the settings is none. The feeder's start and its end are each told of by a new session, at once."""
    agent.watchdog_device = agent.folder / "watchdog"
    await agent.start(manager.target)
    first = await manager.session()
    await first.heard("heartbeat", 3)
    assert [session.all("hello")[0].watchdog for session in manager.sessions] == [False]

    stop = asyncio.Event()
    feeder = asyncio.create_task(watchdog_app.run(agent.settings(manager.target), watchdog=Bowl(), processes=NoVms(), stop=stop))
    second = await manager.session(2)
    await second.heard("heartbeat", 10)
    assert first.half_closed
    assert not first.all("goodbye")
    assert second.all("hello")[0].watchdog

    stop.set()
    await feeder
    third = await manager.session(3)
    await third.heard("heartbeat", 3)
    assert [session.all("hello")[0].watchdog for session in manager.sessions] == [False, True, False]
    assert second.half_closed


async def test_r10_a_feeder_that_vanished_is_missed_within_the_devices_timeout(agent: Agent, manager: ScriptedManager) -> None:
    """A host that lives on although nobody feeds its watchdog has none."""
    agent.watchdog_device = agent.folder / "watchdog"
    settings = agent.settings(manager.target)
    feeder = watchdog_app.Feeder(settings, Bowl(), NoVms(), SystemClock())
    feeder.look()
    await agent.start(manager.target)
    assert (await manager.session()).all("hello")[0].watchdog
    assert not (await manager.session(2)).all("hello")[0].watchdog
