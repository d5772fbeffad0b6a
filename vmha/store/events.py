"""The event log of a cluster: a stream whose ids are revisions."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from vmha.errors import OutOfRange
from vmha.model import HostState, VmOutcome
from vmha.store import codec, keys
from vmha.store.records import EvacuationRecord, EventRecord, VmEntry
from vmha.store.scripts import Scripts, store_errors

POLL_S = 0.1
"""How often `wait` looks. Polling holds no connection of the pool, and survives a Redis that restarts."""


class Events:
    """What the store keeps of events. All methods may raise Unavailable("STORE_UNAVAILABLE").

    Revisions of a cluster count up by one with no gap. The first one is the time (Unix ms): a store that was lost starts above
    all that it handed out before, so a watcher notices.
    """

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def append(
        self, cluster_id: str, kind: str, detail: Mapping[str, object], *, incident_id: str = "", actor: str = ""
    ) -> int:
        """Appends an event; returns its revision.

        Args:
            kind: The contract's oneof case.
            detail: Its fields by their proto names, JSON-able.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        [revision] = await self._scripts.run(
            "event_append", cluster_id, uuid.uuid4().hex, kind, incident_id, actor, json.dumps(detail, separators=(",", ":"))
        )
        return int(revision)

    async def tell_host_state(
        self, cluster_id: str, host_id: str, new_state: HostState, detail: Mapping[str, object], *, incident_id: str
    ) -> None:
        """Appends a host's change of state in an incident; from the proof of its death on, nothing of what led up to it.

        FENCED is told once: the evacuator does it with its proof, so that it stands before every start elsewhere.
        """
        text = json.dumps(detail, separators=(",", ":"))
        await self._scripts.run("host_tell", cluster_id, uuid.uuid4().hex, host_id, incident_id, "manager", new_state.value, text)

    async def read(self, cluster_id: str, after_revision: int, *, limit: int = 500) -> list[EventRecord]:
        """Events after a revision, the oldest first; 0 means all that are kept.

        Raises:
            OutOfRange: REVISION_COMPACTED (metadata oldest_revision) when events after it are no longer kept, or were lost.
        """
        key = keys.EVENTS(cluster_id)
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.xrange(key, "-", "+", 1)
                pipe.xrevrange(key, "+", "-", 1)
                pipe.xrange(key, f"({after_revision}-0" if after_revision else "-", "+", limit)
                first, last, found = await pipe.execute()
        oldest, newest = _edge(first), _edge(last)
        if after_revision and not oldest - 1 <= after_revision <= newest:
            raise OutOfRange(
                "REVISION_COMPACTED",
                f"Events after revision {after_revision} are not kept; the kept ones are {oldest} to {newest}.",
                {"oldest_revision": str(oldest)},
            )
        return [_event(cluster_id, codec.text(stream_id), codec.text_map(row)) for stream_id, row in found]

    async def last_revision(self, cluster_id: str) -> int:
        """The revision of the newest event; 0 when there is none."""
        return _edge(await self._scripts.command("XREVRANGE", keys.EVENTS(cluster_id), "+", "-", "COUNT", 1))

    async def wait(self, cluster_id: str, after_revision: int, timeout_s: float) -> bool:
        """Waits until there are events after a revision, at most timeout_s; whether there are."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self.last_revision(cluster_id) <= after_revision:  # noqa: ASYNC110 - other processes write too
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True


def _edge(entries: Any) -> int:
    return int(codec.text(entries[0][0]).partition("-")[0]) if entries else 0


def _event(cluster_id: str, stream_id: str, row: Mapping[str, str]) -> EventRecord:
    return EventRecord(
        revision=int(stream_id.partition("-")[0]),
        time_s=float(row["t"]),
        kind=row["k"],
        detail=_detail(cluster_id, row),
        incident_id=row["i"],
        actor=row["a"],
    )


def _detail(cluster_id: str, row: Mapping[str, str]) -> Mapping[str, object]:
    if row["k"] == "evacuation_state_change":
        return {"evacuation": _evacuation(codec.evacuation(cluster_id, row["e"], codec.flat_map(row["h"])))}
    if row["k"] == "vm_evacuation_change":
        return {"evacuation_id": row["e"], "source_host_id": row["s"], "vm": _vm(codec.entry(row["v"]))}
    detail: dict[str, object] = json.loads(row["d"])
    return detail


def _evacuation(record: EvacuationRecord) -> dict[str, object]:
    counts = record.counts
    times = {"start_time": record.start_time_s, "proof_time": record.proof_time_s, "end_time": record.end_time_s}
    return {
        "evacuation_id": record.evacuation_id,
        "cluster_id": record.cluster_id,
        "host_id": record.host_id,
        "kind": f"EVACUATION_KIND_{record.kind.value}",
        "state": f"EVACUATION_STATE_{record.state.value}",
        "reason": record.reason,
        "message": record.message,
        "fence_epoch": str(record.fence_epoch),
        "proof": f"PROOF_KIND_{record.proof.value}",
        "total_count": sum(counts.values()),
        "moved_count": counts.get(VmOutcome.MOVED, 0) + counts.get(VmOutcome.REBUILT, 0),
        "skipped_count": counts.get(VmOutcome.SKIPPED, 0),
        "failed_count": counts.get(VmOutcome.FAILED, 0),
        "pending_count": counts.get(VmOutcome.PENDING, 0),
        "restarted_count": counts.get(VmOutcome.RESTARTED, 0),
    } | {name: datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z") for name, time in times.items() if time}


def _vm(entry: VmEntry) -> dict[str, object]:
    return {
        "vm_id": entry.vm_id,
        "vm_name": entry.vm_name,
        "target_host_id": entry.target_host_id,
        "step": f"VM_STEP_{entry.step.value}",
        "outcome": f"VM_OUTCOME_{entry.outcome.value}",
        "reason": entry.reason,
        "message": entry.message,
        "epoch": str(entry.epoch),
        "image": entry.image,
    }
