"""Tells a person what the services see and do, as it happens: events of the contract, and what agents write to their logs."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from vmha.v1 import cluster_pb2, host_pb2
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import event_service_pb2 as pb

if TYPE_CHECKING:
    from lab.stack import Stack
    from lab.watch import Seen

COLOURS = {
    "HEALTHY": "green",
    "SUSPECT": "yellow",
    "COOLDOWN": "yellow",
    "DOWN": "red",
    "FENCE_PENDING": "bold red",
    "EVACUATED": "green",
}
LOG_POLL_S = 0.05


def sentence(event: pb.Event) -> str | None:
    """One event as a person reads it; None when it is not worth a line."""
    match event.WhichOneof("detail"):
        case "host_state_change":
            return _host(event.host_state_change)
        case "vm_evacuation_change":
            return _vm(event.vm_evacuation_change.vm)
        case "alarm":
            word = "alarm over:" if event.alarm.cleared else "[bold red]ALARM[/]"
            return f"{word} {event.alarm.reason} {event.alarm.message}"
        case "protection_state_change":
            new = cluster_pb2.ProtectionState.Name(event.protection_state_change.new_state)
            return f"HA is {new.removeprefix('PROTECTION_STATE_')}"
    return None


def _host(change: pb.HostStateChange) -> str:
    old, new = (host_pb2.HostState.Name(state).removeprefix("HOST_STATE_") for state in (change.old_state, change.new_state))
    return f"{change.host_id} {old} -> [{COLOURS.get(new, 'cyan')}]{new}[/]  {change.message or change.reason}"


def _vm(vm: ev.VmEvacuation) -> str:
    step = ev.VmStep.Name(vm.step).removeprefix("VM_STEP_").lower()
    outcome = f" [green]{ev.VmOutcome.Name(vm.outcome).removeprefix('VM_OUTCOME_')}[/]" if vm.outcome else ""
    return f"{vm.vm_name} {step} on {vm.target_host_id or '-'}{outcome} {vm.message or vm.reason}".rstrip()


class Narrator:
    """Prints events and agents' verdicts while it is entered, with the seconds since `zero` (time.monotonic())."""

    def __init__(self, console: Console, stack: Stack, zero: float) -> None:
        self._console = console
        self._stack = stack
        self._zero = zero
        self._ended = threading.Event()
        self._logs = {host_id: stack.lab.host(host_id).agent_log for host_id in stack.host_ids}
        self._offsets: dict[str, int] = {}
        self._thread = threading.Thread(target=self._tail, name="narrator", daemon=True)

    def __enter__(self) -> Narrator:
        self._offsets = {host_id: _size(path) for host_id, path in self._logs.items()}
        self._stack.events.listeners.append(self._hear)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(2)
        self._stack.events.listeners.remove(self._hear)

    def _say(self, who: str, text: str, at: float) -> None:
        self._console.print(f"+{at - self._zero:.2f} s  [dim]{who:<12}[/] {text}")

    def _hear(self, seen: Seen) -> None:
        if (text := sentence(seen.event)) is not None:
            self._say(seen.event.actor or "manager", text, seen.at)

    def _tail(self) -> None:
        while not self._ended.wait(LOG_POLL_S):
            for host_id, path in self._logs.items():
                for line in self._new_lines(host_id, path):
                    self._verdict(host_id, line)

    def _new_lines(self, host_id: str, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as log:
                log.seek(self._offsets[host_id])
                text = log.read()
        except OSError:
            return []
        whole = text.rpartition(b"\n")[0]
        self._offsets[host_id] += len(whole) + 1 if whole else 0
        return whole.splitlines()

    def _verdict(self, host_id: str, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if entry.get("event") == "peer_verdict_changed":
            self._say(f"agent {host_id}", f"{entry.get('peer')} {entry.get('old')} -> {entry.get('new')}", time.monotonic())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
