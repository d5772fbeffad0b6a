"""libvirt's autostart of protected VMs: off while the cluster is protected, or a returned host would start what runs elsewhere.

What it was is written into the VM's own XML (docs/metadata.md), so it outlives reboots and travels with the VM; it comes back
when protection ends.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from vmha.agent.guests import Guest, Guests
from vmha.agent.hypervisor import LocalHypervisor
from vmha.errors import VmhaError

RETRY_S: Final = 5.0
_log = structlog.get_logger("vmha.agent")


class Autostart:
    """Takes autostart over, and puts it back. Does nothing before a manager has said whether the cluster is protected."""

    def __init__(self, guests: Guests, hypervisor: LocalHypervisor) -> None:
        self._guests = guests
        self._hypervisor = hypervisor
        self._protected: bool | None = None
        self._wake = asyncio.Event()
        guests.listeners.append(lambda _: self._wake.set())

    def protect(self, enabled: bool) -> None:
        """The cluster's protection is on, or off."""
        if enabled is not self._protected:
            self._protected = enabled
            self._wake.set()

    async def run(self) -> None:
        """Keep it so until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for guest in list((self._guests.table or {}).values()):
                if self._protected is None or not guest.persistent or guest.facts is None:
                    continue
                ours = self._protected and guest.facts.ha_enabled
                if ours and guest.autostart:
                    await self._change(guest, take=True)
                elif not ours and guest.autostart_taken:
                    await self._change(guest, take=False)

    async def _change(self, guest: Guest, *, take: bool) -> None:
        act = self._hypervisor.take_autostart if take else self._hypervisor.return_autostart
        try:
            await act(guest.vm_id)
        except VmhaError as error:
            _log.warning("autostart_failed", vm_id=guest.vm_id, take=take, reason=error.reason, error=error.message)
            asyncio.get_running_loop().call_later(RETRY_S, self._guests.look_again, guest.vm_id)
            return
        _log.info("autostart_taken" if take else "autostart_returned", vm_id=guest.vm_id, vm_name=guest.name)
        self._guests.look_again(guest.vm_id)
