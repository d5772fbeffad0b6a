"""The product on the lab: redis-server, manager, evacuator and agents as an operator would run them, plus eyes on what they do.

Demo, end-to-end tests and benchmarks all use it. Every process is the real one, started from its command line with a
configuration file; nothing is imported from the services.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import redis

from lab import Lab, files
from lab.files import CLUSTER, WATCHDOG_TIMEOUT_S
from lab.paper import PaperLab
from lab.watch import EventLog
from lab.watchdog import Watchdog, watch_all
from vmha.v1 import cluster_pb2, host_pb2, vm_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import evacuation_service_pb2_grpc as ev_grpc

MANAGER_PORT, EVAC_PORT = 7400, 7402
NEXT_MANAGER = 10
"""Replicas listen this many ports apart."""
CALL_TIMEOUT_S = 5.0
STAYS_SETTLED_S = 1.2
"""A change of the members makes a configuration within a heartbeat, and within 1 s."""
RECONNECT = ("grpc.max_reconnect_backoff_ms", 500)


class StackError(Exception):
    """The product did not do in time what the lab waited for; the text says what it was."""


@dataclass(kw_only=True)
class Stack:
    """One cluster of lab hosts under vmha.

    Attributes:
        timers: Overrides by their configuration names, as `{"cooldown_s": 5}`.
        fence: Whether the hosts have the lab's fence device.
        managers: Replicas of the manager: `manager`, `manager2`, ...
        watchdog: Whether the hosts have a watchdog, fed as the product does.
        aggregates: Aggregates of a host, by its name.
        groups: Affinity groups, as the cluster file has them.
        start_lab: Whether `start` powers the hosts on; False when they are up already.
    """

    lab: Lab | PaperLab
    hosts: int = 3
    profile: str = "fast"
    timers: Mapping[str, float] = field(default_factory=dict)
    proof: str = "ladder"
    fence: bool = True
    managers: int = 1
    watchdog: bool = False
    aggregates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[Mapping[str, object]] = ()
    log_level: str = "info"
    directory: Path = field(init=False)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    events: EventLog = field(init=False)
    _watchdogs: list[Watchdog] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory = Path(self.lab.directory) / "stack"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.manager_targets = [f"{self.lab.gateway}:{MANAGER_PORT + NEXT_MANAGER * i}" for i in range(self.managers)]
        self.manager_target = self.manager_targets[0]
        self.evac_target = f"{self.lab.gateway}:{EVAC_PORT}"
        # Any replica answers: round robin passes over those that are down.
        address = "ipv4:" + ",".join(self.manager_targets)
        self.channel = grpc.insecure_channel(address, [("grpc.lb_policy_name", "round_robin"), RECONNECT])
        self.evac_channel = grpc.insecure_channel(self.evac_target)
        self.cluster = cs_grpc.ClusterServiceStub(self.channel)
        self.evacuations = ev_grpc.EvacuationServiceStub(self.evac_channel)
        self.events = EventLog(self.channel, CLUSTER)

    # Life

    def start(self) -> None:
        """Start the services, apply the cluster and switch HA on, power the hosts on with their agents.

        Raises:
            StackError: A service does not come up.
        """
        files.write(self)
        self.lab.agent_command = self._agent_command
        for name in ("redis", *self.manager_names, "evac"):
            self.start_process(name)
        self.wait(self._answers, 60, "the manager answers")
        # Before the hosts: an agent that nobody knows waits before it asks again.
        self.apply()
        self.events.start()
        self.lab.up(self.hosts)
        if self.watchdog:
            self._watchdogs = watch_all([self.lab.host(host_id) for host_id in self.host_ids], WATCHDOG_TIMEOUT_S, self.directory)

    def stop(self) -> None:
        """End every process that this stack started; the lab's hosts go down too."""
        self.events.stop()
        for watchdog in self._watchdogs:
            watchdog.stop()
        for name in reversed(list(self.processes)):
            self.end(name)
        self.channel.close()
        self.evac_channel.close()
        self.lab.down()

    def start_process(self, name: str, *, die_after: str = "") -> None:
        """Start redis, manager or evac (again).

        Args:
            name: Which one: redis, evac, manager, manager2, ...
            die_after: For evac: a journal step after whose first writing the process kills itself (lab.mortal_evac).
        """
        command = {
            # Written to disk, as an operator's: it is killed, and comes back with what it held.
            "redis": [
                "redis-server",
                "--port",
                "0",
                "--unixsocket",
                str(self._redis_socket),
                "--save",
                "",
                "--appendonly",
                "yes",
            ],
            "manager": [sys.executable, "-m", "vmha.cli.main", "manager", "--config", str(self.directory / f"{name}.yaml")],
            "evac": [sys.executable, "-m", "vmha.cli.main", "evac", "--config", str(self.directory / "evac.yaml")],
        }["manager" if name.startswith("manager") else name]
        if die_after:
            command = [sys.executable, "-m", "lab.mortal_evac", die_after, str(self.directory / "evac.yaml")]
        with self.log_path(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )
        if name == "redis":
            self.wait(self._redis_socket.exists, 5, "redis-server listens")

    def flush(self) -> None:
        """Empty Redis, as by a mistyped command: FLUSHALL."""
        with redis.Redis(unix_socket_path=str(self._redis_socket)) as client:
            client.flushall()

    def forget_store(self) -> None:
        """Delete what a Redis that was ended has written: it comes back empty."""
        shutil.rmtree(self.directory / "appendonlydir")

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal to a service; after SIGKILL it is reaped."""
        process = self.processes[name]
        process.send_signal(signum)
        if signum == signal.SIGKILL:
            process.wait(10)

    def end(self, name: str) -> None:
        """SIGTERM, then SIGKILL when that is not enough."""
        process = self.processes.pop(name)
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def log_path(self, name: str) -> Path:
        """Where a service's output goes."""
        return self.directory / f"{name}.log"

    # The operator

    def vmha(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the product's command line against this stack."""
        environment = {**os.environ, "VMHA_MANAGER": self.manager_target, "VMHA_EVAC": self.evac_target, "VMHA_CLUSTER": CLUSTER}
        done = subprocess.run(
            [sys.executable, "-m", "vmha.cli.main", *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise StackError(f"vmha {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def apply(self) -> None:
        """Write the cluster file as it is now and apply it: cluster, hosts, groups, and HA switched on."""
        files.write_cluster(self)
        self.vmha("apply", "-f", str(self.directory / "cluster.yaml"))

    def host(self, host_id: str) -> host_pb2.Host:
        """The manager's view of a host."""
        return self.cluster.GetHost(cs.GetHostRequest(cluster_id=CLUSTER, host_id=host_id), timeout=CALL_TIMEOUT_S).host

    def host_state(self, host_id: str) -> str:
        """A host's state, without the prefix."""
        return host_pb2.HostState.Name(self.host(host_id).state).removeprefix("HOST_STATE_")

    def vms(self) -> dict[str, vm_pb2.Vm]:
        """All VMs by name, as the store has them."""
        found: dict[str, vm_pb2.Vm] = {}
        token = ""
        while True:
            request = cs.ListVmsRequest(cluster_id=CLUSTER, page_size=500, page_token=token)
            page = self.cluster.ListVms(request, timeout=CALL_TIMEOUT_S)
            found.update((vm.name, vm) for vm in page.vms)
            token = page.next_page_token
            if not token:
                return found

    def evacuations_of(self, host_id: str) -> list[ev.Evacuation]:
        """Evacuations of a host, the newest first."""
        request = ev.ListEvacuationsRequest(cluster_id=CLUSTER, host_id=host_id)
        return list(self.evacuations.ListEvacuations(request, timeout=CALL_TIMEOUT_S).evacuations)

    def outcomes(self, host_id: str) -> dict[str, str]:
        """VM -> outcome in the newest evacuation of a host; empty when there is none."""
        for evacuation in self.evacuations_of(host_id)[:1]:
            request = ev.GetEvacuationRequest(cluster_id=CLUSTER, evacuation_id=evacuation.evacuation_id)
            vms = self.evacuations.GetEvacuation(request, timeout=CALL_TIMEOUT_S).vms
            return {vm.vm_name: ev.VmOutcome.Name(vm.outcome).removeprefix("VM_OUTCOME_") for vm in vms}
        return {}

    def would_fail(self, host_id: str) -> set[str]:
        """VMs that could not be started elsewhere if a host died now."""
        request = ev.ExplainHostLossRequest(cluster_id=CLUSTER, host_id=host_id)
        loss = self.evacuations.ExplainHostLoss(request, timeout=CALL_TIMEOUT_S).loss
        return {vm.vm_name for vm in loss.vms if vm.outcome == ev.VM_OUTCOME_FAILED}

    # Guests

    def create_guests(self, placed: Mapping[str, str], wishes: Mapping[str, Mapping[str, object]] | None = None) -> None:
        """Make, define and start guests: name -> host; returns when each beats.

        Args:
            wishes: What a guest wants beside the defaults, by its name: arguments of lab.guests.make.
        """
        for name, host in placed.items():
            self.lab.mkvm(name, **(wishes or {}).get(name, {}))
            self.lab.host(host).start_guest(name)
        self.wait(lambda: all(self.lab.beats.of(name) for name in placed), 60, "every guest beats")

    # Waiting

    def wait(self, fact: Callable[[], bool], timeout_s: float, what: str) -> float:
        """Wait until fact() is true; returns the seconds that it took.

        Raises:
            StackError: It is not true within timeout_s.
        """
        started = time.monotonic()
        while not fact():
            if time.monotonic() - started > timeout_s:
                raise StackError(f"after {timeout_s:g} s it is not true that {what}")
            time.sleep(0.02)
        return time.monotonic() - started

    def wait_state(self, host_id: str, state: str, timeout_s: float) -> float:
        """Wait until the manager shows a host in a state."""
        return self.wait(lambda: self._shows(host_id, state), timeout_s, f"{host_id} is {state}")

    def _shows(self, host_id: str, state: str) -> bool:
        try:
            return self.host_state(host_id) == state
        except grpc.RpcError:
            # The manager is just starting, or was killed by the test.
            return False

    def wait_settled(self, guests: int, timeout_s: float = 60) -> None:
        """Wait until HA is active, learning over, every host healthy, leased, of the newest configuration, all guests owned.

        And all that for a moment: the last host's registration makes one more configuration, in which that host votes. A cluster
        whose manager dies before it has hosts that nobody can attest to.
        """
        since, of_version = 0.0, 0

        def holds() -> bool:
            nonlocal since, of_version
            version = self._settled(guests)
            if not version or version != of_version:
                since, of_version = time.monotonic(), version
            return bool(version) and time.monotonic() - since > STAYS_SETTLED_S

        self.wait(holds, timeout_s, f"the cluster is settled with {guests} guests")

    def _settled(self, guests: int) -> int:
        """The configuration in which it is; 0: it is not."""
        try:
            cluster = self.cluster.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER), timeout=CALL_TIMEOUT_S).cluster
            hosts = self.cluster.ListHosts(cs.ListHostsRequest(cluster_id=CLUSTER), timeout=CALL_TIMEOUT_S).hosts
            vms = self.vms()
        except grpc.RpcError:
            return 0
        settled = (
            cluster.protection_state == cluster_pb2.PROTECTION_STATE_ACTIVE
            and not cluster.learning
            and all(h.state == host_pb2.HOST_STATE_HEALTHY and h.incarnation for h in hosts)
            and all(h.self_fencing and h.config_version == cluster.config_version for h in hosts)
            and len(hosts) == self.hosts
            and sum(vm.state == vm_pb2.VM_STATE_RUNNING for vm in vms.values()) >= guests
        )
        return cluster.config_version if settled else 0

    def _answers(self) -> bool:
        if (process := self.processes["manager"]).poll() is not None:
            raise StackError(f"the manager ended with exit {process.returncode}: see {self.log_path('manager')}")
        try:
            self.cluster.ListClusters(cs.ListClustersRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return True

    # Configuration

    @property
    def redis_url(self) -> str:
        """Where the services keep their state."""
        return f"unix://{self._redis_socket}"

    @property
    def _redis_socket(self) -> Path:
        return self.directory / "redis.sock"

    def _agent_command(self, host_id: str) -> list[str]:
        return [sys.executable, "-m", "vmha.cli.main", "agent", "--config", str(self.directory / f"agent-{host_id}.yaml")]

    @property
    def manager_names(self) -> list[str]:
        """manager, manager2, ..."""
        return ["manager", *(f"manager{i}" for i in range(2, self.managers + 1))]

    def leader(self) -> str:
        """The name of the manager that leads the cluster; empty while none does."""
        try:
            return self.cluster.GetCluster(
                cs.GetClusterRequest(cluster_id=CLUSTER), timeout=CALL_TIMEOUT_S
            ).cluster.leader_manager_id
        except grpc.RpcError:
            return ""

    @property
    def host_ids(self) -> list[str]:
        """host1 .. hostN."""
        return [f"host{i}" for i in range(1, self.hosts + 1)]


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Start a stack and take it down whatever happens."""
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
