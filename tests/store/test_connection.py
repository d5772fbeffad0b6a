"""The ways to Redis: what a URL may say."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time

import pytest

from tests.support.redis import RedisServer
from vmha.errors import InvalidField, Unavailable
from vmha.store import connect, connection


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1/vmha",
        "redis+sentinel://:hunter2@127.0.0.1:26379/vmha/x",
        "redis+sentinel://127.0.0.1:26379/vmha?level=info",
        "redis+cluster://127.0.0.1:7000/0",
        "redis+cluster://:hunter2@",
        "redis+sentinel://127.0.0.1:26379,/vmha",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    """One error that says what is expected."""
    with pytest.raises(InvalidField) as refused:
        connect(url)

    assert "hunter2" not in str(refused.value)
    assert "redis+sentinel://" in refused.value.message


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "unix:///run/redis.sock",
        "rediss+sentinel://me:hunter2@a:26379,[::1]:26379/vmha/2?sentinel_password=x",
        "redis+cluster://a:7000,b:7000",
    ],
)
async def test_a_good_url_is_taken_without_connecting(url: str) -> None:
    """The first call connects."""
    store = connect(url)
    await store.close()

    assert "hunter2" not in repr(store)


@pytest.mark.asyncio(loop_factories=["redis"])
@pytest.mark.parametrize("scheme", ["redis://{}/0", "redis+sentinel://{0},{0}/vmha", "redis+cluster://{0},{0}"])
async def test_nobody_there_is_unavailable(scheme: str) -> None:
    """Whatever stands behind the URL: UNAVAILABLE within a few seconds, at the first call and at the next."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = connect(scheme.format(f"127.0.0.1:{closed.getsockname()[1]}"))
        began = time.monotonic()
        for call in (store.check_policy, store.may_split, store.clusters.list_ids):
            with pytest.raises(Unavailable) as refused:
                await call()
            assert refused.value.reason == "STORE_UNAVAILABLE"
    await store.close()

    assert time.monotonic() - began < 10


@pytest.mark.asyncio(loop_factories=["redis"])
async def test_a_crowd_waits_for_its_turn(redis_server: RedisServer) -> None:
    """Hundreds of calls that together take many times the timeout: each waits while others are answered, and none fails."""
    redis_server.start()
    client = connection.client(redis_server.url, 1.0)
    calls = [client.blpop(["nothing"], timeout=0.2) for _ in range(20 * connection.CONNECTIONS)]
    try:
        assert set(await asyncio.gather(*calls)) == {None}
    finally:
        await client.aclose()


@pytest.mark.asyncio(loop_factories=["redis"])
async def test_a_crowd_does_not_wait_for_a_server_that_hangs(redis_server: RedisServer) -> None:
    """Nobody is answered: all fail together, those without a connection, too."""
    redis_server.start()
    store = connect(redis_server.url, timeout_s=0.2)
    await store.ping()
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            done = await asyncio.gather(*(store.ping() for _ in range(20 * connection.CONNECTIONS)), return_exceptions=True)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
        await store.close()

    assert {type(error) for error in done} == {Unavailable}
