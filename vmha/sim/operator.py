"""The operator: acts through the real ClusterService of whichever replica leads, as the command line does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import grpc

from vmha.errors import VmhaError
from vmha.model import Group, GroupMode, GroupPolicy, HostConfig
from vmha.rpc.convert import cluster_config_to_proto, group_to_proto, host_config_to_proto
from vmha.rpc.errors import from_rpc_error
from vmha.sim.fence import config_of
from vmha.sim.history import Refused
from vmha.sim.management import SimManager, libvirt_uri
from vmha.sim.process import Process
from vmha.sim.rpc import SimChannel
from vmha.sim.scenario import ClusterSpec, GroupSpec, HostSpec, vm_uuid
from vmha.sim.wire import Wire
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1.cluster_service_pb2_grpc import ClusterServiceStub

CALL_S: Final = 5.0
REDIRECTS: Final = 3
NAME: Final = "sim"
_WHO: Final = (("vmha-operator", NAME),)
_RETRIED: Final = frozenset({"NOT_LEADER", "PEER_UNREACHABLE", "DEADLINE_EXCEEDED", "CALL_CANCELLED", "DRAINING"})


class Operator:
    """Somebody at a terminal who reaches every manager that runs."""

    def __init__(self, wire: Wire, process: Process, managers: Sequence[SimManager], cluster_id: str) -> None:
        self._wire, self._process, self._managers, self._cluster_id = wire, process, managers, cluster_id

    async def create(self, cluster: ClusterSpec, hosts: Sequence[HostSpec]) -> None:
        """CreateCluster, and CreateHost for each host."""
        config = cluster_config_to_proto(cluster.config)
        await self._call("CreateCluster", cs.CreateClusterRequest(cluster_id=self._cluster_id, config=config))
        for host in hosts:
            request = cs.CreateHostRequest(cluster_id=self._cluster_id, host_id=host.id)
            request.config.CopyFrom(host_config_to_proto(_config_of(host, fenced=cluster.fencing != "none")))
            await self._call("CreateHost", request)

    async def create_groups(self, groups: Sequence[GroupSpec]) -> None:
        """CreateGroup for each."""
        for spec in groups:
            policy, mode = GroupPolicy(spec.policy.upper().replace("-", "_")), GroupMode(spec.mode.upper())
            group = Group(group_id=spec.id, policy=policy, mode=mode, vm_ids=tuple(sorted(vm_uuid(vm) for vm in spec.vms)))
            await self._call("CreateGroup", cs.CreateGroupRequest(cluster_id=self._cluster_id, group=group_to_proto(group)))

    async def protection(self, on: bool) -> None:
        """EnableCluster or DisableCluster."""
        request: Any = cs.EnableClusterRequest if on else cs.DisableClusterRequest
        await self._call("EnableCluster" if on else "DisableCluster", request(cluster_id=self._cluster_id))

    async def maintenance(self, host_id: str, on: bool) -> None:
        """StartHostMaintenance or EndHostMaintenance."""
        if on:
            start = cs.StartHostMaintenanceRequest(cluster_id=self._cluster_id, host_id=host_id, reason="scenario")
            await self._call("StartHostMaintenance", start)
        else:
            await self._call("EndHostMaintenance", cs.EndHostMaintenanceRequest(cluster_id=self._cluster_id, host_id=host_id))

    async def drain(self, host_id: str) -> None:
        """StartHostDrain."""
        await self._call("StartHostDrain", cs.StartHostDrainRequest(cluster_id=self._cluster_id, host_id=host_id))

    async def confirm_off(self, host_id: str) -> None:
        """ConfirmHostOff, with the fence epoch that GetHost shows."""
        found = await self._call("GetHost", cs.GetHostRequest(cluster_id=self._cluster_id, host_id=host_id))
        request = cs.ConfirmHostOffRequest(
            cluster_id=self._cluster_id,
            host_id=host_id,
            fence_epoch=found.host.fence_epoch,
            operator=NAME,
            comment="scenario",
        )
        await self._call("ConfirmHostOff", request)

    async def _call(self, method: str, request: Any) -> Any:
        """Asks one replica after the other; follows whom they name as leader.

        Raises:
            Refused: With the reason of the last answer.
        """
        targets = [manager.target for manager in self._managers]
        last = Refused("PEER_UNREACHABLE", "no manager runs")
        asked = 0
        while targets and asked < len(self._managers) + REDIRECTS:
            target, asked = targets.pop(0), asked + 1
            try:
                return await self._ask(target, method, request)
            except VmhaError as error:
                last = Refused(error.reason, error.message)
                if error.reason not in _RETRIED:
                    break
                leader = error.metadata.get("leader", "")
                if leader and leader != target:
                    targets = [leader, *(other for other in targets if other != leader)]
        raise last

    async def _ask(self, target: str, method: str, request: Any) -> Any:
        channel = SimChannel(self._wire, self._process, target)
        stub: Any = ClusterServiceStub(cast("grpc.aio.Channel", channel))
        call: Callable[..., Any] = getattr(stub, method)
        try:
            return await call(request, timeout=CALL_S, metadata=_WHO)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            await channel.close()


def _config_of(host: HostSpec, *, fenced: bool) -> HostConfig:
    return HostConfig(
        probe_target=f"{host.id}:9177",
        agent_target=f"{host.id}:7401",
        libvirt_uri=libvirt_uri(host.id),
        rack=host.rack,
        aggregates=host.aggregates,
        roles=host.roles,
        fence=config_of(host.id) if fenced else None,
    )
