"""What the evacuator asks of a target's hypervisor, and how answers are sorted: done, definitely refused, locked, unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from vmha.model import VmState

LOCK_ERROR = re.compile(
    r"Failed to get .*lock\b|Failed to lock byte|Is another process using the image"
    r"|Lockspace resource .* is locked|Failed to acquire lock",
    re.IGNORECASE,
)
"""QEMU's image locks, virtlockd's and sanlock's: somebody else runs this VM (design 5.4).

Not libvirt's own job lock ("cannot acquire state change lock"): it says nothing of the storage.
"""


class HypervisorError(Exception):
    """A start, look or removal did not come to its end."""


class NotReached(HypervisorError):
    """There was no connection to send anything over: nothing was done."""


class Refused(HypervisorError):
    """The hypervisor refused, and it was verified that nothing of the VM is left there."""


class LockHeld(Refused):
    """Refused because the VM's storage is locked: its old host is alive."""


class TargetNotReached(Refused):
    """A migration was refused because its host does not reach the target: nothing was sent there."""


class Busy(HypervisorError):
    """Somebody else's job has the domain, as a live migration that another one began: nothing was done."""


class OutcomeUnknown(HypervisorError):
    """It gave no answer in time, or the connection broke: nobody knows how far it came."""


class RemoteHypervisor(Protocol):
    """One host's hypervisor. All methods are safe to repeat and may raise NotReached or OutcomeUnknown."""

    async def connect(self, timeout_s: float) -> None:
        """Opens the connection, so that the next call does not wait for it."""
        ...

    async def start_paused(self, vm_id: str, domain_xml: str, timeout_s: float) -> VmState:
        """Defines the domain and creates it paused. What is active already stays as it is; its state is the answer.

        Raises Refused or LockHeld with nothing of the VM left behind.
        """
        ...

    async def rebuild_disk(self, vm_id: str, domain_xml: str, image_path: str, timeout_s: float) -> None:
        """Makes the file that the domain boots from anew, as a copy of the image (S24); of an active domain, nothing is touched.

        `image_path` may leave out the ending .qcow2, .raw or .img. Raises Refused when the host has no such image, or no room.
        """
        ...

    async def state(self, vm_id: str, timeout_s: float) -> VmState:
        """What the domain does now; ABSENT when there is none."""
        ...

    async def remove(self, vm_id: str, timeout_s: float) -> None:
        """Destroys and undefines the domain; verified gone when it returns."""
        ...

    async def list(self, timeout_s: float) -> Mapping[str, VmState]:
        """Every domain that is defined or active, by UUID."""
        ...

    async def migrate(self, vm_id: str, target_uri: str, timeout_s: float) -> None:
        """Moves an active domain live, with its definition: it runs at the target then, or is paused there as it was here.

        It goes on when the answer is lost: `is_migrating`, and a look at both hosts, tell what becomes of it.

        Args:
            target_uri: The target's libvirt, as this host reaches it; its host is where the memory goes.

        Raises:
            Refused: It stays here; the target drops what it got by itself. TargetNotReached: it got nothing.
            Busy: Another job has it.
        """
        ...

    async def is_migrating(self, vm_id: str, timeout_s: float) -> bool:
        """Whether a job has the domain that may move it away from here."""
        ...

    async def abort_migration(self, vm_id: str, timeout_s: float) -> None:
        """Ends the migration away from here; the domain runs on. Without one nothing happens."""
        ...

    async def drop_incoming(self, vm_id: str, timeout_s: float) -> None:
        """Ends a domain whose memory is still coming in by a live migration; nothing happens to any other.

        libvirt itself waits for a sender that lost its power for as long as TCP does.
        """
        ...

    async def shut_down(self, vm_id: str, timeout_s: float) -> None:
        """Asks the guest to power off; it may not listen. Nothing happens to one that is not active."""
        ...

    async def stop(self, vm_id: str, timeout_s: float) -> None:
        """Ends the guest and leaves its definition; verified not active when it returns."""
        ...

    def close(self) -> None:
        """Lets the connection go, without waiting."""
        ...


HypervisorFactory = Callable[[str], RemoteHypervisor]
"""Makes the hypervisor of a libvirt URI."""
