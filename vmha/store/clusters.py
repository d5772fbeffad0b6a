"""Clusters: settings, protection on or off, and the whole cluster at one moment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from redis.asyncio import Redis

from vmha.model import ClusterConfig, Group
from vmha.store import codec, keys
from vmha.store.records import ClusterRecord, ClusterSnapshot, HostRecord, Incident, SafetyConfig
from vmha.store.scripts import Scripts, pairs, store_errors


class Clusters:
    """What the store keeps of clusters. All methods may raise Unavailable("STORE_UNAVAILABLE")."""

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def list_ids(self) -> list[str]:
        """The ids of all clusters, sorted."""
        with store_errors():
            ids = sorted(codec.text(c) for c in await self._scripts.command("SMEMBERS", keys.CLUSTER_INDEX()))
            async with self._client.pipeline(transaction=False) as pipe:
                for cluster_id in ids:
                    pipe.exists(keys.CLUSTER(cluster_id))
                found = await pipe.execute() if ids else []
        return [cluster_id for cluster_id, exists in zip(ids, found, strict=True) if exists]

    async def get(self, cluster_id: str) -> ClusterRecord:
        """One cluster.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        [row] = await self._scripts.run("cluster_get", cluster_id)
        return codec.cluster(cluster_id, pairs(row))

    async def snapshot(self, cluster_id: str) -> ClusterSnapshot:
        """The cluster, its hosts, groups and numbered configurations in one round trip, all of one moment.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        cluster, hosts, groups, configs = await self._scripts.run("cluster_snapshot", cluster_id)
        parsed = [(codec.text(host_id), pairs(row)) for host_id, row in hosts]
        return ClusterSnapshot(
            cluster=codec.cluster(cluster_id, pairs(cluster)),
            hosts={host_id: codec.host(cluster_id, host_id, row) for host_id, row in sorted(parsed, key=lambda item: item[0])},
            groups={group_id: codec.group(stored) for group_id, stored in sorted(pairs(groups).items())},
            configs={version: codec.safety_config(stored) for version, stored in sorted(_numbered(pairs(configs)))},
        )

    async def create(self, cluster_id: str, config: ClusterConfig) -> ClusterRecord:
        """Makes a cluster without hosts, protection off. The same again is OK.

        Raises:
            AlreadyExists: CLUSTER_EXISTS, with other settings.
        """
        await self._index(cluster_id)
        [row] = await self._scripts.run("cluster_create", cluster_id, codec.cluster_config_text(config))
        return codec.cluster(cluster_id, pairs(row))

    async def update(self, cluster_id: str, config: ClusterConfig, version: int | None) -> ClusterRecord:
        """Replaces the settings; a call that changes nothing is OK whatever its version, so that it can be repeated.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            Aborted: ETAG_MISMATCH when version is given and not the cluster's.
        """
        [row] = await self._scripts.run("cluster_update", cluster_id, codec.cluster_config_text(config), version or 0)
        await self._index(cluster_id)
        return codec.cluster(cluster_id, pairs(row))

    async def set_ha(self, cluster_id: str, enabled: bool, version: int | None) -> ClusterRecord:
        """Switches protection on or off. Errors as `update`."""
        [row] = await self._scripts.run("cluster_set_ha", cluster_id, codec.flag(enabled), version or 0)
        return codec.cluster(cluster_id, pairs(row))

    async def delete(self, cluster_id: str, version: int | None) -> None:
        """Deletes a cluster with all that was kept of it.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            Aborted: ETAG_MISMATCH.
            PreconditionFailed: CLUSTER_ENABLED, CLUSTER_NOT_EMPTY.
        """
        await self._scripts.run("cluster_delete", cluster_id, version or 0)
        await self._scripts.command("SREM", keys.CLUSTER_INDEX(), cluster_id)

    async def put_config(
        self, cluster: ClusterRecord, config: SafetyConfig, *, at_least: int, keep_from: int, hosts: Sequence[str]
    ) -> ClusterRecord:
        """Makes a configuration of the safety protocol the newest one, under a number of its own; the same again is OK (R18).

        Args:
            cluster: As the caller knows it: another newest number in the store is refused.
            at_least: The number is not below this: an agent may hold one that the store has lost.
            keep_from: Older ones are forgotten: no host holds them.
            hosts: To whom it will be sent now: their `config_sent` is raised in the same moment.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            Aborted: CONFIG_CHANGED.
        """
        content = codec.safety_config_text(config)
        keep_from = max(keep_from, cluster.config_version + 2 - keys.CONFIGS_KEPT)
        [row] = await self._scripts.run(
            "config_put", cluster.cluster_id, cluster.config_version, at_least, keep_from, content, *hosts
        )
        return codec.cluster(cluster.cluster_id, pairs(row))

    async def enter_safe_mode(self, cluster_id: str, generation: int, hosts: Sequence[str]) -> ClusterRecord:
        """The store has lost writes: nothing is started or evacuated until these hosts have said what they run (R20).

        Args:
            generation: The highest that was seen anywhere; the store's is above it afterwards.
            hosts: To wait for. Where safe mode is on already, those stay.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        [row] = await self._scripts.run("safe_mode", cluster_id, generation, *hosts)
        return codec.cluster(cluster_id, pairs(row))

    async def safe_arrived(self, cluster_id: str, host_ids: Sequence[str]) -> ClusterRecord:
        """Hosts have said what they run; when the last one has, safe mode is over. Errors as `enter_safe_mode`."""
        [row] = await self._scripts.run("safe_arrived", cluster_id, *host_ids)
        return codec.cluster(cluster_id, pairs(row))

    async def was_deleted(self, cluster_id: str) -> bool:
        """Whether it was deleted on purpose within the last day, and not made again."""
        return bool(await self._scripts.command("EXISTS", keys.TOMBSTONE(cluster_id)))

    async def restore(
        self,
        cluster: ClusterRecord,
        hosts: Sequence[HostRecord],
        groups: Iterable[Group],
        configs: Mapping[int, SafetyConfig] | None = None,
        *,
        incidents: Iterable[Incident] = (),
        awaited: Sequence[str] = (),
    ) -> ClusterRecord:
        """Writes a cluster that the store has lost, under the next store generation; one that is there is only returned.

        Inventory comes from the agents.

        Args:
            incidents: Those that the hosts' records name; one that is not here comes back without its evidence.
            awaited: Safe mode waits for these whatever their records say; empty: for those that may run something.

        Raises:
            NotFound: CLUSTER_UNKNOWN when it was deleted on purpose within the last day.
        """
        rows = {host.host_id: codec.host_row(host) for host in hosts}
        told = {incident.host_id: codec.incident_text(incident) for incident in incidents}
        rules = {group.group_id: codec.group_text(group) for group in groups}
        [row] = await self._scripts.run(
            "cluster_restore",
            cluster.cluster_id,
            codec.cluster_config_text(cluster.config),
            codec.flag(cluster.ha_enabled),
            cluster.version,
            cluster.config_version,
            cluster.store_generation,
            json.dumps(rows),
            json.dumps(rules),
            json.dumps({str(version): codec.safety_config_text(config) for version, config in (configs or {}).items()}),
            json.dumps(told),
            *awaited,
        )
        await self._index(cluster.cluster_id, *rows)
        return codec.cluster(cluster.cluster_id, pairs(row))

    async def _index(self, cluster_id: str, *host_ids: str) -> None:
        await self._scripts.command("SADD", keys.CLUSTER_INDEX(), cluster_id)
        if host_ids:
            index = [part for host_id in host_ids for part in (host_id, cluster_id)]
            await self._scripts.command("HSET", keys.HOST_INDEX(), *index)


def _numbered(rows: Mapping[str, str]) -> list[tuple[int, str]]:
    return [(int(version), stored) for version, stored in rows.items()]
