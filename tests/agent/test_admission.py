"""Tests of vmha.agent.admission and service: what may execute here (design 5.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest

from tests.agent.conftest import VM1
from tests.support.hypervisor import MemoryHypervisor
from vmha.agent.admission import Admission
from vmha.agent.cluster_copy import ClusterCopy
from vmha.agent.guests import Guests
from vmha.agent.identity import Identity
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import Unregistered
from vmha.agent.metrics import Metrics
from vmha.agent.relay_desk import RelayDesk
from vmha.agent.service import SERVICE_NAME, AgentServicer
from vmha.agent.state import State
from vmha.agent.state_file import MemoryFile
from vmha.agent.vm_locks import VmLocks
from vmha.clock import SystemClock
from vmha.errors import VmhaError
from vmha.model import VmState
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.server import Server
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import vm_pb2
from vmha.v1.agent_service_pb2_grpc import AgentServiceStub, add_AgentServiceServicer_to_server


@pytest.fixture
async def channel(hypervisor: MemoryHypervisor, state: State, keeper: Keeper, guests: Guests) -> AsyncIterator[grpc.aio.Channel]:
    """To the agent of h1 in c1, registered as 17; VM1 waits there for its admission."""
    state.joined("c1")
    hypervisor.user_defines("one", VM1)
    hypervisor.user_sets(VM1, VmState.AWAITING_ADMISSION, "user")
    clock = SystemClock()
    identity = Identity(
        state=state, clock=clock, metrics=Metrics(clock), keeper=keeper, guests=guests, copy=ClusterCopy(MemoryFile(), state)
    )
    admission = Admission(state, keeper, hypervisor, guests, VmLocks())
    servicer = AgentServicer(admission, RelayDesk(identity), keeper)
    server = Server([(add_AgentServiceServicer_to_server, servicer, SERVICE_NAME)], "127.0.0.1:0")
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def admit(channel: grpc.aio.Channel, **changed: object) -> pb.AdmitVmResponse:
    fields = {"cluster_id": "c1", "host_id": "h1", "incarnation": 17, "vm_id": VM1, "epoch": 5} | changed
    try:
        answer: pb.AdmitVmResponse = await AgentServiceStub(channel).AdmitVm(pb.AdmitVmRequest(**fields), timeout=5)  # type: ignore[arg-type]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    return answer


async def test_an_admitted_vm_executes(channel: grpc.aio.Channel, hypervisor: MemoryHypervisor, state: State) -> None:
    """Paused and rightly asked for: it is resumed, and its epoch is on disk."""
    answer = await admit(channel)

    assert answer.state == vm_pb2.VM_STATE_RUNNING
    assert hypervisor.states() == {VM1: VmState.RUNNING}
    assert state.epoch(VM1) == 5


async def test_admission_may_be_repeated(channel: grpc.aio.Channel, hypervisor: MemoryHypervisor) -> None:
    """The second request with the same epoch answers RUNNING again."""
    await admit(channel)

    assert (await admit(channel)).state == vm_pb2.VM_STATE_RUNNING
    assert hypervisor.states() == {VM1: VmState.RUNNING}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"incarnation": 16}, "INCARNATION_MISMATCH"),
        ({"incarnation": 18}, "INCARNATION_MISMATCH"),
        ({"host_id": "h2"}, "FIELD_INVALID"),
        ({"cluster_id": "c2"}, "FIELD_INVALID"),
        ({"epoch": 0}, "FIELD_INVALID"),
        ({"vm_id": "vm1"}, "FIELD_INVALID"),
        ({"vm_id": "99999999-9999-4999-8999-999999999999"}, "DOMAIN_UNKNOWN"),
    ],
)
async def test_what_may_not_execute_stays_paused(
    channel: grpc.aio.Channel, hypervisor: MemoryHypervisor, changed: dict[str, object], reason: str
) -> None:
    """A request for another registration, host, cluster or VM is refused by name, and resumes nothing."""
    with pytest.raises(VmhaError) as caught:
        await admit(channel, **changed)

    assert caught.value.reason == reason
    assert hypervisor.states() == {VM1: VmState.AWAITING_ADMISSION}


async def test_a_host_without_a_registration_admits_nothing(
    channel: grpc.aio.Channel, hypervisor: MemoryHypervisor, keeper: Keeper
) -> None:
    """After the incarnation was revoked, a late start is refused."""
    keeper.tell(Unregistered())
    with pytest.raises(VmhaError) as caught:
        await admit(channel)

    assert caught.value.reason == "NOT_REGISTERED"
    assert hypervisor.states() == {VM1: VmState.AWAITING_ADMISSION}


@pytest.mark.parametrize(("owned", "released"), [({VM1: 6}, {}), ({}, {VM1: 6}), ({}, {VM1: 5})])
async def test_an_older_epoch_is_stale(
    channel: grpc.aio.Channel, hypervisor: MemoryHypervisor, state: State, owned: dict[str, int], released: dict[str, int]
) -> None:
    """Whatever newer epoch was seen, held here or by another host, an older request resumes nothing."""
    state.told(owned, released)
    with pytest.raises(VmhaError) as caught:
        await admit(channel)

    assert (caught.value.code, caught.value.reason) == ("ABORTED", "STALE_VM_EPOCH")
    assert hypervisor.states() == {VM1: VmState.AWAITING_ADMISSION}


async def test_a_domain_that_is_shut_off_is_not_started(channel: grpc.aio.Channel, hypervisor: MemoryHypervisor) -> None:
    """Admission resumes; it starts nothing."""
    hypervisor.user_sets(VM1, VmState.SHUTOFF, "destroyed")
    with pytest.raises(VmhaError) as caught:
        await admit(channel)

    assert caught.value.reason == "DOMAIN_NOT_PAUSED"


async def test_without_libvirt_the_caller_may_try_again(channel: grpc.aio.Channel, hypervisor: MemoryHypervisor) -> None:
    """UNAVAILABLE, LIBVIRT_UNAVAILABLE."""
    hypervisor.away()
    with pytest.raises(VmhaError) as caught:
        await admit(channel)

    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "LIBVIRT_UNAVAILABLE")


async def test_r12_without_a_lease_nothing_is_admitted(
    channel: grpc.aio.Channel, hypervisor: MemoryHypervisor, state: State, keeper: Keeper
) -> None:
    """A registration alone is not enough, nor is a certificate: LEASE_EXPIRED, and the domain stays paused."""
    now = SystemClock().now()
    kept = replace(state.kept, lease_until=now - 1, cert_until=now + 60)
    keeper.lease._kept = kept
    with pytest.raises(VmhaError) as caught:
        await admit(channel)

    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "LEASE_EXPIRED")
    assert hypervisor.states() == {VM1: VmState.AWAITING_ADMISSION}
