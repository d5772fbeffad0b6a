"""`vmha events`: what happened, and what happens."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from vmha.cli import output
from vmha.cli.session import Connection, execute
from vmha.v1 import cluster_pb2, evacuation_service_pb2, host_pb2
from vmha.v1 import event_service_pb2 as es

NOW: Final = -1


def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and show events as they happen.")] = False,
    after: Annotated[
        int, typer.Option(help="Only events after this revision; 0: all that are kept, -1: from now on.", min=-1)
    ] = 0,
) -> None:
    """Show a cluster's events, one on each line."""

    async def work(connection: Connection) -> None:
        cluster_id = await connection.cluster_id()
        last = None if follow else await _last_revision(connection, cluster_id)
        if last is not None and (after == NOW or last <= after):
            return
        request = es.WatchEventsRequest(cluster_id=cluster_id, after_revision=after)
        async for message in connection.read(connection.events.WatchEvents(request)):
            if message.HasField("event"):
                _print(connection, message)
            if last is not None and message.HasField("event") and message.revision >= last:
                return

    execute(context, work)


async def _last_revision(connection: Connection, cluster_id: str) -> int:
    """The newest revision: the bookmark that a watch "from now on" begins with."""
    request = es.WatchEventsRequest(cluster_id=cluster_id, after_revision=NOW)
    async for message in connection.read(connection.events.WatchEvents(request, timeout=connection.options.timeout_s)):
        return message.revision
    return 0


def _print(connection: Connection, message: es.WatchEventsResponse) -> None:
    if connection.options.json:
        output.json_line(message)
        return
    event = message.event
    actor = f"{event.actor}: " if event.actor else ""
    output.line(f"{message.revision:>6}  {output.time_of(event.event_time)}  {actor}{describe(event)}")


def describe(event: es.Event) -> str:
    """One event in one line."""
    kind = event.WhichOneof("detail")
    return _DESCRIBE[kind](event) if kind in _DESCRIBE else "something that this release of the command line does not know"


def _host(event: es.Event) -> str:
    change = event.host_state_change
    old, new = (output.name_of(host_pb2.HostState, state) for state in (change.old_state, change.new_state))
    return _joined(f"host {change.host_id}: {old} -> {new}", change.reason, change.message)


def _protection(event: es.Event) -> str:
    change = event.protection_state_change
    old, new = (output.name_of(cluster_pb2.ProtectionState, state) for state in (change.old_state, change.new_state))
    return _joined(f"protection: {old} -> {new}", change.reason, "")


def _alarm(event: es.Event) -> str:
    alarm = event.alarm
    about = " ".join(part for part in (alarm.host_id, alarm.vm_id) if part)
    return _joined(
        f"{'alarm over' if alarm.cleared else 'ALARM'} {alarm.reason}" + (f" ({about})" if about else ""), "", alarm.message
    )


def _vm(event: es.Event) -> str:
    change, vm = event.vm_evacuation_change, event.vm_evacuation_change.vm
    step = output.name_of(evacuation_service_pb2.VmStep, vm.step)
    outcome = output.name_of(evacuation_service_pb2.VmOutcome, vm.outcome) if vm.outcome else step
    target = f" -> {vm.target_host_id}" if vm.target_host_id else ""
    return _joined(f"vm {vm.vm_name}: {outcome} ({change.source_host_id}{target})", vm.reason, vm.message)


def _evacuation(event: es.Event) -> str:
    evacuation = event.evacuation_state_change.evacuation
    state = output.name_of(evacuation_service_pb2.EvacuationState, evacuation.state)
    return _joined(f"evacuation of {evacuation.host_id}: {state}", evacuation.reason, evacuation.message)


def _operator(event: es.Event) -> str:
    act = event.operator_act
    outcome = f"refused ({act.refused_reason})" if act.refused_reason else "done"
    return _joined(f"{act.act} {act.subject}: {outcome}", "", act.message)


def _joined(head: str, reason: str, message: str) -> str:
    tail = ": ".join(part for part in (reason, message) if part)
    return f"{head}: {tail}" if tail else head


_DESCRIBE: Final = {
    "host_state_change": _host,
    "protection_state_change": _protection,
    "alarm": _alarm,
    "vm_evacuation_change": _vm,
    "evacuation_state_change": _evacuation,
    "operator_act": _operator,
}
