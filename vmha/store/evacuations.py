"""Evacuations and drains: the journal that lets any evacuator go on where another was killed, and the claim of a VM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from redis.asyncio import Redis

from vmha.model import EvacuationState, ProofKind, VmStep
from vmha.store import codec, keys
from vmha.store.records import EvacuationRecord, HistoryRecord, VmEntry
from vmha.store.scripts import Scripts, pairs, store_errors

PLAN_CHUNK = 500
"""Entries in one script call."""

Evacuated = list[EvacuationRecord]
Steps = list[HistoryRecord]


class Evacuations:
    """What the store keeps of evacuations.

    All methods may raise Unavailable("STORE_UNAVAILABLE"), and NotFound("EVACUATION_UNKNOWN"). Those that take a `runner` raise
    Aborted("RUNNER_SUPERSEDED") unless it holds the evacuation (`acquire`): a runner that was paused for long can write nothing.
    """

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def start(
        self,
        cluster_id: str,
        evacuation_id: str,
        host_id: str,
        fence_epoch: int,
        incarnation: int,
        leader_term: int = 0,
        lease_proof: str = "",
    ) -> EvacuationRecord:
        """Starts an evacuation in VERIFYING, or joins the one of that id.

        Args:
            incarnation: The registration that died; VMs that the host owns under a newer one are never claimed.
            lease_proof: Why its lease has run out; kept from the first order that brings it.

        Raises:
            InvalidField: REQUEST_ID_REUSED when the id belongs to another failure.
            NotFound: HOST_UNKNOWN.
            PreconditionFailed: HOST_NOT_DOWN when the host's incarnation is not revoked.
            Aborted: STALE_FENCE_EPOCH when fence_epoch is not the host's; STALE_INCARNATION when incarnation is newer than the
                host's; HOST_BUSY when another evacuation of the host has not ended; STALE_LEADER_TERM when a newer leader was
                seen.
        """
        [row] = await self._scripts.under(leader_term).run(
            "evacuation_start", cluster_id, evacuation_id, host_id, fence_epoch, incarnation, leader_term, lease_proof
        )
        return codec.evacuation(cluster_id, evacuation_id, pairs(row))

    async def get(self, cluster_id: str, evacuation_id: str) -> EvacuationRecord:
        """One evacuation."""
        return await self._run("evacuation_get", cluster_id, evacuation_id)

    async def entries(self, cluster_id: str, evacuation_id: str) -> list[VmEntry]:
        """The journal of its VMs, by name and id. Empty before the plan."""
        rows = codec.text_map(await self._scripts.command("HGETALL", keys.ENTRIES(cluster_id, evacuation_id)))
        return sorted((codec.entry(stored) for stored in rows.values()), key=lambda entry: (entry.vm_name, entry.vm_id))

    async def list(self, cluster_id: str, host_id: str = "", *, offset: int = 0, limit: int = 50) -> Evacuated:
        """Evacuations and drains of a cluster, or of one host, the newest first."""
        ids = await self._scripts.command("ZREVRANGE", keys.EVACUATIONS(cluster_id), 0, -1)
        if not host_id:
            ids = ids[offset : offset + limit]
        records = await self._heads(cluster_id, [codec.text(i) for i in ids])
        if host_id:
            records = [record for record in records if record.host_id == host_id][offset : offset + limit]
        return records

    async def unfinished(self, cluster_id: str) -> Evacuated:
        """All evacuations and drains that have not ended, the oldest first."""
        ids = [
            codec.text(evacuation_id)
            for key in (keys.EVACUATING, keys.DRAINING)
            for evacuation_id in await self._scripts.command("HVALS", key(cluster_id))
        ]
        records = await self._heads(cluster_id, ids)
        return sorted((r for r in records if not r.state.is_terminal), key=lambda r: (r.start_time_s, r.evacuation_id))

    async def _heads(self, cluster_id: str, ids: Sequence[str]) -> Evacuated:
        if not ids:
            return []
        with store_errors():
            async with self._client.pipeline(transaction=False) as pipe:
                for evacuation_id in ids:
                    pipe.hgetall(keys.EVACUATION(cluster_id, evacuation_id))
                rows = [codec.text_map(row) for row in await pipe.execute()]
        return [codec.evacuation(cluster_id, i, row) for i, row in zip(ids, rows, strict=True) if "state" in row]

    async def request_cancel(self, cluster_id: str, evacuation_id: str, reason: str) -> EvacuationRecord:
        """Asks its runner to end it; nothing happens to one that has ended. `reason` goes to the history's message."""
        return await self._run("evacuation_cancel", cluster_id, evacuation_id, reason)

    async def acquire(self, cluster_id: str, evacuation_id: str, runner: str, ttl_s: float) -> bool:
        """Takes the evacuation for this runner, for ttl_s, when no other holds it."""
        return await self._lock("acquire", cluster_id, evacuation_id, runner, ttl_s)

    async def renew(self, cluster_id: str, evacuation_id: str, runner: str, ttl_s: float) -> bool:
        """Holds it for ttl_s from now; False when it is no longer this runner's."""
        return await self._lock("renew", cluster_id, evacuation_id, runner, ttl_s)

    async def release(self, cluster_id: str, evacuation_id: str, runner: str) -> None:
        """Lets it go, when it is this runner's."""
        await self._lock("release", cluster_id, evacuation_id, runner, 0)

    async def lock_plans(self, cluster_id: str, runner: str, ttl_s: float) -> bool:
        """Lets this runner alone plan for the cluster, for ttl_s; False when another one does."""
        return await self._plan_lock("acquire", cluster_id, runner, ttl_s)

    async def unlock_plans(self, cluster_id: str, runner: str) -> None:
        """Lets the others plan, when it is this runner's turn."""
        await self._plan_lock("release", cluster_id, runner, 0)

    async def _plan_lock(self, act: str, cluster_id: str, runner: str, ttl_s: float) -> bool:
        [held] = await self._scripts.run("plan_lock", cluster_id, act, runner, max(1, math.ceil(ttl_s * 1000)))
        return int(held) == 1

    async def _lock(self, act: str, cluster_id: str, evacuation_id: str, runner: str, ttl_s: float) -> bool:
        ttl_ms = max(1, math.ceil(ttl_s * 1000))
        [held] = await self._scripts.run("evacuation_lock", cluster_id, act, evacuation_id, runner, ttl_ms)
        return int(held) == 1

    async def advance(
        self,
        cluster_id: str,
        evacuation_id: str,
        runner: str,
        state: EvacuationState,
        *,
        reason: str = "",
        message: str = "",
        proof: ProofKind | None = None,
    ) -> EvacuationRecord:
        """Sets where the evacuation stands: sequence + 1, history and event in the same moment. A repeat changes nothing.

        Args:
            proof: None leaves it; `proof_time_s` is set when it first becomes known.

        Raises:
            Aborted: EVACUATION_ENDED when it has ended in another state.
        """
        return await self._run(
            "evacuation_advance",
            cluster_id,
            evacuation_id,
            runner,
            state.value,
            codec.flag(state.is_terminal),
            reason,
            message,
            proof.value if proof is not None else "",
        )

    async def plan(self, cluster_id: str, evacuation_id: str, runner: str, entries: Sequence[VmEntry]) -> None:
        """Writes the entries of many VMs, as one step of the history. Entries that are the same change nothing.

        Raises:
            Aborted: EVACUATION_ENDED; VM_SETTLED when one of them has a final outcome already.
        """
        for start in range(0, len(entries), PLAN_CHUNK):
            flat = [part for entry in entries[start : start + PLAN_CHUNK] for part in (entry.vm_id, codec.entry_text(entry))]
            await self._run("evacuation_plan", cluster_id, evacuation_id, runner, *flat)

    async def step(
        self, cluster_id: str, evacuation_id: str, runner: str, entry: VmEntry, *, alarm: str | None = None
    ) -> EvacuationRecord:
        """Writes one VM's entry: counters, sequence + 1, history and event in the same moment. A repeat changes nothing.

        Args:
            alarm: Reason of an alarm about this VM, raised in the same moment; its text is the entry's message.

        Raises:
            Aborted: EVACUATION_ENDED; VM_SETTLED when the VM has another final outcome already.
        """
        return await self._run(
            "evacuation_step", cluster_id, evacuation_id, runner, entry.vm_id, codec.entry_text(entry), alarm or ""
        )

    async def claim(
        self, cluster_id: str, evacuation_id: str, runner: str, entry: VmEntry, from_host: str, from_incarnation: int
    ) -> VmEntry:
        """Gives the VM to entry.target_host_id: the one moment in which a dead host loses it. A repeat changes nothing.

        Only while the owner is from_host, under no newer registration than the one that died, with epoch entry.source_epoch;
        only after proof of death; only for a target whose registration is entry.target_incarnation.

        Returns:
            The entry with its new epoch, step CLAIMED; on a repeat, as the journal has it.

        Raises:
            Unavailable: SAFE_MODE.
            Aborted: STALE_VM_EPOCH when the VM has another owner or epoch or is gone; STALE_INCARNATION when the target's
                registration is not in force any more; CONFIG_UNCONFIRMED when it does not hold the newest configuration;
                VM_MIGRATED_AWAY; VM_MIGRATING when another host said that it has the VM; EVACUATION_UNPROVEN; EVACUATION_ENDED;
                VM_SETTLED.
        """
        claimed = replace(entry, step=VmStep.CLAIMED, epoch=entry.source_epoch + 1)
        return await self._claim(cluster_id, evacuation_id, runner, claimed, from_host, from_incarnation, entry.source_epoch)

    async def reclaim(
        self, cluster_id: str, evacuation_id: str, runner: str, entry: VmEntry, to_host: str, to_incarnation: int
    ) -> VmEntry:
        """Gives a VM that entry.target_host_id definitely refused to another target, epoch + 1. A repeat changes nothing.

        Returns:
            The entry with its new target and epoch, step CLAIMED, the old target among its attempts.

        Raises:
            Aborted: As `claim`; VM_RUNS_ON_TARGET when the old target's agent reports the VM executing.
        """
        attempts = entry.attempts if entry.target_host_id in entry.attempts else (*entry.attempts, entry.target_host_id)
        claimed = replace(
            entry,
            step=VmStep.CLAIMED,
            epoch=entry.epoch + 1,
            target_host_id=to_host,
            target_incarnation=to_incarnation,
            attempts=attempts,
        )
        return await self._claim(
            cluster_id, evacuation_id, runner, claimed, entry.target_host_id, entry.target_incarnation, entry.epoch, again=True
        )

    async def _claim(
        self,
        cluster_id: str,
        evacuation_id: str,
        runner: str,
        claimed: VmEntry,
        from_host: str,
        from_incarnation: int,
        from_epoch: int,
        *,
        again: bool = False,
    ) -> VmEntry:
        [stored] = await self._scripts.run(
            "vm_claim",
            cluster_id,
            evacuation_id,
            runner,
            claimed.vm_id,
            codec.entry_text(claimed),
            from_host,
            from_incarnation,
            from_epoch,
            claimed.target_host_id,
            claimed.target_incarnation,
            codec.flag(again),
        )
        return codec.entry(codec.text(stored))

    async def not_there(self, cluster_id: str, evacuation_id: str, runner: str, vm_id: str, host_id: str) -> None:
        """A VM was being migrated to host_id when its own host died, and nothing of it is there: it may be claimed (R22).

        Only after the proof, and for a VM of the dead host; else, and on a repeat, nothing changes.

        Raises:
            Aborted: EVACUATION_UNPROVEN; EVACUATION_ENDED.
        """
        await self._scripts.run("vm_not_there", cluster_id, evacuation_id, runner, vm_id, host_id)

    async def history(self, cluster_id: str, evacuation_id: str, after_sequence: int) -> Steps:
        """Its steps after a sequence, as far as they are kept (about 10,000), oldest first; at most 1,000 at a time."""
        with store_errors():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.hgetall(keys.EVACUATION(cluster_id, evacuation_id))
                pipe.xrange(keys.HISTORY(cluster_id, evacuation_id), f"({after_sequence}-0", "+", 1000)
                head, steps = await pipe.execute()
        row = codec.text_map(head)
        return [
            _history(cluster_id, evacuation_id, row, codec.text(stream_id), codec.text_map(step)) for stream_id, step in steps
        ]

    async def _run(self, name: str, cluster_id: str, evacuation_id: str, *arguments: str | int) -> EvacuationRecord:
        [row] = await self._scripts.run(name, cluster_id, evacuation_id, *arguments)
        return codec.evacuation(cluster_id, evacuation_id, pairs(row))


def _history(
    cluster_id: str, evacuation_id: str, head: Mapping[str, str], stream_id: str, step: Mapping[str, str]
) -> HistoryRecord:
    return HistoryRecord(
        sequence=int(stream_id.partition("-")[0]),
        time_s=float(step["t"]),
        evacuation=codec.evacuation(cluster_id, evacuation_id, dict(head) | codec.flat_map(step["h"])),
        vm=codec.entry(step["v"]) if step["v"] else None,
    )
