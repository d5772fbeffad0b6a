"""Hosts: configuration, state, registration and the operator's word."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from vmha.errors import AlreadyExists, NotFound, PreconditionFailed
from vmha.facts import HostFacts
from vmha.model import HostConfig, HostState
from vmha.store import codec, keys
from vmha.store.records import HostRecord, VmRecord
from vmha.store.scripts import Scripts, pairs, refusal

Owned = list[VmRecord]


class Hosts:
    """What the store keeps of hosts. All methods may raise Unavailable("STORE_UNAVAILABLE"), and NotFound("HOST_UNKNOWN")."""

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def get(self, cluster_id: str, host_id: str) -> HostRecord:
        """One host."""
        row = codec.text_map(await self._scripts.command("HGETALL", keys.HOST(cluster_id, host_id)))
        if "config" not in row:
            raise refusal("HOST_UNKNOWN", {"host_id": host_id, "cluster_id": cluster_id})
        return codec.host(cluster_id, host_id, row)

    async def list(self, cluster_id: str) -> list[HostRecord]:
        """The hosts of a cluster by host_id.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        _, hosts, *_ = await self._scripts.run("cluster_snapshot", cluster_id)
        rows = sorted((codec.text(host_id), pairs(row)) for host_id, row in hosts)
        return [codec.host(cluster_id, host_id, row) for host_id, row in rows]

    async def find_cluster(self, host_id: str) -> str:
        """The cluster that a host is in. The index may lack it or be wrong; then all clusters are asked."""
        hint = await self._scripts.command("HGET", keys.HOST_INDEX(), host_id)
        if hint is not None and await self._scripts.command("EXISTS", keys.HOST(codec.text(hint), host_id)):
            return codec.text(hint)
        for cluster_id in await self._scripts.command("SMEMBERS", keys.CLUSTER_INDEX()):
            if await self._scripts.command("EXISTS", keys.HOST(codec.text(cluster_id), host_id)):
                await self._scripts.command("HSET", keys.HOST_INDEX(), host_id, cluster_id)
                return codec.text(cluster_id)
        raise NotFound("HOST_UNKNOWN", f"No cluster has a host {host_id}.", {"host_id": host_id})

    async def create(self, cluster_id: str, host_id: str, config: HostConfig) -> HostRecord:
        """Adds a host. The same again is OK.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            AlreadyExists: HOST_EXISTS, with other settings or in another cluster.
        """
        await self._claim_id(cluster_id, host_id)
        return await self._run("host_create", cluster_id, host_id, codec.host_config_text(config))

    async def _claim_id(self, cluster_id: str, host_id: str) -> None:
        """Host ids are unique in the region; the index is a hint, so its word is checked."""
        if not await self._scripts.command("EXISTS", keys.CLUSTER(cluster_id)):
            raise refusal("CLUSTER_UNKNOWN", {"cluster_id": cluster_id})
        try:
            other = await self.find_cluster(host_id)
        except NotFound:
            await self._scripts.command("HSET", keys.HOST_INDEX(), host_id, cluster_id)
            return
        if other != cluster_id:
            about = {"host_id": host_id, "cluster_id": other}
            raise AlreadyExists("HOST_EXISTS", f"Host {host_id} is in cluster {other} already.", about)

    async def update(self, cluster_id: str, host_id: str, config: HostConfig, version: int | None) -> HostRecord:
        """Replaces a host's settings; a call that changes nothing is OK whatever its version.

        Raises:
            Aborted: ETAG_MISMATCH when version is given and not the host's.
        """
        return await self._run("host_update", cluster_id, host_id, "config", codec.host_config_text(config), version or 0)

    async def set_maintenance(self, cluster_id: str, host_id: str, on: bool, version: int | None) -> HostRecord:
        """Takes a host out of service or back. Errors as `update`."""
        return await self._run("host_update", cluster_id, host_id, "in_maintenance", codec.flag(on), version or 0)

    async def drain(self, cluster_id: str, host_id: str, drain_id: str, stop_vms: bool, version: int | None) -> HostRecord:
        """Takes a host out of service, and begins its drain or joins the one under way, whose id the record then has.

        Args:
            drain_id: Of the drain, should a new one begin: a UUID that nobody had before.
            stop_vms: Shut down what cannot be migrated; also for a drain under way.

        Raises:
            Aborted: ETAG_MISMATCH; HOST_BUSY while a drain that was cancelled has not ended.
        """
        [row] = await self._scripts.run("host_drain", cluster_id, drain_id, host_id, codec.flag(stop_vms), version or 0)
        return codec.host(cluster_id, host_id, pairs(row))

    async def undrain(self, cluster_id: str, host_id: str, version: int | None) -> HostRecord:
        """Asks its drain to end: back in service, unless it was not before. Without a drain nothing changes. Errors: `update`."""
        return await self._run("host_undrain", cluster_id, host_id, version or 0)

    async def delete(self, cluster_id: str, host_id: str, version: int | None) -> None:
        """Removes a host.

        Raises:
            Aborted: ETAG_MISMATCH.
            PreconditionFailed: HOST_OWNS_VMS; HOST_BUSY while an incident or evacuation of it is open.
        """
        await self._scripts.run("host_delete", cluster_id, host_id, version or 0, refusals={"HOST_BUSY": PreconditionFailed})
        await self._scripts.command("HDEL", keys.HOST_INDEX(), host_id)

    async def set_state(
        self, cluster_id: str, host_id: str, state: HostState, reason: str, message: str, *, incident_id: str | None = None
    ) -> HostRecord:
        """Records the manager's view of a host; `state_time_s` changes only with the state. incident_id None: unchanged."""
        incident = () if incident_id is None else (incident_id,)
        return await self._run("host_set_state", cluster_id, host_id, state.value, reason, message, *incident)

    async def put_facts(self, cluster_id: str, host_id: str, facts: HostFacts) -> HostRecord:
        """Records what the agent found on its host."""
        return await self._run("host_put", cluster_id, host_id, "facts", codec.host_facts_text(facts))

    async def hello(self, cluster_id: str, host_id: str, boot_id: str, self_fencing: bool, watchdog: bool = False) -> HostRecord:
        """Records what an agent said when it opened its session. A suspicion of another boot cannot be confirmed any more.

        A guard or a watchdog that it has no more is taken off the record; one that it has now is only put there by `note`.
        """
        return await self._run("host_hello", cluster_id, host_id, boot_id, codec.flag(self_fencing), codec.flag(watchdog))

    async def note(self, cluster_id: str, host_id: str, **facts: bool | int) -> HostRecord:
        """Records facts about a host by the names of `HostRecord`; the one leader is their only writer.

        Args:
            facts: Of `self_fencing`, `watchdog`, `agent_gone`, `undelivered`, `config_sent`, `config_confirmed`.
        """
        flat = [part for name, value in facts.items() for part in (name, str(int(value)))]
        return await self._run("host_put", cluster_id, host_id, *flat)

    async def note_clock(self, cluster_id: str, host_id: str, *, suspect: bool) -> HostRecord:
        """Records now that a host's clock was found wrong, or that it was not; another boot ends it."""
        return await self._run("host_clock", cluster_id, host_id, codec.flag(suspect))

    async def offer(self, cluster_id: str, host_id: str, boot_token: str) -> int:
        """Offers a registration: an incarnation above all earlier ones. Nothing else changes until it is taken up.

        The same token gets the same number, as long as that is still on offer or in force. A failure that is confirmed
        meanwhile withdraws it.
        """
        [incarnation] = await self._scripts.run("host_offer", cluster_id, host_id, boot_token)
        return int(incarnation)

    async def complete_registration(self, cluster_id: str, host_id: str, incarnation: int, boot_id: str) -> Owned:
        """Puts the registration on offer in force and re-claims all that the host owns, in one script.

        Each VM gets the new incarnation and epoch + 1, so that no older claim or start of it can succeed. A repeat changes
        nothing. Of VMs whose reason is MIGRATED_AWAY nobody knows where they run: they must not be started.

        Raises:
            Aborted: STALE_INCARNATION when it is not the one on offer.
        """
        [rows] = await self._scripts.run("host_register", cluster_id, host_id, incarnation, boot_id)
        return sorted((codec.vm(codec.text(vm_id), pairs(row)) for vm_id, row in rows), key=lambda record: record.vm_id)

    async def confirm_off(self, cluster_id: str, host_id: str, fence_epoch: int, operator: str) -> HostRecord:
        """Records an operator's word that the host is off, for its present fence epoch. Registration ends it.

        Raises:
            Aborted: STALE_FENCE_EPOCH when fence_epoch is not the host's.
        """
        return await self._run("host_confirm_off", cluster_id, host_id, fence_epoch, operator)

    async def retract_off(self, cluster_id: str, host_id: str, fence_epoch: int) -> HostRecord:
        """Takes back an operator's word for this fence epoch; where safe mode waited for the host, it does again."""
        return await self._run("host_retract_off", cluster_id, host_id, fence_epoch)

    async def _run(self, name: str, cluster_id: str, host_id: str, *arguments: Any) -> HostRecord:
        [row] = await self._scripts.run(name, cluster_id, host_id, *arguments)
        return codec.host(cluster_id, host_id, pairs(row))
