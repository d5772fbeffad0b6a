"""The ways to Redis: one server, the primary that Sentinels name, or a Redis Cluster."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from vmha.errors import FieldViolation, InvalidField
from vmha.rpc.checks import valid_target

CONNECTIONS: Final = 16
"""Connections of one process to one server; a call waits for a free one as long as the server answers others."""
HEALTH_CHECK_S: Final = 15
EXPECTED: Final = (
    "expected redis://[user:password@]host[:port]/db, rediss:// or unix:///path, "
    "redis+sentinel://[user:password@]host:port,host:port/service[/db] or redis+cluster://[user:password@]host:port,host:port"
)


def client(url: str, timeout_s: float) -> Redis:
    """A client for a URL; its first call connects.

    A connection that turns out to be closed is opened again once; a timeout is never retried here.

    Raises:
        InvalidField: The URL is none; its text is not repeated, for it may hold a password.
    """
    try:
        scheme = url.partition("://")[0]
        if scheme.endswith("+sentinel"):
            return _by_sentinel(url, timeout_s)
        if scheme.endswith("+cluster"):
            return _cluster(url, timeout_s)
        pool = _Turns.from_url(url, max_connections=CONNECTIONS, timeout=timeout_s, **_connection(timeout_s), retry=_once_more())
        return Redis.from_pool(pool)
    except ValueError:
        raise InvalidField([FieldViolation("redis_url", EXPECTED)]) from None


async def policies(redis: Redis) -> set[str]:
    """The maxmemory-policy of each server behind a client."""
    return {str(node.get("maxmemory_policy", "unknown")) for node in await _info(redis, "memory")}


async def may_split(redis: Redis) -> bool:
    """Whether some server has replicas and goes on without them: min-replicas-to-write is not set."""
    nodes = await _info(redis, "replication")
    return any(int(node.get("connected_slaves", 0)) and "min_slaves_good_slaves" not in node for node in nodes)


async def _info(redis: Redis, section: str) -> list[dict[str, Any]]:
    if isinstance(redis, RedisCluster):
        return list((await redis.info(section, target_nodes=RedisCluster.ALL_NODES)).values())
    return [await redis.info(section)]


def _once_more() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.2), 1, supported_errors=(exceptions.ConnectionError,))


def _connection(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": HEALTH_CHECK_S,
        "decode_responses": True,
    }


class _Turns(BlockingConnectionPool):
    """A caller waits for its turn as long as others get answers: many calls at once do not mean that the server is away."""

    _answered = 0

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        """A free connection.

        Raises:
            ConnectionError: None was free within `timeout`, and no call was answered meanwhile.
        """
        while True:
            before = self._answered
            try:
                return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
            except exceptions.ConnectionError:
                if self._answered == before:
                    raise

    async def release(self, connection: AbstractConnection) -> None:
        """Give it back; one on which a call failed is not connected any more."""
        self._answered += connection.is_connected
        await super().release(connection)


class _PrimaryPool(_Turns, SentinelConnectionPool):
    """Connections to the primary that the Sentinels name at the moment."""

    async def aclose(self) -> None:
        """Closes those to the Sentinels, too."""
        await super().aclose()
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def _by_sentinel(url: str, timeout_s: float) -> Redis:
    place = _Place(url)
    service, _, database = place.path.partition("/")
    if not service or (database and not database.isdecimal()):
        raise ValueError("no service, or no database number")
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        place.nodes,
        sentinel_kwargs={
            "socket_timeout": timeout_s / 2,
            "socket_connect_timeout": timeout_s / 2,
            "retry": Retry(NoBackoff(), 0),
            "ssl": place.encrypted,
            "username": place.options.pop("sentinel_username", None),
            "password": place.options.pop("sentinel_password", None),
        },
    )
    if place.options:
        raise ValueError("unknown option")
    pool = _PrimaryPool(
        service_name=service,
        sentinel_manager=sentinel,
        connection_class=SentinelManagedSSLConnection if place.encrypted else SentinelManagedConnection,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        db=int(database or 0),
        username=place.username,
        password=place.password,
        retry=_once_more(),
        **_connection(timeout_s),
    )
    return Redis.from_pool(pool)


class _Cluster(RedisCluster):
    async def aclose(self) -> None:
        """redis-py closes nothing while it would look for the nodes anew, as after a node's death."""
        await super().aclose()
        for nodes in ("nodes_cache", "startup_nodes"):
            await self.nodes_manager.aclose(nodes)


def _cluster(url: str, timeout_s: float) -> Redis:
    place = _Place(url)
    if place.path or place.options:
        raise ValueError("a Redis Cluster has one database and no options")
    found = _Cluster(
        startup_nodes=[ClusterNode(host, port) for host, port in place.nodes],
        username=place.username,
        password=place.password,
        ssl=place.encrypted,
        max_connections=CONNECTIONS * 4,
        retry=_once_more(),
        **_connection(timeout_s),
    )
    # It has the commands that the store uses, and sends each to the node that keeps its key.
    return cast(Redis, found)


class _Place:
    """scheme://[user:password@]host:port,.../path?option=value, taken apart.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        servers, _, self.path = rest.partition("/")
        user, _, servers = servers.rpartition("@")
        name, _, password = user.partition(":")
        self.encrypted = scheme.startswith("rediss")
        self.username, self.password = unquote(name) or None, unquote(password) or None
        self.options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
        targets = servers.split(",")
        if not all(valid_target(target) for target in targets):
            raise ValueError("not a list of host:port")
        self.nodes = [(host.strip("[]"), int(port)) for host, _, port in (target.rpartition(":") for target in targets)]
