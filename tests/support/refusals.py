"""Calls that must fail, and what they fail with."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from vmha.errors import VmhaError
from vmha.rpc.errors import from_rpc_error


async def refused(call: Any) -> VmhaError:
    """The error of a call that must fail: a unary one, or a stream, which is read to its end."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return from_rpc_error(caught.value)
