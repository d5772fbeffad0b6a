"""VMs: who owns each, under which epoch, and what its host says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from redis.asyncio import Redis

from vmha.model import VmState
from vmha.store import codec, keys
from vmha.store.records import Leftover, ObserveResult, VmObservation, VmRecord
from vmha.store.scripts import Scripts, pairs, refusal, store_errors

_FINDINGS = ("adopted", "updated", "moved", "deleted", "foreign", "absent")
CHUNK = 250
"""VMs in one script call or pipeline: keeps Redis free for others after a few milliseconds."""


class Vms:
    """What the store keeps of VMs. All methods may raise Unavailable("STORE_UNAVAILABLE")."""

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def get(self, cluster_id: str, vm_id: str) -> VmRecord:
        """One VM.

        Raises:
            NotFound: VM_UNKNOWN.
        """
        row = codec.text_map(await self._scripts.command("HGETALL", keys.VM(cluster_id, vm_id)))
        if not row:
            raise refusal("VM_UNKNOWN", {"vm_id": vm_id, "cluster_id": cluster_id})
        return codec.vm(vm_id, row)

    async def list(self, cluster_id: str, host_id: str = "") -> list[VmRecord]:
        """The VMs of a cluster, or those that a host owns, by vm_id. Each record is of one moment, the list is not."""
        index = keys.HOST_VMS(cluster_id, host_id) if host_id else keys.VMS(cluster_id)
        records = []
        with store_errors():
            ids = sorted(codec.text(vm_id) for vm_id in await self._scripts.command("SMEMBERS", index))
            for start in range(0, len(ids), CHUNK):
                part = ids[start : start + CHUNK]
                async with self._client.pipeline(transaction=False) as pipe:
                    for vm_id in part:
                        pipe.hgetall(keys.VM(cluster_id, vm_id))
                    rows = await pipe.execute()
                records += [codec.vm(vm_id, codec.text_map(row)) for vm_id, row in zip(part, rows, strict=True) if row]
        return [record for record in records if not host_id or record.owner_host_id == host_id]

    async def observe(
        self,
        cluster_id: str,
        host_id: str,
        incarnation: int,
        observations: Sequence[VmObservation],
        *,
        full: bool,
        planned_shutdown: bool,
        orphans: bool = False,
    ) -> ObserveResult:
        """Takes in what a host says of its VMs: adopts new ones, updates its own, moves what was migrated to it.

        Only the owner's word counts for a VM, and only under its registration in force. A VM moves to a host that reports it
        running when its owner reported it gone, or when that host holds a newer epoch than the store: docs/redis-keys.md.

        Args:
            incarnation: The registration that the report was made under.
            full: The report names all VMs of the host.
            planned_shutdown: The host announced its shutdown: what stops now should run again.
            orphans: Domains that an evacuation created, and whose claim the store has lost, may become the host's: every member
                has said what it runs. Never while safe mode is on.

        Raises:
            NotFound: HOST_UNKNOWN.
            Aborted: STALE_INCARNATION when incarnation is not in force.
        """
        parts = [observations[start : start + CHUNK] for start in range(0, len(observations), CHUNK)] or [()]
        seen = {observation.vm_id for observation in observations}
        totals: dict[str, list[Any]] = {name: [] for name in _FINDINGS}
        for number, part in enumerate(parts, 1):
            last = full and number == len(parts)
            flat = [argument for observation in part for argument in _arguments(observation)]
            flags = [codec.flag(flag) for flag in (last, planned_shutdown, orphans)]
            reply = await self._scripts.run("vm_observe", cluster_id, host_id, incarnation, *flags, *flat)
            for name, items in zip(totals, reply, strict=True):
                totals[name] += items
        if full:
            await self.told_whole(cluster_id, host_id, incarnation, seen)
        return _result(totals, seen)

    async def sighted(self, cluster_id: str, host_id: str, incarnation: int, states: Mapping[str, VmState]) -> None:
        """Takes in which VMs a host executes that cannot report its inventory; marks those of other owners (R22).

        Raises:
            Aborted: STALE_INCARNATION when incarnation is not in force.
        """
        items = sorted(states.items())
        for start in range(0, len(items), CHUNK):
            flat = [part for vm_id, state in items[start : start + CHUNK] for part in (vm_id, state.value)]
            await self._scripts.run("vm_sighted", cluster_id, host_id, incarnation, *flat)

    async def told_whole(
        self, cluster_id: str, host_id: str, incarnation: int, seen: Set[str] | None, left: Sequence[Leftover] = ()
    ) -> int:
        """Takes in that a host's whole inventory named these VMs only: of no other one anything is there (R22).

        Args:
            seen: What it named; None where it named nothing, and that is not to be believed: no mark is taken back.
            left: What is off there. What came in after the host's last whole inventory has ended there: by its guard, or with
                the boot in which that inventory was sent.

        Returns:
            How many of those had left their owner, and are to be started by it.

        Raises:
            Aborted: STALE_INCARNATION when incarnation is not in force.
        """
        flat = [part for one in left for part in (one.vm_id, codec.flag(one.fenced), codec.flag(one.owner_silent))]
        named, believed = sorted(seen or ()), codec.flag(seen is not None)
        [ended] = await self._scripts.run("vm_whole", cluster_id, host_id, incarnation, believed, len(left), *flat, *named)
        return int(ended)

    async def withheld(self, cluster_id: str) -> tuple[int, tuple[VmRecord, ...]]:
        """How many VMs their hosts were not told to start when they registered, and which nobody else can have any more (R22)."""
        left, free = await self._scripts.run("vm_withheld", cluster_id)
        return int(left), _records(free)

    async def move(self, cluster_id: str, vm_id: str, from_host: str, to_host: str, to_incarnation: int, epoch: int) -> VmRecord:
        """Gives a VM to another host that has taken it over by live migration. A repeat changes nothing.

        Raises:
            NotFound: VM_UNKNOWN, HOST_UNKNOWN.
            Aborted: STALE_VM_EPOCH when the owner or epoch is another, STALE_INCARNATION when the new owner's is not in force.
        """
        [row] = await self._scripts.run("vm_move", cluster_id, vm_id, from_host, to_host, to_incarnation, epoch)
        return codec.vm(vm_id, pairs(row))

    async def set_reason(self, cluster_id: str, vm_id: str, reason: str) -> None:
        """Records why a VM does not run though it should; empty when it does.

        Raises:
            NotFound: VM_UNKNOWN.
        """
        await self._scripts.run("vm_set_reason", cluster_id, vm_id, reason)

    async def delete(self, cluster_id: str, vm_id: str, epoch: int) -> None:
        """Forgets a VM; one that is unknown is no error.

        Raises:
            Aborted: STALE_VM_EPOCH.
        """
        await self._scripts.run("vm_delete", cluster_id, vm_id, epoch)


def _arguments(observation: VmObservation) -> tuple[str | int, ...]:
    return (
        observation.vm_id,
        observation.name,
        observation.state.value,
        observation.state_reason,
        observation.domain_xml,
        codec.vm_facts_text(observation.facts),
        observation.epoch,
        codec.flag(observation.autostart),
        observation.claim_epoch,
    )


def _result(totals: dict[str, list[Any]], seen: set[str]) -> ObserveResult:
    deleted = tuple(codec.text(vm_id) for vm_id in totals.pop("deleted"))
    records = {name: _records(rows) for name, rows in totals.items()}
    absent = (record for record in records["absent"] if record.vm_id not in seen)
    records["absent"] = tuple(sorted(absent, key=lambda record: record.vm_id))
    return ObserveResult(deleted=deleted, **records)


def _records(rows: list[Any]) -> tuple[VmRecord, ...]:
    return tuple(codec.vm(codec.text(vm_id), pairs(row)) for vm_id, row in rows)
