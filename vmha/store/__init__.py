"""Redis: keys, Lua scripts, typed records. The only place that knows a key's name.

    store = connect("redis://127.0.0.1:6379/0")
    await store.check_policy()
    record = await store.clusters.get("c1")

Every change of state is one Lua script, safe to repeat. All methods raise Unavailable("STORE_UNAVAILABLE") when Redis does not
answer in time; whether a change was made is unknown then, and the same call may be made again.
"""

from __future__ import annotations

from redis.asyncio import Redis

from vmha.errors import PreconditionFailed
from vmha.store import connection
from vmha.store.clusters import Clusters
from vmha.store.evacuations import Evacuations
from vmha.store.events import Events
from vmha.store.groups import Groups
from vmha.store.hosts import Hosts
from vmha.store.incidents import Incidents
from vmha.store.leaders import Leaders
from vmha.store.scripts import Scripts, store_errors
from vmha.store.vm_locks import VmLocks
from vmha.store.vms import Vms

__all__ = ["Store", "connect"]


class Store:
    """Everything in Redis, by subject.

    Args:
        client: Any redis.asyncio client; `connect` makes the usual one.
        term: Of the leader that acts through it (`under`); 0: nobody's, and not checked.
    """

    def __init__(self, client: Redis, *, term: int = 0) -> None:
        self._client = client
        self._scripts = scripts = Scripts(client, term)
        self.clusters = Clusters(client, scripts)
        self.hosts = Hosts(client, scripts)
        self.groups = Groups(client, scripts)
        self.incidents = Incidents(client, scripts)
        self.vms = Vms(client, scripts)
        self.vm_locks = VmLocks(scripts)
        self.evacuations = Evacuations(client, scripts)
        self.events = Events(client, scripts)
        self.leaders = Leaders(scripts)

    def under(self, term: int) -> Store:
        """The same store for the leader of a term: once a newer one is on record its changes are refused (R19).

        All its methods may raise Aborted("STALE_LEADER_TERM").
        """
        return Store(self._client, term=term)

    def __repr__(self) -> str:
        return "Store()"

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Returns when Redis answers.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
        """
        await self._scripts.command("PING")

    async def check_policy(self) -> None:
        """Refuses a Redis that may evict keys: ownership that disappears is a VM that may run twice.

        Raises:
            PreconditionFailed: STORE_EVICTS, with the policy found and what to set.
            Unavailable: STORE_UNAVAILABLE.
        """
        with store_errors():
            policies = await connection.policies(self._client)
        policy = ", ".join(sorted(policies))
        if policies != {"noeviction"}:
            raise PreconditionFailed(
                "STORE_EVICTS",
                f"Redis may evict keys: maxmemory-policy is {policy}. Set maxmemory-policy noeviction in redis.conf, "
                "or run: redis-cli CONFIG SET maxmemory-policy noeviction",
                {"policy": policy},
            )

    async def may_split(self) -> bool:
        """Whether two primaries could take writes at one time, after a failover that cut one of them off (decision 010)."""
        with store_errors():
            return await connection.may_split(self._client)


def connect(url: str, *, timeout_s: float = 1.0) -> Store:
    """A store on its own pool of connections; the first call connects.

    Args:
        url: redis://[user:password@]host[:port]/db, rediss:// or unix:///path for one server;
            redis+sentinel://[user:password@]host:port,host:port/service[/db] for the primary that Sentinels name;
            redis+cluster://[user:password@]host:port,host:port for a Redis Cluster.
        timeout_s: For connecting, for a free connection and for each answer.

    Raises:
        InvalidField: The URL is none; its text is not repeated, for it may hold a password.
    """
    return Store(connection.client(url, timeout_s))
