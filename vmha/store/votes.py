"""The snapshot of votes that a manager leaves for its successor."""

from __future__ import annotations

import math

from vmha.store import codec, keys
from vmha.store.scripts import Scripts


class Votes:
    """What the store keeps of votes. All methods may raise Unavailable("STORE_UNAVAILABLE")."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def put_snapshot(self, cluster_id: str, snapshot: bytes, ttl_s: float) -> None:
        """Keeps a snapshot (UTF-8 text, as JSON) for ttl_s; an older one is replaced."""
        ttl_ms = max(1, math.ceil(ttl_s * 1000))
        await self._scripts.command("SET", keys.VOTES(cluster_id), snapshot, "PX", ttl_ms)

    async def get_snapshot(self, cluster_id: str) -> bytes | None:
        """The newest snapshot; None when there is none, or it is too old."""
        stored = await self._scripts.command("GET", keys.VOTES(cluster_id))
        return None if stored is None else codec.text(stored).encode()
