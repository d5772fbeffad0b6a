"""How the process that feeds the watchdog shows the agent that it does (R10): a record beside the agent's own.

What an agent announces the manager counts on: that the host is reset where nobody is left to stop its VMs (decision 011). So the
agent announces no setting, but what it sees.
"""

from __future__ import annotations

import json
from typing import Final

from vmha.agent.state_file import StateFile
from vmha.agent.watchdog import Device

LIFE_NAME: Final = "watchdog.json"


class WatchdogLife:
    """The record: written by `vmha agent-watchdog`, read by the agent of the same boot. Both go by CLOCK_BOOTTIME."""

    def __init__(self, file: StateFile, boot_id: str) -> None:
        self._file = file
        self._boot_id = boot_id

    def prove(self, device: Device, now: float) -> None:
        """A device with these figures runs, and was looked after now. Raises Unavailable(STATE_UNAVAILABLE)."""
        proof = {"boot_id": self._boot_id, "at": now, "timeout_s": device.timeout_s, "reset_s": device.reset_s}
        self._file.write(json.dumps(proof).encode())

    def withdraw(self) -> None:
        """The device is about to be disarmed. Raises Unavailable(STATE_UNAVAILABLE)."""
        self._file.remove()

    def armed(self, now: float) -> Device | None:
        """The device that runs; None where nobody shows that one does.

        A proof lasts for the device's timeout: when nobody feeds it any more the host is reset by then, and one that lives on has
        no watchdog.
        """
        try:
            found = json.loads(self._file.read() or b"{}")
            device = Device(timeout_s=float(found["timeout_s"]), reset_s=float(found["reset_s"]))
            ours, age_s = found["boot_id"] == self._boot_id, now - float(found["at"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return device if ours and 0 <= age_s < device.timeout_s else None
