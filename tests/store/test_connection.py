"""The ways to Redis: what a URL may say."""

from __future__ import annotations

import socket
import time

import pytest

from vmha.errors import InvalidField, Unavailable
from vmha.store import connect


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
