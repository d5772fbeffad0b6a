"""What an agent must not forget while its host is up: its lease, its registration, and the newest epoch of each VM (R9).

One JSON record, replaced as a whole before anything that depends on it is done. It belongs to one boot: with another boot id in
it, it counts for nothing. The marker is on a disk and outlives the boot: it says that VMs run on this host only under a lease, so
that VMs which are found without a record of their lease are not kept.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import structlog

from vmha.agent import kept as kept_record
from vmha.agent.lease_events import Kept
from vmha.agent.state_file import StateFile
from vmha.errors import FieldViolation, InvalidField

FILE_NAME: Final = "agent.json"
MARKER_NAME: Final = "leased"
_VERSION: Final = 2
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
    """The record of this boot. Every change is on disk when its method returns; each raises Unavailable(STATE_UNAVAILABLE).

    Attributes:
        cluster_id: The host's cluster, as the manager said last; empty before the first welcome.
        kept: What the lease wants kept. Without a record of this boot, on a host that has its marker: latched, so that whatever
            VM is found is destroyed before anything else (R9).
        config: The newest AgentConfig as it came, for its members; empty before the first.
        store_generation: The highest that was seen (R20).
        lapsed_until: Until when a manager may say that VMs whose guard ended while no agent ran are this host's; 0: no guard did.
        marked: The marker is there.
    """

    def __init__(self, file: StateFile, marker: StateFile, host_id: str, boot_id: str) -> None:
        self._file = file
        self._marker = marker
        self.host_id = host_id
        self.boot_id = boot_id
        self.cluster_id = ""
        self.kept = Kept()
        self.config = b""
        self.store_generation = 0
        self.lapsed_until = 0.0
        self._epochs: dict[str, int] = {}
        self._tombstones: dict[str, int] = {}
        self._starting: set[str] = set()
        self._fenced: set[str] = set()
        self._rest = ""
        self.marked = self._is_marked()
        if not self._read() and self.marked:
            _log.warning("state_lost", marker=marker.name)
            self.kept = Kept(latched=True)

    @property
    def incarnation(self) -> int:
        """The registration; 0 when there is none, or when it is over."""
        return self.kept.incarnation

    # Epochs

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

    @property
    def owned(self) -> frozenset[str]:
        """The VMs that this host owns, as far as it was told."""
        return frozenset(vm_id for vm_id in self._epochs if self.owns(vm_id))

    def told(self, owned: dict[str, int], released: dict[str, int]) -> None:
        """An ownership update: VM -> epoch that is held here, VM -> epoch of its owner elsewhere. Older epochs change nothing."""
        before = dict(self._epochs), dict(self._tombstones)
        for vm_id, epoch in owned.items():
            self._epochs[vm_id] = max(epoch, self._epochs.get(vm_id, 0))
        for vm_id, epoch in released.items():
            self._tombstones[vm_id] = max(epoch, self._tombstones.get(vm_id, 0))
        if before != (self._epochs, self._tombstones):
            self._write()

    # The lease, and where it comes from

    def keep(self, kept: Kept) -> None:
        """The lease changed."""
        same = kept.config is self.kept.config and bool(self._rest)
        self.kept = kept
        if same:
            self._write_lease()
        else:
            self._write()

    def joined(self, cluster_id: str) -> None:
        """A manager said which cluster this host is in."""
        if cluster_id != self.cluster_id:
            self.cluster_id = cluster_id
            self._write()

    def configured(self, config: bytes) -> None:
        """A newer AgentConfig came; written with the lease's new terms, which it brings about."""
        self._rest = ""
        self.config = config

    def saw_generation(self, store_generation: int) -> None:
        """An ack told the store's generation."""
        if store_generation > self.store_generation:
            self.store_generation = store_generation
            self._write()

    def lapse(self, until: float) -> None:
        """The guard ended while no agent ran; 0: that is settled."""
        if until != self.lapsed_until:
            self.lapsed_until = until
            self._write()

    def mark(self, leased: bool) -> None:
        """From now on VMs run here only under a lease; or not so any more."""
        if leased and not self.marked:
            self._marker.write(json.dumps({"host_id": self.host_id}).encode())
        elif not leased and self.marked:
            self._marker.remove()
        self.marked = leased

    # VMs

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

    @property
    def fenced(self) -> frozenset[str]:
        """VMs that this agent stopped because its guard ended: nobody wished them to be off."""
        return frozenset(self._fenced)

    def fence(self, vm_ids: Iterable[str]) -> None:
        """These are about to be stopped because the guard ended."""
        if not self._fenced.issuperset(vm_ids := set(vm_ids)):
            self._fenced |= vm_ids
            self._write()

    def unfence(self, vm_id: str) -> None:
        """It runs again, or is no VM of this host any more."""
        if vm_id in self._fenced:
            self._fenced.discard(vm_id)
            self._write()

    # The record

    def _is_marked(self) -> bool:
        try:
            return self._marker.read() is not None
        except OSError as error:
            # Whether VMs may be kept is not known; that they may not is the safe answer.
            _log.warning("marker_unreadable", path=self._marker.name, error=type(error).__name__)
            return True

    def _read(self) -> bool:
        """Whether there is a record of this boot."""
        try:
            content = self._file.read()
            if content is None:
                return False
            found = json.loads(content)
            if found["version"] != _VERSION or found["boot_id"] != self.boot_id or found["host_id"] != self.host_id:
                _log.info("state_is_of_another_boot", path=self._file.name)
                return False
            self._take(found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            # As good as none: the host registers anew, and is told everything again.
            _log.warning("state_unreadable", path=self._file.name, error=type(error).__name__)
            return False
        return True

    def _take(self, found: dict[str, Any]) -> None:
        kept, config = kept_record.from_json(found["lease"], found["terms"]), base64.b64decode(found["config"], validate=True)
        epochs, tombstones = _counters(found["epochs"]), _counters(found["tombstones"])
        starting, fenced = {str(vm_id) for vm_id in found["starting"]}, {str(vm_id) for vm_id in found["fenced"]}
        cluster_id, store_generation = str(found["cluster_id"]), int(found["store_generation"])
        lapsed_until = float(found["lapsed_until"])
        # Nothing is taken of a record that is broken further down.
        self.kept, self.config, self.cluster_id, self.store_generation = kept, config, cluster_id, store_generation
        self.lapsed_until = lapsed_until
        self._epochs, self._tombstones, self._starting, self._fenced = epochs, tombstones, starting, fenced

    def _write(self) -> None:
        self._rest = self._slow_parts()
        self._write_lease()

    def _write_lease(self) -> None:
        # With each ack: what is large and has not changed is not spelled anew.
        self._file.write(f'{{"lease": {kept_record.to_json(self.kept)}, {self._rest[1:]}'.encode())

    def _slow_parts(self) -> str:
        content = {
            "version": _VERSION,
            "boot_id": self.boot_id,
            "host_id": self.host_id,
            "cluster_id": self.cluster_id,
            "terms": kept_record.terms_to_json(self.kept.config),
            "config": base64.b64encode(self.config).decode(),
            "store_generation": self.store_generation,
            "lapsed_until": self.lapsed_until,
            "epochs": self._epochs,
            "tombstones": self._tombstones,
            "starting": sorted(self._starting),
            "fenced": sorted(self._fenced),
        }
        return json.dumps(content)


def _counters(found: dict[str, Any]) -> dict[str, int]:
    return {str(vm_id): int(epoch) for vm_id, epoch in found.items()}
