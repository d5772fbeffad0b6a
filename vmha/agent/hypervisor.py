"""The local libvirt as the rest of the agent sees it. `libvirt_port` is the real one, tests/support/hypervisor.py the double."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from vmha.errors import PreconditionFailed
from vmha.facts import HostFacts
from vmha.model import VmState

INCOMING: Final = "migration"
"""libvirt's reason of a domain that is paused because it is coming in, or going, by a live migration."""
ENDED: Final = frozenset({VmState.SHUTOFF, VmState.CRASHED, VmState.ABSENT})
"""Nothing of a domain executes, or can."""


class HypervisorRefused(PreconditionFailed):
    """libvirt answered, and will not do it; the message is libvirt's."""

    def __init__(self, message: str) -> None:
        super().__init__("LIBVIRT_REFUSED", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One domain, read at one moment.

    Attributes:
        state: RUNNING, PAUSED, AWAITING_ADMISSION (paused, and its vCPUs have never run), SHUTOFF or CRASHED.
        reason: libvirt's reason for the state, as `virsh domstate --reason` says it.
        definition_xml: To define it elsewhere: inactive where persistent, else live.
        live_xml: What it is now.
        autostart: libvirt's flag.
        volumes: Paths of the disks that are volumes of libvirt's pools, by target, as far as libvirt knows them.
    """

    vm_id: str
    name: str
    state: VmState
    reason: str
    definition_xml: str
    live_xml: str
    persistent: bool
    autostart: bool
    volumes: Mapping[str, str] = field(default_factory=dict)


class DomainChange(StrEnum):
    """What a lifecycle event says beyond "look again"; needed to know why a domain is not there any more."""

    CHANGED = "changed"
    UNDEFINED = "undefined"
    SHUTDOWN = "shutdown"
    DESTROYED = "destroyed"
    CRASHED = "crashed"
    MIGRATED = "migrated"
    SAVED = "saved"
    FAILED = "failed"


class Watcher(Protocol):
    """Told what happens, on the event loop's thread. Must not block."""

    def connected(self) -> None:
        """libvirt answers (again): everything may have changed meanwhile."""
        ...

    def disconnected(self) -> None:
        """libvirt is away; nothing is known of its domains."""
        ...

    def domain_changed(self, vm_id: str, change: DomainChange) -> None:
        """A domain's life went on."""
        ...


class LocalHypervisor(Protocol):
    """This host's libvirt. Every method has a bound of its own, and raises Unavailable(LIBVIRT_UNAVAILABLE) when libvirt is away
    or does not answer within it; then nobody knows whether an act was done. All acts are safe to repeat."""

    @property
    def is_up(self) -> bool:
        """Whether libvirt answered last."""
        ...

    async def run(self, watcher: Watcher) -> None:
        """Keep the connection, for ever; reconnects with backoff."""
        ...

    async def facts(self) -> HostFacts:
        """Capacity, versions, pools, machine types, CPU models, huge pages; nothing of storage."""
        ...

    async def domains(self) -> list[Domain]:
        """Every domain, active or not."""
        ...

    async def domain(self, vm_id: str) -> Domain | None:
        """One domain; None when there is none."""
        ...

    async def define(self, vm_id: str, domain_xml: str) -> None:
        """Define it. Raises HypervisorRefused, also when the XML is of another UUID."""
        ...

    async def start(self, vm_id: str) -> None:
        """Start it; running already is success. Raises NotFound(DOMAIN_UNKNOWN), HypervisorRefused."""
        ...

    async def resume(self, vm_id: str) -> VmState:
        """Let it execute; running already is success. Returns its state. Raises NotFound(DOMAIN_UNKNOWN), HypervisorRefused."""
        ...

    async def remove(self, vm_id: str) -> None:
        """Destroy it, and undefine it with managed save and metadata of snapshots; no such domain is success.

        Raises HypervisorRefused when it is still there afterwards.
        """
        ...

    async def destroy(self, vm_id: str) -> None:
        """Stop it at once, and leave its definition; not running, or no such domain, is success.

        Raises HypervisorRefused when libvirt could not stop it.
        """
        ...

    async def kill(self, vm_id: str) -> None:
        """End its process without asking libvirt, which may hang; no process is success. Never raises: ask `alive`."""
        ...

    async def alive(self) -> frozenset[str]:
        """VMs that execute here, are paused here, or may still begin to: a start or resume of theirs has not come back.

        The kernel's list of processes counts, and libvirt's list where it answers. Raises Unavailable when nobody can say.
        """
        ...

    async def take_autostart(self, vm_id: str) -> None:
        """Mark in its persistent XML that autostart was on, then switch it off. Raises NotFound, HypervisorRefused."""
        ...

    async def return_autostart(self, vm_id: str) -> None:
        """Switch autostart on, then remove the mark. Raises NotFound, HypervisorRefused."""
        ...
