"""Tests of vmha.agent.relay and relay_desk: one side asks when acks stay away, the other carries or attests (R2, R7, R8, R24)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.support.agent_state import FAST, HandClock, agent_config, leased, unmoved
from tests.support.hypervisor import MemoryHypervisor
from tests.support.storage import unshared
from tests.support.waiting import until
from vmha.agent.cluster_copy import ClusterCopy
from vmha.agent.guests import Guests
from vmha.agent.identity import Identity
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import GuardState, Registered
from vmha.agent.metrics import Metrics
from vmha.agent.relay import Relay
from vmha.agent.relay_desk import MAX_FORWARDED, MAX_WAITING, RelayDesk
from vmha.agent.state import State
from vmha.agent.state_file import MemoryFile
from vmha.errors import InvalidField, NotFound
from vmha.rpc.scalars import duration, seconds
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms

CONFIG = agent_config(("h2", "p2:1"), ("h3", "p3:1"))


class Host:
    """An agent's lease and what hangs on it, registered as 17 at 1000.0 on a clock that stands."""

    def __init__(self, config: ms.AgentConfig = CONFIG, host_id: str = "h1") -> None:
        self.clock = HandClock()
        self.metrics = Metrics(self.clock)
        state = State(MemoryFile(), MemoryFile(), host_id, "boot-1")
        state.joined("c1")
        self.keeper = Keeper(state, self.clock, self.metrics)
        guests = Guests(MemoryHypervisor(), unshared(), unmoved(), self.clock, self.metrics)
        copy = ClusterCopy(MemoryFile(), state)
        self.identity = Identity(
            state=state, clock=self.clock, metrics=self.metrics, keeper=self.keeper, guests=guests, copy=copy
        )
        self.identity.configure(config)
        self.keeper.tell(Registered(incarnation=17))

    def ack(self) -> None:
        """An ack from the manager, at this moment."""
        beat = self.identity.heartbeat()
        assert beat is not None
        assert self.identity.accept(ack_of(beat))


def ack_of(beat: heartbeat_pb2.Heartbeat, nonce: str = "") -> heartbeat_pb2.HeartbeatAck:
    nonce = nonce or f"n{beat.sequence}"
    return heartbeat_pb2.HeartbeatAck(host_id=beat.host_id, incarnation=beat.incarnation, sequence=beat.sequence, nonce=nonce)


def asks(host_id: str = "h2", sequence: int = 5, cluster_id: str = "c1") -> pb.RelayHeartbeatRequest:
    beat = heartbeat_pb2.Heartbeat(host_id=host_id, incarnation=4, sequence=sequence)
    return pb.RelayHeartbeatRequest(cluster_id=cluster_id, heartbeat=beat, request_nonce=f"q-{host_id}-{sequence}")


# The side that is asked


class Asked(Host):
    """h1 is asked."""

    def __init__(self, config: ms.AgentConfig = CONFIG) -> None:
        super().__init__(config)
        self.desk = RelayDesk(self.identity)
        self.bundles: list[list[heartbeat_pb2.Heartbeat]] = []
        self.desk.bundle_now = lambda: self.bundles.append(self.desk.bundle())


async def test_r7_a_peers_heartbeat_is_carried_at_once_and_its_ack_passed_on() -> None:
    """Unchanged, in the next message to the manager; the ack of it is the answer."""
    host = Asked()
    host.ack()
    request = asks()
    answer = asyncio.create_task(host.desk.relay(request, 5.0))
    await until(lambda: host.bundles)
    assert host.bundles == [[request.heartbeat]]
    host.desk.acked(ack_of(request.heartbeat, "for h2"))

    assert (await answer).ack.nonce == "for h2"
    assert host.desk.bundle() == []


async def test_r7_what_is_not_acked_goes_with_every_message_for_a_while() -> None:
    """The newest of each peer, until 2.5 heartbeat intervals after it asked."""
    host = Asked()
    host.ack()
    tasks = [asyncio.create_task(host.desk.relay(asks(host_id, sequence), 5.0)) for host_id, sequence in
             (("h2", 5), ("h3", 1), ("h2", 6))]  # fmt: skip
    await until(lambda: len(host.bundles) == 3)
    assert sorted((beat.host_id, beat.sequence) for beat in host.desk.bundle()) == [("h2", 6), ("h3", 1)]
    host.clock.time += 1.25
    assert len(host.desk.bundle()) == 2
    host.clock.time += 0.01
    assert host.desk.bundle() == []
    for task in tasks:
        task.cancel()


async def test_r8_an_ack_that_does_not_come_in_time_makes_an_attest_of_this_moment() -> None:
    """Within the requester's deadline: for how long this host itself has had no ack, however short, and everything repeated."""
    host = Asked()
    host.ack()
    host.clock.time += 2.0
    answer = (await host.desk.relay(asks(), 0.05)).attest

    assert (answer.cluster_id, answer.incarnation, answer.request_nonce) == ("c1", 4, "q-h2-5")
    assert (answer.attester_host_id, seconds(answer.no_ack_age), answer.config_version) == ("h1", 2.0, 1)


async def test_r8_a_host_without_acks_attests_at_once_and_carries_nevertheless() -> None:
    """It does not wait for a manager that it has not heard for attest_after; the heartbeat goes out all the same."""
    host = Asked()
    host.ack()
    host.clock.time += FAST.attest_after_s
    answer = await asyncio.wait_for(host.desk.relay(asks(), 30.0), 0.05)

    assert seconds(answer.attest.no_ack_age) == FAST.attest_after_s
    assert host.bundles == [[asks().heartbeat]]


async def test_l4_an_agent_that_just_started_attests_nothing_that_counts() -> None:
    """Without a record the last ack may have come just now: the age counts from the start."""
    host = Asked()
    host.clock.time += 1.0
    answer = await host.desk.relay(asks(), 0.05)

    assert seconds(answer.attest.no_ack_age) == 1.0


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (asks(cluster_id="c2"), InvalidField),
        (asks(cluster_id=""), InvalidField),
        (asks("h1"), InvalidField),
        (asks("h9"), NotFound),
    ],
)
async def test_r24_strangers_are_refused(request_: pb.RelayHeartbeatRequest, kind: type[Exception]) -> None:
    """Another cluster, this host itself, and hosts that are no members; nothing of theirs is carried."""
    host = Asked()
    with pytest.raises(kind):
        await host.desk.relay(request_, 1.0)

    assert host.bundles == []


async def test_acks_of_other_heartbeats_are_not_passed_on() -> None:
    """Of another incarnation, or of an older heartbeat."""
    host = Asked()
    host.ack()
    answer = asyncio.create_task(host.desk.relay(asks(), 0.1))
    await until(lambda: host.bundles)
    for changed in ({"incarnation": 3}, {"sequence": 4}, {"host_id": "h3"}):
        fields: dict[str, Any] = {"host_id": "h2", "incarnation": 4, "sequence": 5, "nonce": "x"} | changed
        host.desk.acked(heartbeat_pb2.HeartbeatAck(**fields))

    assert (await answer).WhichOneof("answer") == "attest"


async def test_a_large_cluster_does_not_flood_one_host() -> None:
    """Bundles and waiting requests are bounded; who waited longest is carried first, and everybody gets a turn."""
    many = [(f"p{number}", "p:1") for number in range(MAX_WAITING + 10)]
    host = Asked(agent_config(*many))
    host.desk.bundle_now = lambda: None
    host.ack()
    answers = [asyncio.create_task(host.desk.relay(asks(name), 30.0)) for name, _ in many]
    await until(lambda: sum(answer.done() for answer in answers) == 10, 0.4)
    seen: set[str] = set()
    for _ in range(-(-len(many) // MAX_FORWARDED)):
        bundle = host.desk.bundle()
        assert len(bundle) <= MAX_FORWARDED
        seen |= {beat.host_id for beat in bundle}
    for answer in answers:
        answer.cancel()

    assert seen == {name for name, _ in many}


# The side that asks


class Network:
    """Peers that answer what a test says; nothing is said to `connect` twice for one question."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[pb.RelayHeartbeatRequest], pb.RelayHeartbeatResponse]] = {}
        self.requests: dict[str, list[pb.RelayHeartbeatRequest]] = {}
        self.open = 0

    def connect(self, host_id: str, agent_target: str) -> Any:
        self.open += 1
        network = self

        class Connection:
            stub: Any

            async def RelayHeartbeat(self, request: pb.RelayHeartbeatRequest, timeout: float) -> pb.RelayHeartbeatResponse:  # noqa: N802
                network.requests.setdefault(agent_target, []).append(request)
                if agent_target not in network.answers:
                    await asyncio.sleep(timeout)
                    raise grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata())
                return network.answers[agent_target](request)

            async def close(self) -> None:
                network.open -= 1

        connection = Connection()
        connection.stub = connection
        return connection


class Asking(Host):
    """h1 asks."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.relay = Relay(self.identity, self.network)
        self.keeper.ask_peers = self.relay.ask

    def attest(self, host_id: str, age_s: float = 99.0, **changed: Any) -> None:
        """From now on the host answers with its word."""

        def answer(request: pb.RelayHeartbeatRequest) -> pb.RelayHeartbeatResponse:
            fields: dict[str, Any] = {
                "cluster_id": "c1",
                "incarnation": request.heartbeat.incarnation,
                "request_nonce": request.request_nonce,
                "attester_host_id": host_id,
                "no_ack_age": duration(age_s),
            }
            return pb.RelayHeartbeatResponse(attest=pb.Attest(**(fields | changed)))

        self.network.answers[f"p{host_id[1:]}:1"] = answer


async def test_every_voter_is_asked_with_the_same_heartbeat_and_a_nonce_of_its_own() -> None:
    """A fresh heartbeat for the round; connections are given up after it."""
    host = Asking()
    host.ack()
    host.clock.time += FAST.relay_after_s
    host.keeper.look()
    await until(lambda: len(host.network.requests) == 2)
    (first,), (second,) = host.network.requests.values()

    assert first.heartbeat == second.heartbeat
    assert first.heartbeat.incarnation == 17
    assert first.request_nonce != second.request_nonce
    assert min(len(first.request_nonce), len(second.request_nonce)) >= 32
    await host.relay.close()
    assert host.network.open == 0


async def test_an_ack_through_a_peer_is_an_ack() -> None:
    """The lease counts from when the heartbeat was made, and the next heartbeat echoes its nonce."""
    host = Asking()
    host.ack()
    host.clock.time = 1003.0
    host.network.answers["p2:1"] = lambda request: pb.RelayHeartbeatResponse(ack=ack_of(request.heartbeat, "relayed"))
    host.keeper.look()
    await until(lambda: host.keeper.lease.echo == "relayed")

    assert host.keeper.lease.guard_until == 1003.0 + FAST.lease_duration_s
    beat = host.identity.heartbeat()
    assert beat is not None
    assert beat.echoed_nonce == "relayed"
    await host.relay.close()


async def test_a_host_that_is_relayed_keeps_its_rhythm_until_the_manager_answers_itself() -> None:
    """Asked again after request_interval, not after relay_after: its echoes must keep coming. A direct ack ends that."""
    host = Asking()
    host.identity.configure(agent_config(("h2", "p2:1"), ("h3", "p3:1"), version=2, scale=0.05))
    host.network.answers["p2:1"] = lambda request: pb.RelayHeartbeatResponse(ack=ack_of(request.heartbeat))
    host.relay.ask(("h2", "h3"))
    await until(lambda: len(host.network.requests.get("p2:1", [])) >= 3, 1.0)
    first, second, third, *_ = host.network.requests["p2:1"]
    assert second.heartbeat.echoed_nonce == f"n{first.heartbeat.sequence}"
    assert third.heartbeat.echoed_nonce == f"n{second.heartbeat.sequence}"

    host.ack()
    asked = len(host.network.requests["p2:1"])
    await asyncio.sleep(0.1)
    assert len(host.network.requests["p2:1"]) <= asked + 1
    await host.relay.close()


async def test_r2_a_majoritys_word_keeps_the_guard_up() -> None:
    """One of the two others attests, with oneself a majority of three: certified for the window from when it was asked."""
    host = Asking()
    host.ack()
    host.attest("h2")
    host.clock.time = 1007.0
    host.keeper.look()
    await until(lambda: host.keeper.lease.guard_until == 1007.0 + FAST.certificate_window_s)
    host.clock.time = 1007.0 + FAST.lease_duration_s - 6.5

    assert host.keeper.lease.state(host.clock.time) is GuardState.CERTIFIED
    assert not host.keeper.lease.may_start(host.clock.time)
    await host.relay.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"attester_host_id": "h3"},
        {"cluster_id": "c2"},
        {"incarnation": 16},
        {"request_nonce": "guessed"},
        {"no_ack_age": duration(FAST.attest_after_s - 0.01)},
    ],
)
async def test_r24_a_word_that_is_not_what_was_asked_for_counts_for_nothing(changed: dict[str, Any]) -> None:
    """Another host's, another cluster's, of another incarnation or question, or of a host that still hears the manager."""
    host = Asking()
    host.ack()
    host.attest("h2", **changed)
    host.clock.time = 1007.0
    before = host.keeper.lease.guard_until
    host.keeper.look()
    await until(lambda: host.network.requests.get("p2:1"))
    await asyncio.sleep(0.01)

    assert host.keeper.lease.guard_until == before
    await host.relay.close()


async def test_a_latched_host_asks_nobody() -> None:
    """Its incarnation sends no heartbeat any more, not even through peers."""
    host = Asking()
    host.ack()
    host.clock.time += 100.0
    host.keeper.look()
    host.relay.ask(("h2", "h3"))
    await asyncio.sleep(0.01)

    assert host.keeper.lease.latched
    assert host.network.requests == {}


def test_a_process_never_uses_a_sequence_again() -> None:
    """A late ack of the earlier process's heartbeat is not taken for one of this process's: the incarnation is the same."""
    host = Host()
    before = host.identity.heartbeat()
    assert before is not None
    host.clock.time += 1.0
    kept = replace(leased(17, now=host.clock.time), last_ack=host.clock.time)
    state = State(MemoryFile(), MemoryFile(), "h1", "boot-1")
    state.keep(kept)
    keeper = Keeper(state, host.clock, Metrics(host.clock))
    copy = ClusterCopy(MemoryFile(), state)
    again = Identity(state=state, clock=host.clock, metrics=host.metrics, keeper=keeper, guests=host.identity.guests, copy=copy)
    after = again.heartbeat()
    assert after is not None

    assert after.sequence > before.sequence
    assert not again.accept(ack_of(before))
    assert again.accept(ack_of(after))
