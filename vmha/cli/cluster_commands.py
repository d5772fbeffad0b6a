"""`vmha cluster`: list, show, enable, disable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from vmha.cli import output
from vmha.cli.exits import Exit
from vmha.cli.session import Connection, execute, pages, rows_or_json
from vmha.rpc.convert import timer_overrides
from vmha.v1 import cluster_pb2
from vmha.v1 import cluster_service_pb2 as cs

app = typer.Typer(help="Clusters: list, show, switch protection.", no_args_is_help=True)
ClusterArgument = Annotated[str, typer.Argument(help="Default: --cluster, or the only one there is.", show_default=False)]


@app.command("list")
def list_(context: typer.Context) -> None:
    """List all clusters."""

    async def work(connection: Connection) -> None:
        found = await pages(
            connection,
            connection.clusters.ListClusters,
            lambda token: cs.ListClustersRequest(page_size=500, page_token=token),
            "clusters",
        )
        columns = ("CLUSTER", "PROTECTION", "HOSTS", "PROFILE", "NOTE")
        rows_or_json(connection, found, "clusters", columns, _row)

    execute(context, work)


@app.command()
def show(context: typer.Context, cluster: ClusterArgument = "") -> None:
    """Show one cluster with its settings."""

    async def work(connection: Connection) -> None:
        cluster_id = cluster or await connection.cluster_id()
        answer = await connection.ask(connection.clusters.GetCluster, cs.GetClusterRequest(cluster_id=cluster_id))
        _print(connection, answer.cluster)

    execute(context, work)


@app.command()
def enable(context: typer.Context, cluster: ClusterArgument = "") -> None:
    """Switch protection on. Refused with every prerequisite that refuses; what only warns is said."""

    async def work(connection: Connection) -> Exit | None:
        cluster_id = cluster or await connection.cluster_id()
        answer = await connection.ask(connection.clusters.EnableCluster, cs.EnableClusterRequest(cluster_id=cluster_id))
        _tell(connection, answer.cluster, answer.warnings)
        return None

    execute(context, work)


@app.command()
def disable(context: typer.Context, cluster: ClusterArgument = "") -> None:
    """Switch protection off. Evacuations that run go on."""

    async def work(connection: Connection) -> Exit | None:
        cluster_id = cluster or await connection.cluster_id()
        answer = await connection.ask(connection.clusters.DisableCluster, cs.DisableClusterRequest(cluster_id=cluster_id))
        _tell(connection, answer.cluster)
        return None

    execute(context, work)


def _note(cluster: cluster_pb2.Cluster) -> str:
    notes = ["learning: confirms nothing yet"] if cluster.learning else []
    if cluster.safe_mode:
        notes.append(f"the store was lost, nothing is started before these have reported: {', '.join(cluster.awaited_hosts)}")
    if cluster.hosts_without_agent:
        notes.append(f"no agent: {', '.join(cluster.hosts_without_agent)}")
    return "; ".join(notes)


def _leader(cluster: cluster_pb2.Cluster) -> str:
    return f"{cluster.leader_manager_id} at {cluster.leader_target}" if cluster.leader_manager_id else "nobody at the moment"


def _row(cluster: cluster_pb2.Cluster) -> tuple[object, ...]:
    protection = output.name_of(cluster_pb2.ProtectionState, cluster.protection_state)
    profile = output.name_of(cluster_pb2.Profile, cluster.config.profile).lower()
    return cluster.cluster_id, protection, cluster.host_count, profile, _note(cluster)


def _tell(connection: Connection, cluster: cluster_pb2.Cluster, warnings: Sequence[cs.Finding] = ()) -> None:
    if connection.options.json:
        told = {"warnings": [output.as_dict(warning) for warning in warnings]} if warnings else {}
        output.json_document({**output.as_dict(cluster), **told})
        return
    output.line(f"{cluster.cluster_id}: protection is {output.name_of(cluster_pb2.ProtectionState, cluster.protection_state)}")
    for warning in warnings:
        output.line(f"  {warning.type}: {warning.description}")
    if warnings:
        output.line(f"what to do: vmha doctor {cluster.cluster_id}")


def _print(connection: Connection, cluster: cluster_pb2.Cluster) -> None:
    if connection.options.json:
        output.json_document(output.as_dict(cluster))
        return
    config = cluster.config
    overrides = ", ".join(f"{name}={value:g}" for name, value in sorted(timer_overrides(config.timers).items()))
    output.facts(
        (
            ("cluster", cluster.cluster_id),
            ("protection", output.name_of(cluster_pb2.ProtectionState, cluster.protection_state)),
            ("hosts", cluster.host_count),
            ("profile", output.name_of(cluster_pb2.Profile, config.profile).lower()),
            ("timers", overrides or "those of the profile"),
            ("proof", output.name_of(cluster_pb2.ProofPolicy, config.proof).lower()),
            ("self-fencing", output.name_of(cluster_pb2.SelfFencing, config.self_fencing).lower()),
            ("max down", f"{config.max_down_fraction:.0%} of the hosts"),
            ("reserve", f"{config.reserve_fraction:.0%} of memory"),
            ("cpu overcommit", f"{config.cpu_overcommit:g}"),
            ("parallel starts", f"{config.parallel}, {config.parallel_per_target} on a target"),
            ("watchers", config.watchers),
            ("config version", cluster.config_version),
            ("leader", _leader(cluster)),
            ("note", _note(cluster) or "none"),
        )
    )
