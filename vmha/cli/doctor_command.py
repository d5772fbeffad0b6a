"""`vmha doctor`: is a cluster fit for protection, and would it work?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import typer

from vmha.cli import output
from vmha.cli.exits import Exit
from vmha.cli.session import Connection, execute, pages
from vmha.errors import VmhaError
from vmha.model import ClusterConfig
from vmha.rpc.convert import cluster_config_from_proto
from vmha.rpc.scalars import seconds
from vmha.v1 import cluster_pb2, host_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import evacuation_service_pb2 as ev

AT_ONCE: Final = 8
"""Fence devices that are asked at a time; the evacuator lets no more through."""
LONGEST_S: Final = 60.0
ClusterArgument = Annotated[str, typer.Argument(help="Default: --cluster, or the only one there is.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Fence:
    """What a host's fence device answered; `power` is UNKNOWN without an answer that counts."""

    host_id: str
    agent: str
    power: str
    took_s: float
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Storage:
    """What some hosts see at a path that is called shared; those of one `storage_id` share it."""

    path: str
    storage_id: str
    host_ids: tuple[str, ...]
    problem: str


def doctor(
    context: typer.Context,
    cluster: ClusterArgument = "",
    as_json: Annotated[bool, typer.Option("--json", help="As -o json.")] = False,
) -> None:
    """Say what stands against protecting a cluster and what will not work, and ask each fence device. Changes nothing."""

    async def work(connection: Connection) -> Exit | None:
        cluster_id = cluster or await connection.cluster_id()
        checked = await connection.ask(connection.clusters.CheckCluster, cs.CheckClusterRequest(cluster_id=cluster_id))
        hosts = await pages(
            connection,
            connection.clusters.ListHosts,
            lambda token: cs.ListHostsRequest(cluster_id=cluster_id, page_size=500, page_token=token),
            "hosts",
        )
        hosts = [host for host in hosts if "hypervisor" in host.config.roles or not host.config.roles]
        fences = await _fences(connection, cluster_config_from_proto(checked.cluster.config), hosts)
        if connection.options.json or as_json:
            output.json_document(_document(checked, hosts, fences))
        else:
            _print(checked, hosts, fences)
        return Exit.UNFIT if _of(checked, cs.FINDING_SEVERITY_REFUSES) else None

    execute(context, work)


async def _fences(connection: Connection, config: ClusterConfig, hosts: Sequence[host_pb2.Host]) -> list[Fence]:
    timeout_s = max(connection.options.timeout_s, min(config.timers.fence_timeout_s, LONGEST_S) + 5.0)
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(host: host_pb2.Host) -> Fence:
        async with turn:
            return await _fence(connection, host, timeout_s)

    return await asyncio.gather(*(one(host) for host in hosts))


async def _fence(connection: Connection, host: host_pb2.Host, timeout_s: float) -> Fence:
    request = ev.CheckFenceRequest(cluster_id=host.cluster_id, host_id=host.host_id)
    try:
        said = await connection.ask(connection.evacuations.CheckFence, request, timeout_s=timeout_s)
    except VmhaError as error:
        return Fence(host.host_id, host.config.fence.agent, "UNKNOWN", 0.0, error.reason, error.message)
    power = output.name_of(ev.FencePower, said.power) if said.power else "UNKNOWN"
    return Fence(host.host_id, said.agent, power, round(seconds(said.duration), 3), said.reason, said.message)


def _of(checked: cs.CheckClusterResponse, severity: cs.FindingSeverity) -> list[cs.Finding]:
    return [finding for finding in checked.findings if finding.severity == severity]


def _storages(hosts: Iterable[host_pb2.Host]) -> list[Storage]:
    seen: dict[tuple[str, str, str], list[str]] = {}
    for host in hosts:
        for shared in host.facts.shared_directories:
            seen.setdefault((shared.path, shared.storage_id, shared.problem), []).append(host.host_id)
    return [Storage(path, storage_id, tuple(ids), problem) for (path, storage_id, problem), ids in sorted(seen.items())]


def _document(checked: cs.CheckClusterResponse, hosts: Sequence[host_pb2.Host], fences: Sequence[Fence]) -> dict[str, Any]:
    return {
        **output.as_dict(checked),
        "fences": [asdict(fence) for fence in fences],
        "shared_directories": [asdict(storage) for storage in _storages(hosts)],
        "versions": [dict(zip(_VERSIONS, _version(host), strict=True)) for host in hosts],
    }


# For people


def _print(checked: cs.CheckClusterResponse, hosts: Sequence[host_pb2.Host], fences: Sequence[Fence]) -> None:
    cluster = checked.cluster
    leader = f"{cluster.leader_manager_id} at {cluster.leader_target} leads" if cluster.leader_manager_id else "nobody leads"
    state = output.name_of(cluster_pb2.ProtectionState, cluster.protection_state)
    output.line(
        f"{cluster.cluster_id}: protection is {state}, {cluster.host_count} hosts; {leader};"
        f" the store is in generation {cluster.store_generation}{', in safe mode' if cluster.safe_mode else ''}"
    )
    off = cluster.protection_state == cluster_pb2.PROTECTION_STATE_DISABLED
    refuses = "protection cannot be switched on" if off else "it is protected, but would not be again"
    _findings(f"refuses: {refuses}", _of(checked, cs.FINDING_SEVERITY_REFUSES))
    _findings("warns: something will not work", _of(checked, cs.FINDING_SEVERITY_WARNS))
    if checked.passed:
        output.heading("fine")
        output.facts((f"  {check.type}", check.description) for check in checked.passed)
    if checked.unknown_types:
        output.heading("not known: hosts have not reported yet")
        output.line(f"  {', '.join(checked.unknown_types)}")
    output.heading("fence devices")
    output.table(("HOST", "DEVICE", "READS", "TOOK", "NOTE"), [_fence_row(fence) for fence in fences])
    if storages := _storages(hosts):
        output.heading("shared storage")
        rows = [(s.path, s.storage_id or "-", ", ".join(s.host_ids), s.problem) for s in storages]
        output.table(("PATH", "STORAGE", "SEEN BY", "NOTE"), rows)
    if checked.clocks:
        output.heading("clocks")
        output.table(("HOST", "RUNS", "AGAINST THE MANAGER'S"), [_clock_row(clock) for clock in checked.clocks])
    output.heading(f"versions (manager {checked.manager_version})")
    output.table([name.upper() for name in _VERSIONS], [[said or "-" for said in _version(host)] for host in hosts])


def _findings(title: str, findings: Sequence[cs.Finding]) -> None:
    """Those of one type together; what to do is said once where it is the same for all."""
    if not findings:
        return
    output.heading(title)
    groups: dict[str, dict[str, list[str]]] = {}
    for finding in findings:
        groups.setdefault(finding.type, {}).setdefault(finding.remedy, []).append(finding.description)
    for type_, remedies in groups.items():
        output.line(f"  {type_}")
        for remedy, descriptions in remedies.items():
            for description in descriptions:
                output.line(f"    {description}")
            output.line(f"    -> {remedy}")


def _fence_row(fence: Fence) -> tuple[object, ...]:
    took = f"{fence.took_s:.2f} s" if fence.took_s else ""
    note = f"{fence.reason}: {fence.message}" if fence.reason else ""
    return fence.host_id, fence.agent or "-", fence.power, took, note


def _clock_row(clock: cs.HostClock) -> tuple[object, ...]:
    if not clock.HasField("compared_for"):
        return clock.host_id, "-" if clock.sane else "WRONG", "not compared for long enough yet"
    compared = f"{seconds(clock.gained) * 1000:+.1f} ms in {seconds(clock.compared_for):.0f} s"
    return clock.host_id, "right" if clock.sane else "WRONG", compared


_VERSIONS: Final = ("host", "agent", "system", "libvirt", "hypervisor")


def _version(host: host_pb2.Host) -> tuple[str, ...]:
    facts = host.facts
    return host.host_id, facts.agent_version, facts.operating_system, facts.libvirt_version, facts.hypervisor_version
