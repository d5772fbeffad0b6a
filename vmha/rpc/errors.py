"""vmha's errors as google.rpc.Status, and back.

A status carries one ErrorInfo (domain "vmha"), a BadRequest with every wrong field or a PreconditionFailure with every broken
rule. All of it travels in trailers, of which clients take 8 KiB by default: what does not fit is counted, not sent.
"""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has stubs, but no py.typed

from vmha import errors

DOMAIN: Final = "vmha"
DETAILS_KEY: Final = "grpc-status-details-bin"
_BROKEN_WRITE: Final = "Internal error from Core"
"""What grpc.aio makes of a stream that ended while it wrote to it; the status that the peer sent is lost then."""
_MESSAGE_CHARACTERS: Final = 600
_ITEM_CHARACTERS: Final = 200
_RULE_CHARACTERS: Final = 300
_DETAILS_BYTES: Final = 4000

_CLASSES: Final[dict[grpc.StatusCode, type[errors.VmhaError]]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionFailed,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
}
_REASONS: Final[dict[grpc.StatusCode, str]] = {
    # What grpc itself answers, with no ErrorInfo.
    grpc.StatusCode.UNAVAILABLE: "PEER_UNREACHABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.CANCELLED: "CALL_CANCELLED",
    grpc.StatusCode.UNIMPLEMENTED: "METHOD_UNKNOWN",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
    grpc.StatusCode.INVALID_ARGUMENT: "FIELD_INVALID",
}


def to_status(error: errors.VmhaError) -> status_pb2.Status:
    """The rich status that tells a client of `error`."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message, _MESSAGE_CHARACTERS))
    metadata = {_cut(key, 64): _cut(value, _ITEM_CHARACTERS) for key, value in error.metadata.items()}
    _attach(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, errors.InvalidField):
        _attach(status, _bad_request(error))
    if isinstance(error, errors.EnablementRefused):
        _attach(status, _precondition_failure(error))
    return status


def _bad_request(error: errors.InvalidField) -> error_details_pb2.BadRequest:
    answer = error_details_pb2.BadRequest()
    for number, violation in enumerate(error.violations):
        if answer.ByteSize() > _DETAILS_BYTES:
            answer.field_violations.add(field="", description=f"and {len(error.violations) - number} more")
            break
        answer.field_violations.add(
            field=_cut(violation.field, _ITEM_CHARACTERS), description=_cut(violation.description, _ITEM_CHARACTERS)
        )
    return answer


def _precondition_failure(error: errors.EnablementRefused) -> error_details_pb2.PreconditionFailure:
    answer = error_details_pb2.PreconditionFailure()
    for number, rule in enumerate(error.rules):
        if answer.ByteSize() > _DETAILS_BYTES:
            answer.violations.add(type="", subject="", description=f"and {len(error.rules) - number} more")
            break
        answer.violations.add(type=rule.rule, subject=rule.subject, description=_cut(rule.message, _RULE_CHARACTERS))
    return answer


def from_rpc_error(error: grpc.RpcError) -> errors.VmhaError:
    """The vmha error behind a failed call, in its own class and with its reason.

    A failure of the transport (UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, or a stream that ended under a write) is `Unavailable`.
    """
    if not isinstance(error, grpc.aio.AioRpcError):
        return errors.VmhaError("INTERNAL_ERROR", "the call failed")
    status = _rich_status(error)
    detail = _details(status)
    info, code = detail.info, error.code()
    if code is grpc.StatusCode.INTERNAL and not info.reason and error.details() == _BROKEN_WRITE:
        return errors.Unavailable("PEER_UNREACHABLE", "the stream ended while a message was written to it")
    reason = info.reason or _REASONS.get(code, "INTERNAL_ERROR")
    message = error.details() or reason
    metadata = dict(info.metadata)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        violations = [errors.FieldViolation(v.field, v.description) for v in detail.bad_request.field_violations]
        return errors.InvalidField(violations or [errors.FieldViolation("request", message)], reason=reason, metadata=metadata)
    if reason == "ENABLEMENT_REFUSED" and detail.precondition.violations:
        return errors.EnablementRefused(
            [errors.BrokenRule(v.type, v.subject, v.description) for v in detail.precondition.violations]
        )
    result = _CLASSES.get(code, errors.VmhaError)(reason, message, metadata)
    if type(result) is errors.VmhaError:
        result.code = code.name
    return result


def is_transient(error: errors.VmhaError) -> bool:
    """Whether the same call may succeed when it is simply repeated later."""
    return isinstance(error, errors.Unavailable)


class _Details:
    """The details that vmha understands, empty when absent."""

    def __init__(self) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.precondition = error_details_pb2.PreconditionFailure()


def _details(status: status_pb2.Status) -> _Details:
    found = _Details()
    for packed in status.details:
        for message in (found.info, found.bad_request, found.precondition):
            if packed.Is(message.DESCRIPTOR):
                packed.Unpack(message)
    return found


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
