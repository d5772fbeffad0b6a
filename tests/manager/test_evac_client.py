"""Tests of vmha.manager.evac_client: what its orders do when they are ended."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from vmha.errors import PreconditionFailed
from vmha.manager import evac_client
from vmha.manager.evac_client import EvacClient, _Order
from vmha.store.records import Incident

INCIDENT = Incident(incident_id="i1", host_id="h1", boot_id="b", incarnation=1, fence_epoch=1, evidence="")


async def test_a_cancellation_that_is_ended_while_it_waits_for_the_order_ends() -> None:
    """The manager goes away just then: it must not hang on an evacuator that does not answer."""
    ending = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.sleep(0.05)

    running = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    asked: list[Any] = []

    class Stub:
        async def CancelEvacuation(self, request: Any, timeout: float) -> Any:  # noqa: N802
            asked.append(request)
            await asyncio.Event().wait()

    order = _Order(Stub(), "c1", INCIDENT, lambda _: None, 1)
    task = asyncio.create_task(order.cancel("HOST_RETURNED", running))
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1.0):
            await task
    assert not asked


async def test_closing_ends_orders_and_cancellations() -> None:
    """Nothing of them is left; nobody listens at the other end."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        client = EvacClient(channel)
        client.order("c1", INCIDENT, lambda _: None, leader_term=1)
        await asyncio.sleep(0.01)
        client.cancel("c1", INCIDENT, "HOST_RETURNED", lambda _: None, leader_term=1)
        await asyncio.sleep(0)
        async with asyncio.timeout(2.0):
            await client.close()
    assert [task for task in asyncio.all_tasks() if "evac" in task.get_name()] == []


async def test_an_order_that_stays_refused_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again every two seconds, for as long as it takes; another reason is another line."""
    monkeypatch.setattr(evac_client, "REFUSED_WAIT_S", 0.0)
    reasons = iter([*["HOST_NOT_DOWN"] * 5, *["CLUSTER_NOT_ACTIVE"] * 5])

    class Refusing(_Order):
        async def _follow(self) -> None:
            reason = next(reasons, "")
            if not reason:
                raise asyncio.CancelledError
            raise PreconditionFailed(reason, "no")

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await Refusing(None, "c1", INCIDENT, lambda _: None, 1).run()
    assert [line["reason"] for line in logs] == ["HOST_NOT_DOWN", "CLUSTER_NOT_ACTIVE"]
