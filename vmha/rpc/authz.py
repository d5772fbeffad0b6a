"""Who may call what where there is mutual TLS (R24): one table, and what is not in it is refused.

A certificate names its holder by one URI: `spiffe://DOMAIN/vmha/host/HOST_ID`, `.../vmha/manager`, `.../vmha/evac` or
`.../vmha/operator/NAME`. A host speaks for itself only; whom it says to be is compared with its certificate.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import grpc

from vmha.errors import PermissionDenied
from vmha.rpc.interceptors import Context, Wrapper

_IDENTITY: Final = re.compile(r"spiffe://[^/]+/vmha/(?:(host|operator)/([^/\s]+)|(manager|evac))\Z")


class Role(StrEnum):
    """What the holder of a certificate is."""

    HOST = "host"
    MANAGER = "manager"
    EVAC = "evac"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a certificate says that its holder is; `name` is the host_id of a host, and an operator's name."""

    role: Role
    name: str = ""

    def __str__(self) -> str:
        return f"{self.role} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method, and as which host a message speaks; None: as none."""

    roles: frozenset[Role]
    speaker: Callable[[Any], str | None] | None = None


def _of(*roles: Role, speaker: Callable[[Any], str | None] | None = None) -> Rule:
    return Rule(frozenset(roles), speaker)


def _greets(message: Any) -> str | None:
    return str(message.hello.host_id) if message.HasField("hello") else None


RULES: Final[Mapping[str, Rule]] = {
    "/vmha.v1.ManagerService/GetPeers": _of(Role.HOST, speaker=lambda request: request.host_id),
    # Every later message is compared with the hello by the session itself.
    "/vmha.v1.ManagerService/ReportHealth": _of(Role.HOST, speaker=_greets),
    "/vmha.v1.AgentService/RelayHeartbeat": _of(Role.HOST, speaker=lambda request: request.heartbeat.host_id),
    "/vmha.v1.AgentService/AdmitVm": _of(Role.EVAC),
    "/vmha.v1.EvacuationService/": _of(Role.MANAGER, Role.OPERATOR),
    "/vmha.v1.ClusterService/": _of(Role.OPERATOR),
    "/vmha.v1.EventService/": _of(Role.OPERATOR),
    "/grpc.health.v1.Health/": _of(*Role),
    "/grpc.reflection.v1alpha.ServerReflection/": _of(Role.OPERATOR),
}
"""By method, or by a service whose methods are all alike."""


def caller_of(auth_context: Mapping[str, Iterable[bytes]]) -> Caller:
    """Whose certificate a call came with.

    Raises:
        PermissionDenied: CALLER_NOT_ALLOWED, it names nobody, or more than one.
    """
    found = [match for uri in auth_context.get("peer_uri", ()) if (match := _IDENTITY.match(uri.decode(errors="replace")))]
    if len(found) != 1:
        text = "the certificate must name its holder by exactly one URI spiffe://DOMAIN/vmha/{host/ID|manager|evac|operator/NAME}"
        raise PermissionDenied("CALLER_NOT_ALLOWED", text)
    named, name, plain = found[0].groups()
    return Caller(Role(named or plain), name or "")


def check(method: str, caller: Caller) -> Rule:
    """The rule of a method, which lets this caller in.

    Raises:
        PermissionDenied: CALLER_NOT_ALLOWED.
    """
    rule = RULES.get(method) or RULES.get(method[: method.rfind("/") + 1])
    if rule is None or caller.role not in rule.roles:
        raise PermissionDenied("CALLER_NOT_ALLOWED", f"{caller} may not call {method}", {"caller": str(caller), "method": method})
    return rule


def check_speaker(rule: Rule, caller: Caller, message: Any) -> None:
    """A message speaks as the caller's own host.

    Raises:
        PermissionDenied: HOST_MISMATCH.
    """
    host_id = None if rule.speaker is None else rule.speaker(message)
    if host_id is not None and host_id != caller.name:
        text = f"the certificate is that of {caller}, and the call speaks as host {host_id!r}"
        raise PermissionDenied("HOST_MISMATCH", text, {"caller": str(caller), "host_id": host_id})


class Gate(Wrapper):
    """Stands behind the `CallGuard`, on a server that demands certificates."""

    def _around(self, method: str, handler: Any, inner: Callable[..., Any]) -> Callable[[Any, Context], Any]:
        def admitted(request: Any, context: Context) -> tuple[Any, Any]:
            caller = caller_of(context.auth_context())
            rule = check(method, caller)
            if handler.request_streaming and rule.speaker is not None:
                return _checked(rule, caller, request), _CheckedContext(rule, caller, context)
            if not handler.request_streaming:
                check_speaker(rule, caller, request)
            return request, context

        async def generate(request: Any, context: Context) -> AsyncIterator[Any]:
            async with aclosing(inner(*admitted(request, context))) as messages:
                async for message in messages:
                    yield message

        async def call(request: Any, context: Context) -> Any:
            return await inner(*admitted(request, context))

        return generate if inspect.isasyncgenfunction(inner) else call


async def _checked(rule: Rule, caller: Caller, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        check_speaker(rule, caller, message)
        yield message


class _CheckedContext:
    """The context of a call: what is read through it is checked like what the iterator yields."""

    def __init__(self, rule: Rule, caller: Caller, context: Context) -> None:
        self._rule, self._caller, self._context = rule, caller, context

    async def read(self) -> Any:
        message = await self._context.read()
        if message is not grpc.aio.EOF:
            check_speaker(self._rule, self._caller, message)
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
