"""What an agent must not forget while its host is up: its registration, and the newest epoch of each VM.

One JSON file under `state_dir`, replaced atomically and synced before anything that depends on it is done. It belongs to one
boot: with another boot id in it, it is not read, and the host registers anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import structlog

from vmha.errors import FieldViolation, InvalidField, Unavailable

FILE_NAME: Final = "agent.json"
_VERSION: Final = 1
_log = structlog.get_logger("vmha.agent")


def read_boot_id(path: Path) -> str:
    """The identity of this boot.

    Raises:
        InvalidField: The file cannot be read or is empty.
    """
    try:
        boot_id = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField([FieldViolation("boot_id_file", f"{path} cannot be read: {type(error).__name__}")]) from None
    if not 1 <= len(boot_id) <= 64:
        raise InvalidField([FieldViolation("boot_id_file", f"{path} must hold 1 to 64 characters")])
    return boot_id


class State:
    """The registration of this boot and the epochs that were told. Every change is on disk when its method returns.

    Attributes:
        cluster_id: The host's cluster, as the manager said last; empty before the first welcome.
        incarnation: The registration; 0 when there is none, or when it is over.
    """

    def __init__(self, state_dir: Path, host_id: str, boot_id: str) -> None:
        self._path = state_dir / FILE_NAME
        self.host_id = host_id
        self.boot_id = boot_id
        self.cluster_id = ""
        self.incarnation = 0
        self._epochs: dict[str, int] = {}
        self._tombstones: dict[str, int] = {}
        self._starting: set[str] = set()
        self._read()

    def epoch(self, vm_id: str) -> int:
        """The epoch under which this host holds the VM; 0 when it was told none, or gave the VM up since."""
        held = self._epochs.get(vm_id, 0)
        return held if held > self._tombstones.get(vm_id, 0) else 0

    def newest_epoch(self, vm_id: str) -> int:
        """The newest epoch of the VM that was seen here, whoever held it."""
        return max(self._epochs.get(vm_id, 0), self._tombstones.get(vm_id, 0))

    def owns(self, vm_id: str) -> bool:
        """Whether this host was told that it owns the VM, and nothing newer."""
        return self.epoch(vm_id) > 0

    def joined(self, cluster_id: str) -> None:
        """A manager said which cluster this host is in."""
        if cluster_id != self.cluster_id:
            self.cluster_id = cluster_id
            self._write()

    def registered(self, incarnation: int) -> None:
        """The manager offered this incarnation."""
        self.incarnation = incarnation
        self._write()

    def unregistered(self) -> None:
        """The incarnation is over."""
        if self.incarnation:
            self.incarnation = 0
            self._write()

    def told(self, owned: dict[str, int], released: dict[str, int]) -> None:
        """An ownership update: VM -> epoch that is held here, VM -> epoch of its owner elsewhere. Older epochs change nothing."""
        before = dict(self._epochs), dict(self._tombstones)
        for vm_id, epoch in owned.items():
            self._epochs[vm_id] = max(epoch, self._epochs.get(vm_id, 0))
        for vm_id, epoch in released.items():
            self._tombstones[vm_id] = max(epoch, self._tombstones.get(vm_id, 0))
        if before != (self._epochs, self._tombstones):
            self._write()

    @property
    def starting(self) -> frozenset[str]:
        """VMs that this host owns, and was still about to start."""
        return frozenset(self._starting)

    def to_start(self, vm_ids: set[str]) -> None:
        """These are to be started; an agent that comes up again in this boot goes on with them."""
        if vm_ids != self._starting:
            self._starting = set(vm_ids)
            self._write()

    def settled(self, vm_id: str) -> None:
        """One of them runs, or needs to no more."""
        if vm_id in self._starting:
            self._starting.discard(vm_id)
            self._write()

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_bytes())
            if found["version"] != _VERSION or found["boot_id"] != self.boot_id or found["host_id"] != self.host_id:
                _log.info("state_is_of_another_boot", path=str(self._path))
                return
            epochs, tombstones = _counters(found["epochs"]), _counters(found["tombstones"])
            starting = {str(vm_id) for vm_id in found["starting"]}
            cluster_id, incarnation = str(found["cluster_id"]), int(found["incarnation"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # As good as none: the host registers anew, and is told everything again.
            _log.warning("state_unreadable", path=str(self._path), error=type(error).__name__)
            return
        self.cluster_id, self.incarnation = cluster_id, max(0, incarnation)
        self._epochs, self._tombstones, self._starting = epochs, tombstones, starting

    def _write(self) -> None:
        content = {
            "version": _VERSION,
            "boot_id": self.boot_id,
            "host_id": self.host_id,
            "cluster_id": self.cluster_id,
            "incarnation": self.incarnation,
            "epochs": self._epochs,
            "tombstones": self._tombstones,
            "starting": sorted(self._starting),
        }
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with fresh.open("w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            message = f"{self._path} cannot be written: {error.strerror}"
            raise Unavailable("STATE_UNAVAILABLE", message, {"path": str(self._path)}) from None


def _counters(found: dict[str, Any]) -> dict[str, int]:
    return {str(vm_id): int(epoch) for vm_id, epoch in found.items()}
