"""Mutual TLS with real certificates: every caller is whom its certificate names, and may call what its role may (R24).

The services are the real ones; each call gets past the gate and then fails of something else: so a refusal by the gate can be
told from one behind it.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.certificates import LOOPBACK, Authority
from tests.support.redis import RedisServer
from tests.support.refusals import refused
from vmha.agent import app as agent_app
from vmha.agent.peers import GrpcPeers
from vmha.config import AgentSettings, EvacSettings, ManagerSettings
from vmha.errors import PermissionDenied, VmhaError
from vmha.evac import app as evac_app
from vmha.manager import app as manager_app
from vmha.rpc.authz import RULES, Caller, Role, caller_of, check
from vmha.rpc.channel import open_channel
from vmha.rpc.tls import TlsFiles
from vmha.store import Store
from vmha.v1 import agent_service_pb2 as ag
from vmha.v1 import agent_service_pb2_grpc as ag_grpc
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import evacuation_service_pb2_grpc as ev_grpc
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc

WAIT_S = 10.0
SERVICES = ("agent_service", "cluster_service", "evacuation_service", "event_service", "manager_service")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom everybody trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom nobody trusts."""
    return Authority(tmp_path_factory.mktemp("strangers"))


# The services


@asynccontextmanager
async def running(service: Callable[..., Any], stop: asyncio.Event, ready: asyncio.Future[int]) -> AsyncIterator[int]:
    task = asyncio.create_task(service())
    await asyncio.wait({task, ready}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    assert ready.done(), "it did not start"
    try:
        yield ready.result()
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


@asynccontextmanager
async def manager(redis_url: str, tls: TlsFiles) -> AsyncIterator[int]:
    settings = ManagerSettings(
        listen="127.0.0.1:0", redis_url=redis_url, evac_target="127.0.0.1:1", tls=tls, drain_grace_s=0.1, discovery_interval_s=0.1
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with running(lambda: manager_app.run(settings, started=ready.set_result, stop=stop), stop, ready) as port:
        yield port


@asynccontextmanager
async def evacuator(redis_url: str, tls: TlsFiles) -> AsyncIterator[int]:
    settings = EvacSettings(listen="127.0.0.1:0", redis_url=redis_url, tls=tls, drain_grace_s=0.1)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with running(lambda: evac_app.run(settings, stop=stop, ready=ready), stop, ready) as port:
        yield port


@asynccontextmanager
async def agent(folder: Path, tls: TlsFiles, host_id: str, managers: str = "127.0.0.1:1") -> AsyncIterator[int]:
    home = folder / host_id
    home.mkdir()
    (home / "boot_id").write_text("boot-1")
    settings = AgentSettings(
        host_id=host_id,
        managers=(managers,),
        listen="127.0.0.1:0",
        libvirt_uri="test:///default",
        state_dir=home,
        marker_dir=home / "disk",
        boot_id_file=home / "boot_id",
        tls=tls,
        drain_grace_s=0.1,
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with running(lambda: agent_app.run(settings, stop=stop, ready=ready), stop, ready) as port:
        yield port


@dataclass(frozen=True)
class Ports:
    """Where they listen."""

    manager: int
    evac: int
    agent: int


@pytest.fixture
async def ports(redis_server: RedisServer, store: Store, authority: Authority, tmp_path: Path) -> AsyncIterator[Ports]:
    """One of each service; the agent is h1's, and is in no cluster yet."""
    async with (
        manager(redis_server.url, authority.service("manager")) as manager_port,
        evacuator(redis_server.url, authority.service("evac")) as evac_port,
        agent(tmp_path, authority.host("h1"), "h1") as agent_port,
    ):
        yield Ports(manager_port, evac_port, agent_port)


# The calls


async def session(channel: grpc.aio.Channel, host_id: str) -> VmhaError:
    call: Any = ms_grpc.ManagerServiceStub(channel).ReportHealth(timeout=WAIT_S)

    async def greeted() -> Any:
        hello = ms.AgentHello(host_id=host_id, boot_id="b", agent_instance_id="i")
        await call.write(ms.ReportHealthRequest(hello=hello))
        return await call.read()

    try:
        return await refused(greeted())
    finally:
        call.cancel()


async def get_peers(channel: grpc.aio.Channel, host_id: str) -> VmhaError:
    return await refused(ms_grpc.ManagerServiceStub(channel).GetPeers(ms.GetPeersRequest(host_id=host_id), timeout=WAIT_S))


async def relay(channel: grpc.aio.Channel, host_id: str) -> VmhaError:
    beat = heartbeat_pb2.Heartbeat(host_id=host_id, incarnation=1, sequence=1)
    request = ag.RelayHeartbeatRequest(cluster_id="c1", heartbeat=beat, request_nonce="n" * 32)
    return await refused(ag_grpc.AgentServiceStub(channel).RelayHeartbeat(request, timeout=WAIT_S))


async def admit(channel: grpc.aio.Channel, _host_id: str) -> VmhaError:
    request = ag.AdmitVmRequest(cluster_id="c1", host_id="h1", incarnation=1, vm_id=str(uuid.UUID(int=1)), epoch=1)
    return await refused(ag_grpc.AgentServiceStub(channel).AdmitVm(request, timeout=WAIT_S))


async def evacuate(channel: grpc.aio.Channel, host_id: str) -> VmhaError:
    request = ev.EvacuateRequest(cluster_id="c9", host_id=host_id, request_id=str(uuid.UUID(int=2)), fence_epoch=1, leader_term=1)
    return await refused(ev_grpc.EvacuationServiceStub(channel).Evacuate(request, timeout=WAIT_S))


async def explain_placement(channel: grpc.aio.Channel, _host_id: str) -> VmhaError:
    request = ev.ExplainVmPlacementRequest(cluster_id="c9", vm_id=str(uuid.UUID(int=1)))
    return await refused(ev_grpc.EvacuationServiceStub(channel).ExplainVmPlacement(request, timeout=WAIT_S))


async def list_clusters(channel: grpc.aio.Channel, _host_id: str) -> VmhaError:
    request = cs.ListClustersRequest(page_token="nonsense")
    return await refused(cs_grpc.ClusterServiceStub(channel).ListClusters(request, timeout=WAIT_S))


Call = Callable[[grpc.aio.Channel, str], Any]
CALLS: dict[str, tuple[Call, str, str, frozenset[str]]] = {
    "session": (session, "manager", "HOST_UNKNOWN", frozenset({"host/h2"})),
    "get_peers": (get_peers, "manager", "HOST_UNKNOWN", frozenset({"host/h2"})),
    "relay": (relay, "agent", "FIELD_INVALID", frozenset({"host/h2"})),
    "admit": (admit, "agent", "NOT_REGISTERED", frozenset({"evac"})),
    "evacuate": (evacuate, "evac", "CLUSTER_UNKNOWN", frozenset({"manager", "operator/ada"})),
    "explain_placement": (explain_placement, "evac", "CLUSTER_UNKNOWN", frozenset({"manager", "operator/ada"})),
    "list_clusters": (list_clusters, "manager", "FIELD_INVALID", frozenset({"operator/ada"})),
}
"""What is called, where, what it fails of behind the gate, and who gets there. Each speaks as h2 where it speaks as a host."""
SPEAKING = ("session", "get_peers", "relay")


def reach(ports: Ports, name: str, tls: TlsFiles) -> grpc.aio.Channel:
    where = CALLS[name][1]
    return open_channel(f"127.0.0.1:{getattr(ports, where)}", tls, host_id="h1" if where == "agent" else "")


@pytest.mark.parametrize("name", CALLS)
async def test_r24_only_the_role_that_may_gets_to_the_handler(ports: Ports, authority: Authority, name: str) -> None:
    """Every role against each kind of call; so is a certificate of the right authority that names nobody."""
    call, _, behind, allowed = CALLS[name]
    for identity in ("host/h2", "manager", "evac", "operator/ada", "nobody"):
        tls = authority.sign("nobody", LOOPBACK) if identity == "nobody" else authority.service(identity)
        async with reach(ports, name, tls) as channel:
            error = await call(channel, "h2")
        if identity in allowed:
            assert error.reason == behind, identity
        else:
            assert isinstance(error, PermissionDenied), identity
            assert error.reason == "CALLER_NOT_ALLOWED", identity


@pytest.mark.parametrize("name", SPEAKING)
async def test_r24_a_host_speaks_as_itself_only(ports: Ports, authority: Authority, name: str) -> None:
    """The certificate of h3 opens no session, gets no peers and has no heartbeat carried as h2."""
    async with reach(ports, name, authority.host("h3")) as channel:
        error = await CALLS[name][0](channel, "h2")

    assert isinstance(error, PermissionDenied)
    assert error.reason == "HOST_MISMATCH"
    assert error.metadata == {"caller": "host h3", "host_id": "h2"}


@pytest.mark.parametrize("name", CALLS)
async def test_without_a_certificate_of_the_authority_nothing_is_answered(
    ports: Ports, authority: Authority, strangers: Authority, name: str
) -> None:
    """No certificate, and one of another authority that names the right holder: the handshake fails, whatever is called."""
    call, where, _, allowed = CALLS[name]
    forged = strangers.service(next(iter(allowed)))
    forged = TlsFiles(cert_file=forged.cert_file, key_file=forged.key_file, ca_file=authority.ca_file)
    naked = grpc.ssl_channel_credentials(root_certificates=authority.ca_file.read_bytes())
    options = [("grpc.ssl_target_name_override", "h1")] if where == "agent" else []
    target = f"127.0.0.1:{getattr(ports, where)}"
    for channel in (reach(ports, name, forged), grpc.aio.secure_channel(target, naked, options=options), open_channel(target)):
        async with channel:
            assert (await call(channel, "h2")).reason == "PEER_UNREACHABLE"


async def test_r24_nobody_else_is_asked_at_a_peers_address(ports: Ports, authority: Authority) -> None:
    """The agent of h1 answers where h4 was expected: it is not even asked, so its word can't be counted as h4's."""
    target = f"127.0.0.1:{ports.agent}"
    for host_id, reason in (("h4", "PEER_UNREACHABLE"), ("h1", "FIELD_INVALID")):
        connection = GrpcPeers(authority.host("h2")).connect(host_id, target)
        beat = heartbeat_pb2.Heartbeat(host_id="h2", incarnation=1, sequence=1)
        request = ag.RelayHeartbeatRequest(cluster_id="c1", heartbeat=beat, request_nonce="n" * 32)
        assert (await refused(connection.stub.RelayHeartbeat(request, timeout=WAIT_S))).reason == reason
        await connection.close()


async def test_every_role_may_ask_for_health_and_operators_for_reflection(ports: Ports, authority: Authority) -> None:
    """Probes may have any role; the list of services is for people."""
    for tls, reflects in ((authority.service("operator/ada"), True), (authority.service("evac"), False)):
        async with reach(ports, "evacuate", tls) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)).status == 1
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = cast(Any, reflection_pb2_grpc.ServerReflectionStub)(channel)
            call = stub.ServerReflectionInfo(iter([asked]), timeout=WAIT_S)
            if reflects:
                assert [answer async for answer in call]
            else:
                assert (await refused(call)).reason == "CALLER_NOT_ALLOWED"


async def test_a_cluster_lives_on_real_certificates(
    redis_server: RedisServer, store: Store, authority: Authority, tmp_path: Path
) -> None:
    """Two real agents register with a real manager and beat, and one attests to the other: the right names are let in."""
    async with manager(redis_server.url, authority.service("manager")) as port:
        target = f"127.0.0.1:{port}"
        async with (
            agent(tmp_path, authority.host("h1"), "h1", target) as first,
            agent(tmp_path, authority.host("h2"), "h2", target) as second,
            open_channel(target, authority.service("operator/ada")) as channel,
        ):
            operator: Any = cs_grpc.ClusterServiceStub(channel)
            await operator.CreateCluster(cs.CreateClusterRequest(cluster_id="c1"), timeout=WAIT_S)
            for host_id, agent_port in (("h1", first), ("h2", second)):
                request = cs.CreateHostRequest(cluster_id="c1", host_id=host_id)
                request.config.agent_target = f"127.0.0.1:{agent_port}"
                request.config.probe_target = "127.0.0.1:1"
                request.config.libvirt_uri = "test:///default"
                await operator.CreateHost(request, timeout=WAIT_S)

            async def registered() -> bool:
                hosts = (await operator.ListHosts(cs.ListHostsRequest(cluster_id="c1"), timeout=WAIT_S)).hosts
                return len(hosts) == 2 and all(host.incarnation for host in hosts)

            async with asyncio.timeout(30):
                while not await registered():
                    await asyncio.sleep(0.1)

            connection = GrpcPeers(authority.host("h2")).connect("h1", f"127.0.0.1:{first}")
            beat = heartbeat_pb2.Heartbeat(host_id="h2", incarnation=99, sequence=1)
            asked = ag.RelayHeartbeatRequest(cluster_id="c1", heartbeat=beat, request_nonce="n" * 32)
            async with asyncio.timeout(WAIT_S):
                answer = await connection.stub.RelayHeartbeat(asked, timeout=1.0)
            await connection.close()
            assert answer.attest.attester_host_id == "h1"


# The table


def methods() -> Iterator[str]:
    for name in SERVICES:
        for service in importlib.import_module(f"vmha.v1.{name}_pb2").DESCRIPTOR.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def test_every_method_of_the_contract_has_a_rule_and_nothing_else_has() -> None:
    """Who may call each, written down once more; a method that is added needs a rule before anybody may call it."""
    allowed: dict[str, set[str]] = {}
    for method in methods():
        for role in Role:
            try:
                check(method, Caller(role, "x"))
            except PermissionDenied:
                continue
            allowed.setdefault(method.removeprefix("/vmha.v1."), set()).add(role.value)
    spelled = {
        "AgentService/AdmitVm": {"evac"},
        "AgentService/RelayHeartbeat": {"host"},
        "ManagerService/GetPeers": {"host"},
        "ManagerService/ReportHealth": {"host"},
    }
    for method in methods():
        short = method.removeprefix("/vmha.v1.")
        service = short.partition("/")[0]
        expected = {"ClusterService": {"operator"}, "EventService": {"operator"}, "EvacuationService": {"manager", "operator"}}
        assert allowed[short] == (spelled[short] if short in spelled else expected[service])
    used = set(methods()) | {method[: method.rfind("/") + 1] for method in methods()}
    assert {rule for rule in RULES if rule.startswith("/vmha.")} <= used
    with pytest.raises(PermissionDenied):
        check("/vmha.v1.AgentService/Unheard", Caller(Role.EVAC))


@pytest.mark.parametrize(
    ("uris", "caller"),
    [
        (["spiffe://example.org/vmha/host/h1"], Caller(Role.HOST, "h1")),
        (["spiffe://example.org/ns/other", "spiffe://example.org/vmha/manager"], Caller(Role.MANAGER)),
        (["spiffe://example.org/vmha/operator/ada"], Caller(Role.OPERATOR, "ada")),
        (["spiffe://example.org/vmha/host/h1", "spiffe://example.org/vmha/host/h2"], None),
        (["spiffe://example.org/vmha/host/"], None),
        (["spiffe://example.org/vmha/host/h1/h2"], None),
        (["spiffe://example.org/vmha/host/h1\n"], None),
        (["https://example.org/vmha/host/h1"], None),
        (["spiffe://example.org/a/vmha/host/h1"], None),
        (["spiffe://example.org/vmha/manager/x"], None),
        ([], None),
    ],
)
def test_a_certificate_names_exactly_one_holder(uris: list[str], caller: Caller | None) -> None:
    """Two names, half a name and no name are nobody."""
    context = {"peer_uri": [name.encode() for name in uris], "x509_common_name": [b"h1"]}
    if caller is not None:
        assert caller_of(context) == caller
        return
    with pytest.raises(PermissionDenied) as caught:
        caller_of(context)
    assert caught.value.reason == "CALLER_NOT_ALLOWED"


def test_openssl_is_there() -> None:
    """Without it this module would prove nothing."""
    assert shutil.which("openssl")
