"""The progress display of an evacuation: a live table on a terminal, one line for each step anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vmha.cli import output
from vmha.v1 import evacuation_service_pb2 as ev

COLUMNS: Final = ("VM", "FROM", "TO", "STEP", "OUTCOME", "REASON")
_REFRESH_PER_S: Final = 8


def vm_row(vm: ev.VmEvacuation, source: str) -> tuple[str, ...]:
    """A VM's part of an evacuation as a table's row."""
    step = output.name_of(ev.VmStep, vm.step).lower() if vm.step else "-"
    outcome = output.name_of(ev.VmOutcome, vm.outcome) if vm.outcome else "-"
    return vm.vm_name or vm.vm_id, source, vm.target_host_id or "-", step, outcome, vm.reason or vm.message


def summary(evacuation: ev.Evacuation) -> str:
    """Where an evacuation stands, in one line."""
    counts = (
        ("moved", evacuation.moved_count),
        ("restarted where it was", evacuation.restarted_count),
        ("pending", evacuation.pending_count),
        ("failed", evacuation.failed_count),
        ("skipped", evacuation.skipped_count),
    )
    told = ", ".join(f"{count} {name}" for name, count in counts if count)
    state = output.name_of(ev.EvacuationState, evacuation.state)
    why = f" ({evacuation.reason}: {evacuation.message})" if evacuation.reason else ""
    return f"{evacuation.host_id}: {state}{why}; {evacuation.total_count} VMs" + (f": {told}" if told else "")


class Display(Protocol):
    """Shows an evacuation under way."""

    def __enter__(self) -> Display: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def known(self, evacuation: ev.Evacuation, vms: list[ev.VmEvacuation]) -> None:
        """What is known before the first event."""

    def event(self, event: ev.EvacuationEvent) -> None:
        """One more step."""

    def note(self, text: str) -> None:
        """Something about the watching itself."""


def choose(*, json: bool) -> Display:
    """The display that fits where the output goes."""
    if json:
        return JsonLines()
    return LiveTable() if sys.stdout.isatty() else Lines()


class _Quiet:
    """What the displays without a screen share."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to give back."""

    def known(self, evacuation: ev.Evacuation, vms: list[ev.VmEvacuation]) -> None:
        """The events say it all."""

    def note(self, text: str) -> None:
        """Say it where it does not mix with the output."""
        sys.stderr.write(f"vmha: {output.clean(text)}\n")


class JsonLines(_Quiet):
    """One JSON object for each event."""

    def __enter__(self) -> JsonLines:
        return self

    def event(self, event: ev.EvacuationEvent) -> None:
        """Print the event as it came."""
        output.json_line(event)


class Lines(_Quiet):
    """One line for each event."""

    def __enter__(self) -> Lines:
        return self

    def event(self, event: ev.EvacuationEvent) -> None:
        """Print what the event changed."""
        moment = output.time_of(event.event_time)
        if event.HasField("vm"):
            name, source, target, step, outcome, reason = vm_row(event.vm, event.evacuation.host_id)
            output.line(f"{moment}  {name}: {source} -> {target}  {step}  {outcome}  {reason}".rstrip())
        else:
            output.line(f"{moment}  {summary(event.evacuation)}")
        sys.stdout.flush()


class LiveTable:
    """A table with a row for each VM that changes in place, under a progress bar."""

    def __init__(self, screen: Console | None = None) -> None:
        self._evacuation = ev.Evacuation()
        self._vms: dict[str, ev.VmEvacuation] = {}
        self._note = ""
        self._live = Live(console=screen or output.console(), refresh_per_second=_REFRESH_PER_S, get_renderable=self._render)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.__exit__(kind, error, trace)

    def known(self, evacuation: ev.Evacuation, vms: list[ev.VmEvacuation]) -> None:
        """Start with all rows."""
        self._evacuation.CopyFrom(evacuation)
        self._vms = {vm.vm_id: vm for vm in vms}

    def event(self, event: ev.EvacuationEvent) -> None:
        """Change a row."""
        self._note = ""
        self._evacuation.CopyFrom(event.evacuation)
        if event.HasField("vm"):
            self._vms[event.vm.vm_id] = event.vm

    def note(self, text: str) -> None:
        """Show it under the table until the next event."""
        self._note = text

    def _render(self) -> Group:
        grid = Table(box=None, pad_edge=False, header_style="bold")
        for column in COLUMNS:
            grid.add_column(column, no_wrap=True)
        for vm in sorted(self._vms.values(), key=lambda vm: vm.vm_name):
            grid.add_row(*(output.cell(item) for item in vm_row(vm, self._evacuation.host_id)))
        settled = sum(1 for vm in self._vms.values() if vm.step == ev.VM_STEP_SETTLED)
        bar = ProgressBar(total=max(1, len(self._vms)), completed=settled, width=40)
        head = Text(output.clean(summary(self._evacuation)), style="bold")
        return Group(head, bar, grid, Text(output.clean(self._note), style="yellow"))
