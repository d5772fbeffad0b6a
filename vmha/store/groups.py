"""Affinity rules of a cluster. A group's etag is made of its content."""

from __future__ import annotations

from redis.asyncio import Redis

from vmha.errors import NotFound
from vmha.model import Group
from vmha.store import codec, keys
from vmha.store.scripts import Scripts, refusal


class Groups:
    """What the store keeps of groups. All methods may raise Unavailable("STORE_UNAVAILABLE")."""

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def get(self, cluster_id: str, group_id: str) -> Group:
        """One group.

        Raises:
            NotFound: GROUP_UNKNOWN.
        """
        stored = await self._scripts.command("HGET", keys.GROUPS(cluster_id), group_id)
        if stored is None:
            raise refusal("GROUP_UNKNOWN", {"cluster_id": cluster_id, "group_id": group_id}, NotFound)
        return codec.group(codec.text(stored))

    async def list(self, cluster_id: str) -> list[Group]:
        """All groups of a cluster by group_id."""
        stored = codec.text_map(await self._scripts.command("HGETALL", keys.GROUPS(cluster_id)))
        return [codec.group(value) for _, value in sorted(stored.items())]

    async def create(self, cluster_id: str, group: Group) -> Group:
        """Makes a group. The same again is OK.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            AlreadyExists: GROUP_EXISTS, with other fields.
        """
        return await self._put(cluster_id, "create", group.group_id, codec.group_text(group), None)

    async def update(self, cluster_id: str, group: Group, etag: str | None) -> Group:
        """Replaces a group; a call that changes nothing is OK whatever its etag.

        Raises:
            NotFound: CLUSTER_UNKNOWN, GROUP_UNKNOWN.
            Aborted: ETAG_MISMATCH.
        """
        return await self._put(cluster_id, "update", group.group_id, codec.group_text(group), etag)

    async def delete(self, cluster_id: str, group_id: str, etag: str | None) -> None:
        """Deletes a group. Errors as `update`."""
        await self._scripts.run("group_put", cluster_id, "delete", group_id, "", etag or "")

    async def _put(self, cluster_id: str, act: str, group_id: str, stored: str, etag: str | None) -> Group:
        await self._scripts.run("group_put", cluster_id, act, group_id, stored, etag or "")
        return codec.group(stored)
