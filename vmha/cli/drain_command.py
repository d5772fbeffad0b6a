"""`vmha host drain`: empty a host, follow it to the end, say what stayed."""

from __future__ import annotations

from typing import Annotated

import typer

from vmha.cli import output, progress
from vmha.cli.evacuation_commands import exit_of, follow, get
from vmha.cli.exits import Exit
from vmha.cli.host_commands import HostArgument, tell
from vmha.cli.session import Connection, execute
from vmha.errors import NotFound
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import evacuation_service_pb2 as ev


def drain(
    context: typer.Context,
    host: HostArgument,
    stop: Annotated[bool, typer.Option("--stop", help="Shut down what cannot be migrated, with force after a while.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the drain; what has moved stays where it is.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
) -> None:
    """Take a host out of service and migrate its VMs away live. Exit code 5 while something still runs there."""

    async def work(connection: Connection) -> Exit | None:
        cluster_id = await connection.cluster_id()
        if cancel:
            end = cs.CancelHostDrainRequest(cluster_id=cluster_id, host_id=host)
            changed = (await connection.ask(connection.clusters.CancelHostDrain, end)).host
            tell(connection, changed, "its drain is being ended" if changed.drain_id else "no drain is under way")
            return None
        start = cs.StartHostDrainRequest(cluster_id=cluster_id, host_id=host, stop_vms=stop)
        changed = (await connection.ask(connection.clusters.StartHostDrain, start)).host
        if not wait:
            tell(connection, changed, f"is being drained: vmha evacuation watch {changed.drain_id}")
            return None
        return await _to_the_end(connection, cluster_id, host, changed.drain_id)

    if cancel and stop:
        raise typer.BadParameter("--cancel and --stop do not go together")
    execute(context, work)


async def _to_the_end(connection: Connection, cluster_id: str, host: str, drain_id: str) -> Exit:
    if not drain_id:
        raise NotFound("EVACUATION_UNKNOWN", f"the drain of {host} has ended already: vmha evacuation list --host {host}")
    answer = await get(connection, cluster_id, drain_id)
    with progress.choose(json=connection.options.json) as display:
        display.known(answer.evacuation, list(answer.vms))
        last = await follow(connection, answer.evacuation, display)
    if not connection.options.json:
        answer = await get(connection, cluster_id, drain_id)
        output.line(progress.summary(last))
        output.table(progress.COLUMNS, [progress.vm_row(vm, host) for vm in answer.vms])
    return Exit.VMS_FAILED if last.state == ev.EVACUATION_STATE_CANCELLED else exit_of(last)
