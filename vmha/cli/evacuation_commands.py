"""`vmha evacuation`: list, show, watch, plan, cancel. Drains are listed and followed as well."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer

from vmha.cli import output, progress
from vmha.cli.exits import Exit
from vmha.cli.progress import Display
from vmha.cli.session import Connection, execute, pages, rows_or_json
from vmha.errors import NotFound, Unavailable
from vmha.v1 import evacuation_service_pb2 as ev

app = typer.Typer(help="Evacuations: list, show, watch, plan, cancel.", no_args_is_help=True)
EvacuationArgument = Annotated[str, typer.Argument(help="evacuation_id", show_default=False)]
NewestArgument = Annotated[str, typer.Argument(help="evacuation_id; default: the newest.", show_default=False)]

_TERMINAL: Final = frozenset(
    {
        ev.EVACUATION_STATE_SUCCEEDED,
        ev.EVACUATION_STATE_PARTIALLY_FAILED,
        ev.EVACUATION_STATE_FAILED,
        ev.EVACUATION_STATE_CANCELLED,
    }
)
_RESUME_EVERY_S: Final = 1.0
_GIVE_UP_AFTER: Final = 60
"""Attempts in a row to resume a watch that was cut."""


@app.command("list")
def list_(
    context: typer.Context, host: Annotated[str, typer.Option(help="Only those of this host.", show_default=False)] = ""
) -> None:
    """List the evacuations and drains of a cluster, the newest first."""

    async def work(connection: Connection) -> None:
        cluster_id = await connection.cluster_id()
        found = await pages(
            connection,
            connection.evacuations.ListEvacuations,
            lambda token: ev.ListEvacuationsRequest(cluster_id=cluster_id, host_id=host, page_size=500, page_token=token),
            "evacuations",
        )
        columns = ("STARTED (UTC)", "KIND", "HOST", "STATE", "REASON", "PROOF", "VMS", "MOVED", "PENDING", "FAILED", "ID")
        rows_or_json(connection, found, "evacuations", columns, _row)

    execute(context, work)


@app.command()
def show(context: typer.Context, evacuation: NewestArgument = "") -> None:
    """Show an evacuation with each of its VMs."""

    async def work(connection: Connection) -> None:
        answer = await get(connection, await connection.cluster_id(), evacuation)
        if connection.options.json:
            output.json_document(output.as_dict(answer))
            return
        found = answer.evacuation
        output.line(progress.summary(found))
        output.facts(
            (
                ("id", found.evacuation_id),
                ("proof", _proof(found)),
                ("fence epoch", found.fence_epoch),
                ("started (UTC)", output.time_of(found.start_time)),
                ("proven (UTC)", output.time_of(found.proof_time) or "not yet"),
                ("ended (UTC)", output.time_of(found.end_time) or "not yet"),
            )
        )
        output.heading("VMs")
        output.table(progress.COLUMNS, [progress.vm_row(vm, found.host_id) for vm in answer.vms])

    execute(context, work)


@app.command()
def watch(context: typer.Context, evacuation: NewestArgument = "") -> None:
    """Follow an evacuation to its end. Exit code 5 when it ends with VMs that could not be moved."""

    async def work(connection: Connection) -> Exit:
        cluster_id = await connection.cluster_id()
        answer = await get(connection, cluster_id, evacuation)
        with progress.choose(json=connection.options.json) as display:
            display.known(answer.evacuation, list(answer.vms))
            last = await follow(connection, answer.evacuation, display)
        if not connection.options.json:
            output.line(progress.summary(last))
        return exit_of(last)

    execute(context, work)


@app.command()
def plan(context: typer.Context, host: Annotated[str, typer.Argument(help="host_id", show_default=False)]) -> None:
    """Say where each VM of a host would go if it died now. Fences, moves and writes nothing."""

    async def work(connection: Connection) -> None:
        request = ev.EvacuateRequest(cluster_id=await connection.cluster_id(), host_id=host, validate_only=True)
        stream = connection.evacuations.Evacuate(request, timeout=connection.options.timeout_s)
        rows: list[tuple[Any, ...]] = []
        async for message in connection.read(stream):
            if connection.options.json:
                output.json_line(message.event)
            elif message.event.HasField("vm"):
                name, source, target, _, outcome, reason = progress.vm_row(message.event.vm, host)
                rows.append((name, source, target, outcome if outcome != "-" else "", reason))
        if not connection.options.json:
            output.table(("VM", "FROM", "TO", "OUTCOME", "REASON"), rows)

    execute(context, work)


@app.command()
def cancel(
    context: typer.Context,
    evacuation: EvacuationArgument,
    reason: Annotated[str, typer.Option(help="For people; recorded.")] = "",
) -> None:
    """Stop an evacuation before its next VM; starts under way are finished."""

    async def work(connection: Connection) -> None:
        request = ev.CancelEvacuationRequest(cluster_id=await connection.cluster_id(), evacuation_id=evacuation, reason=reason)
        answer = await connection.ask(connection.evacuations.CancelEvacuation, request)
        if connection.options.json:
            output.json_document(output.as_dict(answer.evacuation))
        else:
            output.line(progress.summary(answer.evacuation))

    execute(context, work)


async def get(connection: Connection, cluster_id: str, evacuation_id: str) -> ev.GetEvacuationResponse:
    """An evacuation or drain with its VMs; empty: the newest.

    Raises:
        NotFound: EVACUATION_UNKNOWN.
    """
    if not evacuation_id:
        request = ev.ListEvacuationsRequest(cluster_id=cluster_id, page_size=1)
        page = await connection.ask(connection.evacuations.ListEvacuations, request)
        if not page.evacuations:
            raise NotFound("EVACUATION_UNKNOWN", f"cluster {cluster_id} has had no evacuation")
        evacuation_id = page.evacuations[0].evacuation_id
    wanted = ev.GetEvacuationRequest(cluster_id=cluster_id, evacuation_id=evacuation_id)
    return await connection.ask(connection.evacuations.GetEvacuation, wanted)


async def follow(connection: Connection, evacuation: ev.Evacuation, display: Display) -> ev.Evacuation:
    """Show events to the end; resumes where it was when the evacuator goes away and comes back.

    Raises:
        Unavailable: It did not come back.
    """
    last, sequence, attempts = evacuation, 0, 0
    while True:
        request = ev.WatchEvacuationRequest(
            cluster_id=evacuation.cluster_id, evacuation_id=evacuation.evacuation_id, after_sequence=sequence
        )
        try:
            async for message in connection.read(connection.evacuations.WatchEvacuation(request)):
                attempts = 0
                last, sequence = message.event.evacuation, message.event.sequence
                display.event(message.event)
            if last.state in _TERMINAL:
                return last
        except Unavailable as error:
            if attempts >= _GIVE_UP_AFTER:
                raise
            display.note(f"{error.message}; trying again")
        attempts += 1
        await asyncio.sleep(_RESUME_EVERY_S)


def _proof(evacuation: ev.Evacuation) -> str:
    if evacuation.kind == ev.EVACUATION_KIND_DRAIN:
        return "-"
    return output.name_of(ev.ProofKind, evacuation.proof).lower() if evacuation.proof else "none yet"


def _row(evacuation: ev.Evacuation) -> tuple[object, ...]:
    return (
        output.time_of(evacuation.start_time),
        "drain" if evacuation.kind == ev.EVACUATION_KIND_DRAIN else "evacuation",
        evacuation.host_id,
        output.name_of(ev.EvacuationState, evacuation.state),
        evacuation.reason,
        _proof(evacuation),
        evacuation.total_count,
        evacuation.moved_count + evacuation.restarted_count,
        evacuation.pending_count,
        evacuation.failed_count,
        evacuation.evacuation_id,
    )


def exit_of(evacuation: ev.Evacuation) -> Exit:
    """The exit code that tells of its end."""
    failed = evacuation.failed_count or evacuation.state in {
        ev.EVACUATION_STATE_PARTIALLY_FAILED,
        ev.EVACUATION_STATE_FAILED,
    }
    return Exit.VMS_FAILED if failed else Exit.OK
