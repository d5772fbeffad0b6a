"""What stands between grpc and every handler: error mapping, access log, default deadline.

All four kinds of handlers are wrapped, and both styles of those that stream their answer: async generators and coroutines that
call `context.write`. Without this an exception's repr, maybe with a password in it, would reach the client (stack notes A.6).
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Never, TypeAlias

import grpc
import structlog

from vmha.errors import Unsupported, VmhaError
from vmha.rpc.errors import DETAILS_KEY, to_status

UNARY_DEADLINE_S: Final = 30.0
"""How long a unary call may take when its caller set no deadline."""

_QUIET: Final = ("/grpc.health.v1.", "/grpc.reflection.")
_log = structlog.get_logger("vmha.rpc")

# Generic in their stubs, not at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Wrapper(ABC, grpc.aio.ServerInterceptor):
    """Stands before every handler of a server; each method's handler is wrapped once."""

    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call, wrapped; the same each time."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # grpc itself answers UNIMPLEMENTED
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Any) -> Handler:
        kind = ("stream" if handler.request_streaming else "unary") + "_" + ("stream" if handler.response_streaming else "unary")
        outer = self._around(method, handler, getattr(handler, kind))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(outer, handler.request_deserializer, handler.response_serializer)
        return wrapped

    @abstractmethod
    def _around(self, method: str, handler: Any, inner: Callable[..., Any]) -> Callable[[Any, Context], Any]:
        """What is called instead of `inner`, the handler's function, in the same style."""


class CallGuard(Wrapper):
    """Maps errors, logs calls, bounds unary ones."""

    def __init__(self, *, unary_deadline_s: float = UNARY_DEADLINE_S) -> None:
        super().__init__()
        self._unary_deadline_s = unary_deadline_s

    def _around(self, method: str, handler: Any, inner: Callable[..., Any]) -> Callable[[Any, Context], Any]:
        if handler.response_streaming:
            return self._stream(method, inner)
        return self._unary(method, inner, bounded=not handler.request_streaming)

    def _unary(self, method: str, inner: Callable[..., Any], *, bounded: bool) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            async with _guarded(method, context):
                # time_remaining() is None without a deadline; its type does not say so.
                limit = self._unary_deadline_s if bounded and context.time_remaining() is None else None
                async with _deadline(limit):
                    return await inner(request, context)

        return call

    def _stream(self, method: str, inner: Callable[..., Any]) -> Callable[[Any, Context], Any]:
        async def generate(request: Any, context: Context) -> AsyncIterator[Any]:
            async with _guarded(method, context), aclosing(inner(request, context)) as messages:
                async for message in messages:
                    yield message

        async def write(request: Any, context: Context) -> None:
            async with _guarded(method, context):
                await inner(request, context)

        return generate if inspect.isasyncgenfunction(inner) else write


class DeadlineExceeded(VmhaError):
    """The server's own limit for a call without a deadline was reached."""

    code = "DEADLINE_EXCEEDED"


@asynccontextmanager
async def _deadline(limit_s: float | None) -> AsyncIterator[None]:
    scope = asyncio.timeout(limit_s)
    try:
        async with scope:
            yield
    except TimeoutError:
        if scope.expired():
            raise DeadlineExceeded("DEADLINE_EXCEEDED", f"the call took longer than {limit_s:g} s") from None
        raise


@asynccontextmanager
async def _guarded(method: str, context: Context) -> AsyncIterator[None]:
    started = asyncio.get_running_loop().time()
    # Asked now: a stream's generator may be closed after its call is gone, and then peer() is a segmentation fault (grpc 1.83).
    peer = context.peer()
    outcome: VmhaError | None = None
    try:
        yield
    except grpc.aio.AbortError:
        # The handler ended the call itself; it is an Exception, and must pass.
        raise
    except VmhaError as error:
        outcome = error
        await _abort(context, error)
    except NotImplementedError:
        outcome = Unsupported("METHOD_UNKNOWN", f"this release does not serve {method}")
        await _abort(context, outcome)
    except (grpc.aio.InternalError, grpc.aio.UsageError):
        # A write to a call that has ended meanwhile: there is nobody left to tell.
        _log.debug("call ended under its handler", method=method)
        raise
    except Exception as error:
        outcome = _expected(error)
        if outcome is None:
            _log.exception("handler failed", method=method, peer=peer)
            outcome = VmhaError("INTERNAL_ERROR", "internal error; the server's log has the details")
        await _abort(context, outcome, cause=error)
    finally:
        _access(method, peer, outcome, asyncio.get_running_loop().time() - started)


def _expected(error: Exception) -> VmhaError | None:
    """The VmhaError of a handler's TaskGroup, when its tasks failed of nothing else."""
    if not isinstance(error, ExceptionGroup):
        return error if isinstance(error, VmhaError) else None
    leaves = [_expected(leaf) for leaf in error.exceptions]
    return None if None in leaves else leaves[0]


async def _abort(context: Context, error: VmhaError, cause: Exception | None = None) -> Never:
    status = to_status(error)
    # abort's own exception would drag the cause's text along into grpc's log; `from None` keeps ours the only record.
    try:
        await context.abort(
            grpc.StatusCode[error.code], status.message, trailing_metadata=((DETAILS_KEY, status.SerializeToString()),)
        )
    except grpc.aio.AbortError as aborted:
        raise aborted from None
    raise AssertionError("abort returned") from cause


def _access(method: str, peer: str, outcome: VmhaError | None, duration_s: float) -> None:
    if method.startswith(_QUIET):
        return
    if outcome is None:
        _log.debug("call", method=method, peer=peer, duration_s=round(duration_s, 4))
    else:
        _log.info(
            "call refused",
            method=method,
            peer=peer,
            code=outcome.code,
            reason=outcome.reason,
            message=outcome.message,
            duration_s=round(duration_s, 4),
        )
