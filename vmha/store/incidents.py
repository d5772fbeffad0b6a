"""Suspicions and incidents: the way from "silent" to "confirmed down"."""

from __future__ import annotations

import math
import uuid

from redis.asyncio import Redis

from vmha.store import codec, keys
from vmha.store.records import Incident, SuspectRecord
from vmha.store.scripts import Scripts, pairs


class Incidents:
    """What the store keeps of failures. All methods may raise Unavailable("STORE_UNAVAILABLE"), and NotFound("HOST_UNKNOWN")."""

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def suspect(
        self, cluster_id: str, host_id: str, boot_id: str, cooldown_s: float, ttl_s: float, reason: str, evidence: str
    ) -> SuspectRecord:
        """Records a suspicion that can be confirmed after cooldown_s and is forgotten after ttl_s.

        One of the same boot that is there already stays as it is: its cooldown runs on.
        """
        cooldown_ms, ttl_ms = math.ceil(cooldown_s * 1000), math.ceil(ttl_s * 1000)
        [row] = await self._scripts.run(
            "suspect_put", cluster_id, host_id, boot_id, cooldown_ms, max(ttl_ms, cooldown_ms + 1000), reason, evidence
        )
        return codec.suspect(host_id, pairs(row))

    async def suspects(self, cluster_id: str) -> list[SuspectRecord]:
        """All suspicions of a cluster by host_id."""
        [rows] = await self._scripts.run("suspect_list", cluster_id)
        parsed = sorted((codec.text(host_id), pairs(row)) for host_id, row in rows)
        return [codec.suspect(host_id, row) for host_id, row in parsed]

    async def clear_suspect(self, cluster_id: str, host_id: str) -> None:
        """Forgets a suspicion."""
        await self._scripts.run("suspect_clear", cluster_id, host_id)

    async def note_flap(self, cluster_id: str, host_id: str) -> None:
        """Remembers for an hour that a host was suspected in vain (`HostRecord.flaps_s`)."""
        await self._scripts.run("host_flap", cluster_id, host_id)

    async def confirm(
        self,
        cluster_id: str,
        host_id: str,
        boot_id: str,
        evidence: str,
        *,
        operator: bool = False,
        fence_decides: bool = False,
        ask: int = 1,
    ) -> Incident | None:
        """Confirms a failure: makes the incident, raises the fence epoch, revokes the incarnation, sets the state DOWN.

        Only when the suspicion of this boot is intact, its cooldown is over and the host has not booted since; an operator's
        word needs no suspicion, and then counts for the new fence epoch. A repeat returns the incident that is open.

        Args:
            fence_decides: What the incident says of itself.
            ask: Its number, above those of earlier confirmations in this term; see `refuse`.

        Returns:
            The incident; None when the suspicion does not hold any more (a missing record only ever cancels).
        """
        [stored] = await self._scripts.run(
            "incident_confirm",
            cluster_id,
            host_id,
            boot_id,
            evidence,
            codec.flag(operator),
            str(uuid.uuid4()),
            codec.flag(fence_decides),
            ask,
        )
        return codec.incident(codec.text(stored)) if stored else None

    async def refuse(self, cluster_id: str, host_id: str, ask: int) -> Incident | None:
        """What became of a confirmation that Redis did not answer: it may have been made, or may still wait in a socket.

        Returns:
            The open incident; None when there is none. Then the suspicion is forgotten, and no confirmation up to this number
            makes one any more: what is read from here on stays true.
        """
        [stored] = await self._scripts.run("incident_refuse", cluster_id, host_id, ask)
        return codec.incident(codec.text(stored)) if stored else None

    async def get_open(self, cluster_id: str, host_id: str) -> Incident | None:
        """The open incident of a host."""
        stored = await self._scripts.command("HGET", keys.INCIDENTS(cluster_id), host_id)
        return codec.incident(codec.text(stored)) if stored else None

    async def open(self, cluster_id: str) -> list[Incident]:
        """All open incidents of a cluster by host_id."""
        rows = codec.text_map(await self._scripts.command("HGETALL", keys.INCIDENTS(cluster_id)))
        return [codec.incident(stored) for _, stored in sorted(rows.items())]

    async def close(self, cluster_id: str, host_id: str, incident_id: str) -> None:
        """Ends an incident; one that is not open any more is left alone. The incarnation stays revoked."""
        await self._scripts.run("incident_close", cluster_id, host_id, incident_id)
