"""`vmha host`: list, show, explain, maintenance, confirm-off."""

from __future__ import annotations

import getpass
import sys
from enum import StrEnum
from typing import Annotated

import typer

from vmha.cli import outlook, output
from vmha.cli.exits import Exit
from vmha.cli.session import Connection, execute, pages, rows_or_json
from vmha.errors import FieldViolation, InvalidField
from vmha.rpc.scalars import seconds
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import host_pb2, manager_service_pb2

app = typer.Typer(help="Hosts: list, show, explain, take out of service.", no_args_is_help=True)
HostArgument = Annotated[str, typer.Argument(help="host_id", show_default=False)]


class Switch(StrEnum):
    """Maintenance on or off."""

    ON = "on"
    OFF = "off"


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the hosts of a cluster."""

    async def work(connection: Connection) -> None:
        cluster_id = await connection.cluster_id()
        found = await pages(
            connection,
            connection.clusters.ListHosts,
            lambda token: cs.ListHostsRequest(cluster_id=cluster_id, page_size=500, page_token=token),
            "hosts",
        )
        columns = ("HOST", "STATE", "REASON", "SINCE (UTC)", "AGENT", "VCPUS", "MEMORY", "RACK")
        rows_or_json(connection, found, "hosts", columns, _row)

    execute(context, work)


@app.command()
def show(context: typer.Context, host: HostArgument) -> None:
    """Show one host: configuration, state, what its agent found."""

    async def work(connection: Connection) -> None:
        _print(connection, await _get(connection, host))

    execute(context, work)


@app.command()
def explain(context: typer.Context, host: HostArgument) -> None:
    """Say why a host is in its state: evidence, times, rules; and what would become of its VMs if it died now."""

    async def work(connection: Connection) -> None:
        cluster_id = await connection.cluster_id()
        request = cs.ExplainHostRequest(cluster_id=cluster_id, host_id=host)
        explanation = (await connection.ask(connection.clusters.ExplainHost, request)).explanation
        loss = await outlook.of_host(connection, cluster_id, host)
        if connection.options.json:
            output.json_document({**output.as_dict(explanation), **loss.as_dict()})
        else:
            _explain(explanation)
            loss.show(outlook.show_host)

    execute(context, work)


@app.command()
def maintenance(
    context: typer.Context,
    switch: Annotated[Switch, typer.Argument(help="on or off")],
    host: HostArgument,
    reason: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Take a host out of service, or back. Moves nothing; a host in maintenance that dies is recovered like any other."""

    async def work(connection: Connection) -> Exit | None:
        cluster_id = await connection.cluster_id()
        clusters = connection.clusters
        if switch is Switch.ON:
            start = cs.StartHostMaintenanceRequest(cluster_id=cluster_id, host_id=host, reason=reason)
            changed = (await connection.ask(clusters.StartHostMaintenance, start)).host
        else:
            end = cs.EndHostMaintenanceRequest(cluster_id=cluster_id, host_id=host)
            changed = (await connection.ask(clusters.EndHostMaintenance, end)).host
        tell(connection, changed, f"maintenance is {switch}")
        return None

    execute(context, work)


@app.command("confirm-off")
def confirm_off(
    context: typer.Context,
    host: HostArgument,
    operator: Annotated[str, typer.Option(help="Who says so; recorded.", show_default="the user")] = "",
    fence_epoch: Annotated[
        int | None, typer.Option(help="Refuse when it is not the host's any more.", show_default=False)
    ] = None,
    comment: Annotated[str, typer.Option(help="For people; recorded.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """State that a host is powered off and stays so. This is proof of its death: its VMs are started elsewhere."""

    async def work(connection: Connection) -> Exit | None:
        present = await _get(connection, host)
        epoch = present.fence_epoch if fence_epoch is None else fence_epoch
        if not yes and not _sure(host):
            return Exit.REFUSED
        request = cs.ConfirmHostOffRequest(
            cluster_id=present.cluster_id,
            host_id=host,
            fence_epoch=epoch,
            operator=operator or getpass.getuser(),
            comment=comment,
        )
        changed = (await connection.ask(connection.clusters.ConfirmHostOff, request)).host
        tell(connection, changed, f"recorded as powered off (fence epoch {epoch})")
        return None

    execute(context, work)


def _sure(host: str) -> bool:
    if not sys.stdin.isatty():
        raise InvalidField([FieldViolation("--yes", "is required where nobody can be asked")])
    return typer.confirm(f"Is {host} powered off, and will it stay so? A guest that still runs there would run twice.", err=True)


async def _get(connection: Connection, host: str) -> host_pb2.Host:
    cluster_id = await connection.cluster_id()
    answer = await connection.ask(connection.clusters.GetHost, cs.GetHostRequest(cluster_id=cluster_id, host_id=host))
    return answer.host


def _state(host: host_pb2.Host) -> str:
    return output.name_of(host_pb2.HostState, host.state)


def _row(host: host_pb2.Host) -> tuple[object, ...]:
    facts = host.facts
    vcpus, memory = (facts.vcpus, f"{facts.memory_mib} MiB") if host.HasField("facts") else ("", "")
    agent = "connected" if host.agent_connected else "-"
    since = output.time_of(host.state_time)
    return host.host_id, _state(host), host.state_reason, since, agent, vcpus, memory, host.config.rack


def tell(connection: Connection, host: host_pb2.Host, done: str) -> None:
    """Say what was done to a host, or print it for programs."""
    if connection.options.json:
        output.json_document(output.as_dict(host))
    else:
        output.line(f"{host.host_id}: {done}")


def _print(connection: Connection, host: host_pb2.Host) -> None:
    if connection.options.json:
        output.json_document(output.as_dict(host))
        return
    config, facts, known = host.config, host.facts, host.HasField("facts")
    fence = f"{config.fence.agent} ({', '.join(sorted(config.fence.parameters))})" if config.HasField("fence") else "none"
    output.facts(
        (
            ("host", host.host_id),
            ("cluster", host.cluster_id),
            ("state", _state(host)),
            ("reason", host.state_reason),
            ("since (UTC)", output.time_of(host.state_time)),
            ("agent", "connected" if host.agent_connected else "not connected"),
            ("maintenance", "yes" if host.in_maintenance else "no"),
            ("drain", host.drain_id or "none"),
            ("incident", host.incident_id or "none"),
            ("incarnation", host.incarnation),
            ("fence epoch", host.fence_epoch),
            ("boot id", host.boot_id),
            ("probe target", config.probe_target),
            ("agent target", config.agent_target),
            ("libvirt", config.libvirt_uri),
            ("fence", fence),
            ("rack", config.rack),
            ("aggregates", ", ".join(config.aggregates)),
            ("roles", ", ".join(config.roles)),
            ("capacity", f"{facts.vcpus} vCPUs, {facts.memory_mib} MiB" if known else "not reported yet"),
            (
                "system",
                f"{facts.operating_system}, libvirt {facts.libvirt_version}, QEMU {facts.hypervisor_version}" if known else "",
            ),
        )
    )


def _explain(explanation: cs.HostExplanation) -> None:
    host = explanation.host
    output.line(f"{host.host_id} is {_state(host)}: {explanation.summary}")
    output.facts(
        (
            ("reason", host.state_reason or "-"),
            ("silent since (UTC)", output.time_of(explanation.silent_since) or "its stream is fresh"),
            ("manager's probe", _seen(explanation.manager_probe) if explanation.HasField("manager_probe") else "none"),
            ("quorum", f"{explanation.quorum} reporters"),
            ("confirmed at (UTC)", output.time_of(explanation.confirm_time) or "no cooldown runs"),
            ("held", explanation.held_reason or "no"),
        )
    )
    if explanation.votes:
        output.heading("what its watchers say")
        rows = [
            (v.reporter_host_id, _verdict(v.observation), _age(v.observation), "yes" if v.credible else v.discredit_reason)
            for v in explanation.votes
        ]
        output.table(("REPORTER", "VERDICT", "AGE", "COUNTS"), rows)
    if explanation.history:
        output.heading("history")
        for entry in explanation.history:
            output.line(entry)


def _verdict(seen: manager_service_pb2.PeerObservation) -> str:
    return output.name_of(host_pb2.PeerVerdict, seen.verdict)


def _age(seen: manager_service_pb2.PeerObservation) -> str:
    return f"{seconds(seen.age):.1f} s"


def _seen(seen: manager_service_pb2.PeerObservation) -> str:
    return f"{_verdict(seen)}, {_age(seen)} ago"
