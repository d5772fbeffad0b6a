"""What the end-to-end tests ask of a running cluster, in the words of the requirements."""

from __future__ import annotations

import time
from collections.abc import Mapping

from lab import Lab
from lab.stack import Stack

RECOVERY_S = 90.0
"""A bound for what hangs, not for what is slow: a machine that stalls for a second begins the proof by the lease anew (R21)."""


class Cluster:
    """A settled cluster with its guests: name -> the host where it was put."""

    def __init__(self, stack: Stack, lab: Lab, guests: Mapping[str, str]) -> None:
        self.stack = stack
        self.lab = lab
        self.guests = dict(guests)

    def settle(self, wishes: Mapping[str, Mapping[str, object]] | None = None) -> None:
        """Start the guests, with what each wants beside the defaults, and wait until the manager knows everything."""
        self.stack.create_guests(self.guests, wishes)
        self.stack.wait_settled(len(self.guests))

    def guests_of(self, host_id: str) -> list[str]:
        """Guests that were put on a host."""
        return [name for name, host in self.guests.items() if host == host_id]

    def kill(self, host_id: str) -> float:
        """Cut a host's power; returns the moment."""
        at = time.monotonic()
        self.lab.host(host_id).kill()
        return at

    def wait_beats_after(self, names: list[str], since: float, timeout_s: float = RECOVERY_S) -> None:
        """Wait until each of the guests has beaten since a moment."""
        beats = self.lab.beats
        self.stack.wait(lambda: all(beats.after(name, since) for name in names), timeout_s, f"{names} beat again")

    def owners(self) -> dict[str, str]:
        """VM -> owner, as the store has it."""
        return {name: vm.owner_host_id for name, vm in self.stack.vms().items()}

    def domains(self, host_id: str) -> set[str]:
        """Names of all domains that libvirt on a host knows, running or not."""
        return set(self.lab.host(host_id).virsh("list", "--all", "--name").split())

    def running(self, host_id: str) -> set[str]:
        """Names of the domains that run on a host, as its libvirt says."""
        return set(self.lab.host(host_id).virsh("list", "--name").split())

    def wait_still_beating(self, names: list[str], since: float, timeout_s: float = 5.0) -> None:
        """Wait until each of the guests has beaten since a moment, in whatever boot."""
        beats = self.lab.beats
        self.stack.wait(
            lambda: all(any(beat.at > since for beat in beats.of(name)[-2:]) for name in names), timeout_s, f"{names} still beat"
        )

    def hold(self, seconds: float) -> None:
        """Let time pass in which nothing may happen; every guest must beat to its end, in the boot that it was in."""
        beats = self.lab.beats
        boots = {name: beats.of(name)[-1].gen for name in self.guests}
        until = time.monotonic() + seconds
        self.stack.wait(lambda: time.monotonic() > until, seconds + 5, f"{seconds} s have passed")
        self.wait_still_beating(list(self.guests), until)
        assert {name: beats.of(name)[-1].gen for name in self.guests} == boots

    def assert_nothing_was_evacuated(self, since: float = 0.0) -> None:
        """No host was confirmed down, no fence was used, no guest has another owner."""
        for host_id in self.stack.host_ids:
            states = self.stack.events.states_of(host_id, since)
            assert not set(states) & {"DOWN", "FENCING", "FENCED", "EVACUATING", "EVACUATED"}, (host_id, states)
        assert self.owners() == self.guests
        assert "POST" not in (self.lab.fence.directory / "bmc.out").read_text(), "a fence device was given an order"
