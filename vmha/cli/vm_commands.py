"""`vmha vm`: list, explain."""

from __future__ import annotations

from typing import Annotated

import typer

from vmha.cli import outlook, output
from vmha.cli.session import Connection, execute, pages, rows_or_json
from vmha.errors import NotFound
from vmha.rpc.checks import valid_uuid
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import vm_pb2

app = typer.Typer(help="VMs: list, explain.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context, host: Annotated[str, typer.Option(help="Only those that this host owns.", show_default=False)] = ""
) -> None:
    """List the VMs of a cluster."""

    async def work(connection: Connection) -> None:
        found = await _all(connection, host)
        columns = ("VM", "OWNER", "STATE", "WANTED", "PROTECTED", "VCPUS", "MEMORY", "REASON", "ID")
        rows_or_json(connection, found, "vms", columns, _row)

    execute(context, work)


@app.command()
def explain(context: typer.Context, vm: Annotated[str, typer.Argument(help="Name or UUID.", show_default=False)]) -> None:
    """Say why a VM is where it is, where it could go now, and which rule keeps it from which host."""

    async def work(connection: Connection) -> None:
        cluster_id = await connection.cluster_id()
        vm_id = vm if valid_uuid(vm) else await _by_name(connection, vm)
        request = cs.ExplainVmRequest(cluster_id=cluster_id, vm_id=vm_id)
        explanation = (await connection.ask(connection.clusters.ExplainVm, request)).explanation
        placement = await outlook.of_vm(connection, cluster_id, vm_id)
        if connection.options.json:
            output.json_document({**output.as_dict(explanation), **placement.as_dict()})
            return
        _explain(explanation)
        placement.show(outlook.show_vm)

    execute(context, work)


async def _all(connection: Connection, host: str = "") -> list[vm_pb2.Vm]:
    cluster_id = await connection.cluster_id()
    return await pages(
        connection,
        connection.clusters.ListVms,
        lambda token: cs.ListVmsRequest(cluster_id=cluster_id, host_id=host, page_size=500, page_token=token),
        "vms",
    )


async def _by_name(connection: Connection, name: str) -> str:
    for vm in await _all(connection):
        if vm.name == name:
            return str(vm.vm_id)
    raise NotFound("VM_UNKNOWN", f"no VM is called {name}", {"vm": name})


def _state(number: int) -> str:
    return output.name_of(vm_pb2.VmState, number)


def _is_down(vm: vm_pb2.Vm) -> bool:
    """S28: what its lost host's libvirt said last is not what is."""
    return bool(vm.reason) and vm.state == vm_pb2.VM_STATE_RUNNING


def _row(vm: vm_pb2.Vm) -> tuple[object, ...]:
    protected = "yes" if vm.facts.ha_enabled else "no"
    memory = f"{vm.facts.memory_mib} MiB"
    wanted = _state(vm.desired_state)
    return (
        vm.name,
        vm.owner_host_id,
        "not running" if _is_down(vm) else _state(vm.state),
        wanted,
        protected,
        vm.facts.vcpus,
        memory,
        vm.reason,
        vm.vm_id,
    )


def _needs(facts: vm_pb2.VmFacts) -> str:
    named = [
        f"{name} {', '.join(items)}" for name, items in (("aggregates", facts.aggregates), ("groups", facts.groups)) if items
    ]
    return ", ".join([f"{facts.memory_mib} MiB", f"{facts.vcpus} vCPUs", *named])


def _explain(explanation: cs.VmExplanation) -> None:
    vm = explanation.vm
    output.line(f"{vm.name}: {explanation.summary}")
    output.facts(
        (
            ("id", vm.vm_id),
            ("owner", f"{vm.owner_host_id} (incarnation {vm.owner_incarnation}, epoch {vm.epoch})"),
            ("state", "not running; RUNNING when its host was heard last" if _is_down(vm) else _state(vm.state)),
            ("wanted", _state(vm.desired_state)),
            ("reason", vm.reason or "-"),
            ("needs", _needs(vm.facts)),
        )
    )
    if explanation.history:
        output.heading("history")
        for entry in explanation.history:
            output.line(entry)
