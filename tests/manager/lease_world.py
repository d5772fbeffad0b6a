"""The detector's world with leases: hosts echo their acks, and say in each heartbeat that they stop their VMs by themselves."""

from __future__ import annotations

from tests.manager.detector_world import World, names
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.committee import evacuation_quorum
from vmha.manager.contact import LeaseProof, VoterSet
from vmha.model import EvacuationState, HostState, Timers


class LeaseWorld(World):
    """Attributes:
    rates: Host -> how many seconds its clock counts in one of ours; 1 where nothing is set.
    unfenced: Hosts whose agent does not say that it stops its VMs.
    versions: What each configuration's voters are.
    """

    def __init__(self, count: int = 6, *, timers: Timers, fenced: bool = False, max_down_fraction: float = 1 / 3) -> None:
        self.rates: dict[str, float] = {}
        self.unfenced: set[str] = set()
        self.clocks: dict[str, tuple[float, float]] = {}
        self.versions: dict[int, tuple[str, ...]] = {}
        self.numbers = 0
        self.acked: dict[str, int] = {}
        super().__init__(count, timers=timers, start=False, max_down_fraction=max_down_fraction)
        for host in self.hosts:
            self.tell(ev.HostConfigured(host_id=host, boot_id=self.boots[host], has_fence=fenced))
        self.configure({1: tuple(self.hosts)})
        self.draw()

    def configure(
        self,
        versions: dict[int, tuple[str, ...]],
        *,
        off: frozenset[int] = frozenset(),
        held: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """The configurations by number; `held` are those that a host may hold, from .. to; all others hold the newest."""
        self.versions = versions
        newest = max(versions)
        rules = {
            version: VoterSet(
                voters=frozenset(voters),
                evacuation_quorum=evacuation_quorum(len(voters)),
                contact_ttl_s=self.timers.contact_ttl_s,
                wait_s=self.timers.wait_duration_s,
            )
            for version, voters in versions.items()
        }
        all_held = dict.fromkeys(self.hosts, (newest, newest)) | (held or {})
        self.tell(ev.ConfigsKnown(voters=rules, enforced=frozenset(versions) - off, held=all_held))

    def clock(self, host: str) -> float:
        """A host's CLOCK_BOOTTIME."""
        since, count = self.clocks.get(host, (self.now, 5000.0))
        count += (self.now - since) * self.rates.get(host, 1.0)
        self.clocks[host] = (self.now, count)
        return count

    def _beat(self) -> None:
        contact = self.core._cluster.contact
        for host in self.hosts:
            relayed = host in self.relayed and host not in self.beating
            if host not in self.beating and not relayed:
                continue
            contact.heard(host, self.now)
            if host in self.acked:
                contact.echoed(host, 1, self.acked[host], self.now)
            beat = ev.HeartbeatReceived(
                host_id=host,
                boot_id=self.boots[host],
                relayed=relayed,
                self_fencing=host not in self.unfenced,
                boot_time_s=self.clock(host),
            )
            self.tell(beat)
            self.numbers += 1
            self.acked[host] = self.numbers
            contact.issued(host, 1, self.numbers, self.now)
        for host in self.hosts:
            if host in self.watching:
                self.report(host)
        self._next_beat = self.now + self.timers.heartbeat_interval_s

    def proofs(self, host: str) -> list[tuple[float, LeaseProof]]:
        """When the evacuator was told that a host's lease has run out."""
        return [
            (at, effect.lease_proof)
            for at, effect in self.log
            if isinstance(effect, fx.OrderEvacuation) and effect.host_id == host and effect.lease_proof is not None
        ]

    def confirm(self, host: str) -> float:
        """A host dies and is confirmed down, without a fence that could prove it; when it was heard last."""
        last = self._next_beat - self.timers.heartbeat_interval_s
        self.kill(host)
        self.run_until(host, HostState.DOWN, 1000.0)
        self.advance(host, EvacuationState.VERIFYING)
        self.advance(host, EvacuationState.FENCE_PENDING)
        return last

    def held_by(self, host: str) -> str:
        """What stands against a lease proof."""
        return self.core.explain(host, self.now).held.partition(":")[0]


__all__ = ["LeaseWorld", "names"]
