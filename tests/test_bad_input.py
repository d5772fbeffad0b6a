"""Bad input, as one table: what is wrong, how it is given, what comes back. Every row meets the real server or command.

To add a row, write it into TABLE: the tests below it run whatever stands there. `answer` is a gRPC status, or the exit code of a
command; `says` is text that a person reads on the terminal. After each row the same server must go on working.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
import redis.asyncio

from tests.agent import conftest as agent_fixtures
from tests.agent import test_admission
from tests.agent.conftest import VM1
from tests.agent.test_admission import admit
from tests.cli.conftest import Vmha
from tests.cli.plane import Plane
from tests.evac import conftest as evac_fixtures
from tests.evac import test_service
from tests.evac.world import World as EvacWorld
from tests.manager import conftest as manager_fixtures
from tests.manager.test_services import DIFFERENT, TOO_FEW
from tests.manager.world import CLUSTER, World, host_config, until
from tests.support.agent_client import Agent, vm_report
from tests.support.redis import RedisServer
from tests.support.refusals import refused
from vmha.agent.state import State
from vmha.cli import output
from vmha.errors import VmhaError
from vmha.rpc.scalars import duration
from vmha.v1 import agent_service_pb2 as ag
from vmha.v1 import agent_service_pb2_grpc as ag_grpc
from vmha.v1 import cluster_pb2, host_pb2, vm_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import manager_service_pb2 as ms

PASSWORD = "hunter2"
USED, NEW = str(uuid.UUID(int=77, version=4)), str(uuid.UUID(int=78, version=4))
"""Ids of requests: one that started an evacuation of h1 already, one that nobody used."""


@dataclass(frozen=True)
class Session:
    """Messages of an agent of h1, in a session that came as far as `after`."""

    after: Literal["nothing", "hello", "registration"]
    messages: tuple[ms.ReportHealthRequest, ...] = ()


@dataclass(frozen=True)
class Call:
    """A call of one service."""

    of: Literal["manager", "evac", "agent"]
    method: str
    request: Any


@dataclass(frozen=True)
class Command:
    """A `vmha` command; {file} in it is a file with `content`, and $REDIS there the URL of a Redis, with a password."""

    line: str
    content: str = ""
    redis_evicts: bool = False


@dataclass(frozen=True)
class Bad:
    """A row of the table."""

    name: str
    given: Session | Call | Command
    answer: str | int
    reason: str
    says: tuple[str, ...] = field(default=())


def say(**payload: Any) -> ms.ReportHealthRequest:
    return ms.ReportHealthRequest(**payload)


def hello(host_id: str, boot_id: str = "boot") -> ms.ReportHealthRequest:
    return say(hello=ms.AgentHello(host_id=host_id, boot_id=boot_id, agent_instance_id="instance"))


def report(*host_ids: str, age_s: float = 0.0, version: str = "") -> ms.ReportHealthRequest:
    verdict = host_pb2.PEER_VERDICT_OK
    seen = [ms.PeerObservation(host_id=h, verdict=verdict, consecutive_count=1, age=duration(age_s)) for h in host_ids]
    return say(report=ms.HealthReport(sequence=9, observations=seen, assignment_version=version))


def inventory(xml: str) -> ms.ReportHealthRequest:
    broken = vm_report(2)
    broken.domain_xml = xml
    return say(inventory=ms.InventoryReport(sequence=9, full=True, vms=[vm_report(1), broken]))


def timers(**seconds: float) -> cluster_pb2.ClusterConfig:
    config = cluster_pb2.ClusterConfig()
    for name, value in seconds.items():
        getattr(config.timers, name).CopyFrom(duration(value))
    return config


def admission(**changed: Any) -> ag.AdmitVmRequest:
    wanted: dict[str, Any] = {"cluster_id": "c1", "host_id": "h1", "incarnation": 17, "vm_id": VM1, "epoch": 7}
    return ag.AdmitVmRequest(**wanted | changed)


def evacuation(host_id: str, request_id: str, fence_epoch: int = 1) -> ev.EvacuateRequest:
    return ev.EvacuateRequest(cluster_id=CLUSTER, host_id=host_id, request_id=request_id, fence_epoch=fence_epoch)


HOST = '{{id: {0}, probe_target: "{0}:1", agent_target: "{0}:{1}", libvirt_uri: "test:///default"}}'
TWO_MISTAKES = f"cluster: {{id: c9, timers: {{cooldown_s: 1000000}}}}\nhosts:\n  - {HOST.format('y1', 'x')}\n"
UNKNOWN_KEYS = f"cluster: {{id: c9, profil: fast}}\nhosts:\n  - {HOST.format('y1', 2)[:-1]}, racks: 7}}\ngroup: []\n"
ABSURD_TIMERS = "cluster: {id: c9, timers: {heartbeat_interval_s: -1, fence_retry_s: .nan, cooldown_s: soon}}\n"
ONE_HOST = f"cluster: {{id: c9, ha_enabled: true}}\nhosts:\n  - {HOST.format('y1', 2)}\n"
MANAGER = "redis_url: $REDIS\nevac_target: 127.0.0.1:7402\nlisten: 127.0.0.1:0\n"
NO_SPAN = ("discovery_interval_s: Input should be less than or equal to 86400", "drain_grace_s: Input should be a finite number")
NO_EVICTION = ("allkeys-lru", "CONFIG SET maxmemory-policy noeviction")

# The manager has c1 (h1, h2; protected), `alone` (x1), and `apart` (a1, a2 in different aggregates). At the evacuator h1 of c1 is
# down and h2 lives. The agent is the one of h1, with incarnation 17, and VM1 is at epoch 6.
TABLE = [
    # --- an agent's session ---
    Bad("no hello", Session("nothing"), "FAILED_PRECONDITION", "HELLO_EXPECTED", ("no hello within 5 s",)),
    Bad("report before hello", Session("nothing", (report("h2"),)), "FAILED_PRECONDITION", "HELLO_EXPECTED",
        ("the first message of a session must be hello",)),
    Bad("hello twice", Session("hello", (hello("h1"),)), "FAILED_PRECONDITION", "HELLO_REPEATED", ("hello was sent already",)),
    Bad("hello of an unknown host", Session("nothing", (hello("nobody"),)), "NOT_FOUND", "HOST_UNKNOWN",
        ("No cluster has a host nobody.",)),
    Bad("hello without a boot", Session("nothing", (hello("h1", ""),)), "INVALID_ARGUMENT", "FIELD_INVALID",
        ("hello.boot_id: is required",)),
    Bad("empty message", Session("registration", (say(),)), "INVALID_ARGUMENT", "FIELD_INVALID"),
    Bad("oversized report", Session("registration", (report("h2", version="x" * 1_100_000),)),
        "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", ("a session message may have 1048576",)),
    Bad("report that grpc itself refuses", Session("registration", (report("h2", version="x" * 8_000_000),)),
        "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", ("larger than max",)),
    Bad("report about another cluster's host", Session("registration", (report("h2", "x1"),)), "INVALID_ARGUMENT", "FOREIGN_HOST",
        ("report.observations[1].host_id",)),
    Bad("report of a negative age", Session("registration", (report("h2", age_s=-5),)), "INVALID_ARGUMENT", "FIELD_INVALID",
        ("report.observations[0].age: must be from 0 to 86400 s, is -5 s",)),
    Bad("XML that does not parse", Session("registration", (inventory("<domain><uuid>"),)), "INVALID_ARGUMENT",
        "DOMAIN_XML_MALFORMED", ("inventory.vms[1].domain_xml",)),
    Bad("XML that is no domain", Session("registration", (inventory("<network/>"),)), "INVALID_ARGUMENT", "DOMAIN_XML_MALFORMED",
        ("inventory.vms[1].domain_xml",)),
    # --- calls of the manager ---
    Bad("GetPeers of an unknown host", Call("manager", "GetPeers", ms.GetPeersRequest(host_id="nobody")), "NOT_FOUND",
        "HOST_UNKNOWN", ("No cluster has a host nobody.",)),
    Bad("GetHost of an unknown host", Call("manager", "GetHost", cs.GetHostRequest(cluster_id="c1", host_id="nobody")),
        "NOT_FOUND", "HOST_UNKNOWN", ("There is no such host in the cluster.",)),
    Bad("GetHost in another cluster", Call("manager", "GetHost", cs.GetHostRequest(cluster_id="c1", host_id="x1")),
        "NOT_FOUND", "HOST_UNKNOWN", ("There is no such host in the cluster.",)),
    Bad("absurd timers",
        Call("manager", "CreateCluster",
             cs.CreateClusterRequest(cluster_id="c9", config=timers(heartbeat_interval=-1, cooldown=1e6))),
        "INVALID_ARGUMENT", "FIELD_INVALID",
        ("config.timers.heartbeat_interval_s: must be from 0.05 s to 86400 s, is -1 s",
         "config.timers.cooldown_s: must be 0 or from 0.05 s to 86400 s, is 1e+06 s")),
    Bad("timers that contradict",
        Call("manager", "CreateCluster",
             cs.CreateClusterRequest(cluster_id="c9", config=timers(heartbeat_interval=9, stream_stale=8))),
        "INVALID_ARGUMENT", "FIELD_INVALID", ("config.timers.stream_stale_s: must be longer than heartbeat_interval_s (9 s)",)),
    Bad("protection at creation", Call("manager", "CreateCluster", cs.CreateClusterRequest(cluster_id="c9", enable_ha=True)),
        "FAILED_PRECONDITION", "HA_AT_CREATION", ("VM HA cannot be enabled while a cluster is being created",)),
    Bad("protection of one host", Call("manager", "EnableCluster", cs.EnableClusterRequest(cluster_id="alone")),
        "FAILED_PRECONDITION", "ENABLEMENT_REFUSED", (TOO_FEW,)),
    Bad("protection across aggregates", Call("manager", "EnableCluster", cs.EnableClusterRequest(cluster_id="apart")),
        "FAILED_PRECONDITION", "ENABLEMENT_REFUSED", (DIFFERENT,)),
    Bad("stale etag",
        Call("manager", "UpdateHost",
             cs.UpdateHostRequest(cluster_id="c1", host_id="h1", config=host_config("other"), etag='"999999"')),
        "ABORTED", "ETAG_MISMATCH", ("It was changed meanwhile; read it again.",)),
    Bad("etag of nobody's making", Call("manager", "DeleteHost", cs.DeleteHostRequest(cluster_id="c1", host_id="h1", etag="abc")),
        "ABORTED", "ETAG_MISMATCH", ("abc is no etag that was handed out",)),
    Bad("bad page token", Call("manager", "ListHosts", cs.ListHostsRequest(cluster_id="c1", page_token="nonsense")),
        "INVALID_ARGUMENT", "FIELD_INVALID", ("page_token: ",)),
    # --- calls of the evacuator ---
    Bad("evacuation of a healthy host", Call("evac", "Evacuate", evacuation("h2", NEW)), "FAILED_PRECONDITION", "HOST_NOT_DOWN",
        ("h2 is HEALTHY; only a host that is down is evacuated",)),
    Bad("evacuation with an old epoch", Call("evac", "Evacuate", evacuation("h1", NEW)), "ABORTED", "STALE_FENCE_EPOCH",
        ("the failure of h1 has the epoch ",)),
    Bad("evacuation with a used request_id", Call("evac", "Evacuate", evacuation("h1", USED)), "INVALID_ARGUMENT",
        "REQUEST_ID_REUSED", ("request_id: was used for another evacuation",)),
    Bad("evacuation of an unknown host", Call("evac", "Evacuate", evacuation("h9", NEW)), "NOT_FOUND", "HOST_UNKNOWN", ("h9",)),
    Bad("evacuation without epoch and id", Call("evac", "Evacuate", evacuation("h1", "", 0)), "INVALID_ARGUMENT", "FIELD_INVALID",
        ("request_id: is required", "fence_epoch: is required and counts from 1")),
    # --- calls of the agent ---
    Bad("admission for another registration", Call("agent", "AdmitVm", admission(incarnation=16)), "FAILED_PRECONDITION",
        "INCARNATION_MISMATCH", ("this host's incarnation is 17, not 16",)),
    Bad("admission with an old epoch", Call("agent", "AdmitVm", admission(epoch=5)), "ABORTED", "STALE_VM_EPOCH",
        ("was seen here, 5 is older",)),
    Bad("admission for another host", Call("agent", "AdmitVm", admission(host_id="h2")), "INVALID_ARGUMENT", "FIELD_INVALID",
        ("host_id: ",)),
    # --- files, and what the command line is told ---
    Bad("unknown host on the command line", Command("host show nobody"), 3, "HOST_UNKNOWN",
        ("There is no such host in the cluster.",)),
    Bad("cluster file with two mistakes", Command("apply -f {file}", TWO_MISTAKES), 2, "FIELD_INVALID",
        ("cluster.timers.cooldown_s: must be 0 or from 0.05 s to 86400 s", "hosts[0].agent_target: must be host:port")),
    Bad("cluster file with unknown keys", Command("apply -f {file}", UNKNOWN_KEYS), 2, "FIELD_INVALID",
        ("cluster.profil: unknown key", "hosts[0].racks: unknown key", "group: unknown key")),
    Bad("cluster file with absurd timers", Command("apply -f {file}", ABSURD_TIMERS), 2, "FIELD_INVALID",
        ("cluster.timers.heartbeat_interval_s: must be from 0.05 s to 86400 s, is -1 s",
         "cluster.timers.fence_retry_s: must be from 0.05 s to 86400 s, is nan s",
         "cluster.timers.cooldown_s: Input should be a valid number")),
    Bad("cluster file that is no YAML", Command("apply -f {file}", "cluster: [c1\n"), 2, "FIELD_INVALID", ("line 2, column 1",)),
    Bad("cluster file that protects one host", Command("apply -f {file}", ONE_HOST), 1, "ENABLEMENT_REFUSED", (TOO_FEW,)),
    Bad("settings with unknown keys", Command("manager --config {file}", MANAGER + "lisen: x\nlog_levle: info\n"), 2,
        "FIELD_INVALID", ("lisen: unknown key", "log_levle: unknown key")),
    Bad("settings with absurd durations",
        Command("manager --config {file}", MANAGER + "discovery_interval_s: 1000000000\ndrain_grace_s: .inf\n"), 2,
        "FIELD_INVALID", NO_SPAN),
    Bad("manager on a Redis that evicts", Command("manager --config {file}", MANAGER, redis_evicts=True), 1, "STORE_EVICTS",
        NO_EVICTION),
    Bad("evacuator on a Redis that evicts",
        Command("evac --config {file}", "redis_url: $REDIS\nlisten: 127.0.0.1:0\n", redis_evicts=True), 1, "STORE_EVICTS",
        NO_EVICTION),
]  # fmt: skip


# Where the rows are tried. Fixtures that take parts of other tests' fixtures by these names.
manager = manager_fixtures.world
world, stub = evac_fixtures.world, test_service.stub
hypervisor, state = agent_fixtures.hypervisor, agent_fixtures.state
keeper, guests = agent_fixtures.keeper, agent_fixtures.guests
channel = test_admission.channel


def rows(kind: type[Session | Call | Command], of: str = "") -> pytest.MarkDecorator:
    """The rows that are given in one way, for a test with the parameters bad and given."""
    found = [bad for bad in TABLE if isinstance(bad.given, kind) and of == getattr(bad.given, "of", "")]
    assert found
    return pytest.mark.parametrize(("bad", "given"), [pytest.param(bad, bad.given, id=bad.name) for bad in found])


@pytest.fixture
async def clusters(manager: World) -> World:
    """A manager with the clusters that the table speaks of."""
    await manager.create(["h1", "h2"])
    await manager.create(["x1"], enable=False, cluster_id="alone")
    await manager.create([], enable=False, cluster_id="apart")
    for host_id, aggregate in (("a1", "a"), ("a2", "b")):
        config = host_config(host_id, aggregates=[aggregate])
        await manager.operator.CreateHost(cs.CreateHostRequest(cluster_id="apart", host_id=host_id, config=config))
    return manager


@pytest.fixture
async def unbounded(manager: World) -> AsyncIterator[grpc.aio.Channel]:
    """As a foreign client opens it: our own refuse to send what is too large."""
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{manager.port}", options=options) as channel:
        yield channel


@rows(Session)
async def test_in_a_session(
    clusters: World, unbounded: grpc.aio.Channel, capsys: pytest.CaptureFixture[str], bad: Bad, given: Session
) -> None:
    """It ends this one session with its reason; others go on, and the same host may come again."""
    other = clusters.agent("h2")
    await other.connect()
    agent = Agent(unbounded, "h1")
    clusters.agents.append(agent)
    await agent.open()
    if given.after != "nothing":
        await agent.hello()
    if given.after == "registration":
        await agent.register()
    for message in given.messages:
        await agent.send(**{part.name: value for part, value in message.ListFields()})

    error = await agent.ended()

    assert_is(error, bad, capsys)
    await other.register()
    await agent.connect()
    await agent.register([vm_report(1)])

    async def recorded() -> bool:
        return [vm.name for vm in await clusters.store.vms.list(CLUSTER)] == ["vm1"]

    await until(recorded)
    assert other.error is None


@rows(Call, "manager")
async def test_to_the_manager(clusters: World, capsys: pytest.CaptureFixture[str], bad: Bad, given: Call) -> None:
    """It is refused, changes nothing, and the same connection takes the next call."""
    await clusters.configured()
    before = await clusters.store.clusters.snapshot(CLUSTER)
    of = clusters.manager if given.method == "GetPeers" else clusters.operator

    assert_is(await refused(getattr(of, given.method)(given.request)), bad, capsys)

    assert await clusters.store.clusters.snapshot(CLUSTER) == before
    assert sorted(await clusters.store.clusters.list_ids()) == ["alone", "apart", "c1"]
    assert (await clusters.host("h1")).host_id == "h1"


@rows(Call, "evac")
async def test_to_the_evacuator(world: EvacWorld, stub: Any, capsys: pytest.CaptureFixture[str], bad: Bad, given: Call) -> None:
    """It is refused and starts nothing; a plan is still made."""
    await world.cluster()
    down = await world.fail()
    await world.store.evacuations.start(CLUSTER, USED, "h1", down.fence_epoch, down.incarnation, 0)

    assert_is(await refused(getattr(stub, given.method)(given.request)), bad, capsys)

    assert [record.evacuation_id for record in await world.store.evacuations.list(CLUSTER)] == [USED]
    plan = ev.EvacuateRequest(cluster_id=CLUSTER, host_id="h2", validate_only=True)
    assert [answer async for answer in stub.Evacuate(plan)] == []


@rows(Call, "agent")
async def test_to_an_agent(
    channel: grpc.aio.Channel, state: State, capsys: pytest.CaptureFixture[str], bad: Bad, given: Call
) -> None:
    """It is refused and resumes nothing; the right request is admitted then."""
    state.told({VM1: 6}, {})

    assert_is(await refused(getattr(ag_grpc.AgentServiceStub(channel), given.method)(given.request)), bad, capsys)

    assert state.epoch(VM1) == 6
    assert (await admit(channel, epoch=7)).state == vm_pb2.VM_STATE_RUNNING


@rows(Command)
async def test_on_the_command_line(clusters: World, redis_server: RedisServer, tmp_path: Path, bad: Bad, given: Command) -> None:
    """It ends with its exit code and says why once, without a traceback and without a password; the next command works."""
    vmha = Vmha(Plane(), f"127.0.0.1:{clusters.port}", tmp_path)
    file = vmha.file(given.content.replace("$REDIS", redis_server.url.replace("//", f"//default:{PASSWORD}@")))
    environment = {} if given.line.startswith(("manager", "evac")) else {"VMHA_CLUSTER": CLUSTER}

    async with policy(redis_server, "allkeys-lru" if given.redis_evicts else "noeviction"):
        done = await vmha(*(word.format(file=file) for word in given.line.split()), **environment)

    told = done.out + done.err
    assert (done.code, told.count(bad.reason)) == (bad.answer, 1), told
    assert [text for text in bad.says if text not in told] == [], told
    assert PASSWORD not in told
    after = await vmha("cluster", "list", "-o", "json")
    assert {"alone", "apart", "c1"} <= {cluster["cluster_id"] for cluster in json.loads(after.out)["clusters"]}


def assert_is(error: VmhaError, bad: Bad, capsys: pytest.CaptureFixture[str]) -> None:
    """Status and reason as in the table, and the text where the command line would print it."""
    assert (error.code, error.reason) == (bad.answer, bad.reason), error.message
    capsys.readouterr()
    output.complain(error)
    told = capsys.readouterr().err
    assert [text for text in bad.says if text not in told] == [], told


@contextlib.asynccontextmanager
async def policy(server: RedisServer, name: str) -> AsyncIterator[None]:
    """The maxmemory-policy of the tests' Redis, for as long as it takes."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.config_set("maxmemory-policy", name)
        try:
            yield
        finally:
            await client.config_set("maxmemory-policy", "noeviction")
