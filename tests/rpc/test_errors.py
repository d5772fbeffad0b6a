"""Errors on their way through google.rpc.Status."""

from __future__ import annotations

import grpc
import pytest

from vmha import errors
from vmha.rpc.errors import DETAILS_KEY, from_rpc_error, is_transient, to_status


def through_the_wire(error: errors.VmhaError) -> errors.VmhaError:
    status = to_status(error)
    trailers = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode[error.code], grpc.aio.Metadata(), trailers, details=status.message)
    )


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("HOST_UNKNOWN", "no host h1", {"host_id": "h1"}),
        errors.AlreadyExists("HOST_EXISTS", "h1 exists"),
        errors.PreconditionFailed("HOST_ALIVE", "h1 is alive"),
        errors.Aborted("STALE_FENCE_EPOCH", "epoch 3 is over"),
        errors.Exhausted("OUTBOX_FULL", "too slow"),
        errors.OutOfRange("REVISION_COMPACTED", "gone", {"oldest_revision": "17"}),
        errors.Unavailable("STORE_UNAVAILABLE", "Redis does not answer"),
        errors.Unsupported("RELAY_NOT_SUPPORTED", "not yet"),
    ],
)
def test_an_error_comes_back_as_itself(error: errors.VmhaError) -> None:
    """Class, reason, message and metadata survive the wire."""
    back = through_the_wire(error)

    assert (type(back), back.reason, back.message, back.metadata) == (
        type(error),
        error.reason,
        error.message,
        error.metadata,
    )


def test_every_wrong_field_survives() -> None:
    """BadRequest carries each field by its path."""
    violations = [errors.FieldViolation("report.observations[3].host_id", "is required"), errors.FieldViolation("b", "no")]

    back = through_the_wire(errors.InvalidField(violations, reason="FOREIGN_HOST"))

    assert isinstance(back, errors.InvalidField)
    assert back.violations == tuple(violations)
    assert back.reason == "FOREIGN_HOST"


def test_every_broken_rule_survives() -> None:
    """PreconditionFailure carries each rule with its own sentence."""
    rules = [
        errors.BrokenRule("MIN_HOSTS", "clusters/c1", "At least two hosts are required to enable VM HA."),
        errors.BrokenRule("AGGREGATES", "clusters/c1", "VM HA cannot be enabled because ..."),
    ]

    back = through_the_wire(errors.EnablementRefused(rules))

    assert isinstance(back, errors.EnablementRefused)
    assert back.rules == tuple(rules)


def test_a_thousand_wrong_fields_fit_into_trailers() -> None:
    """Clients take 8 KiB of trailers: what does not fit is counted, and the call still says INVALID_ARGUMENT."""
    many = [errors.FieldViolation(f"report.observations[{i}].host_id", "must match " + "x" * 500) for i in range(1000)]

    status = to_status(errors.InvalidField(many))

    assert status.ByteSize() + len(status.message) < 6500
    back = through_the_wire(errors.InvalidField(many))
    assert isinstance(back, errors.InvalidField)
    assert back.violations[-1].description.startswith("and 9")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "PEER_UNREACHABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, "CALL_CANCELLED"),
    ],
)
def test_a_failure_of_the_transport_is_transient(code: grpc.StatusCode, reason: str) -> None:
    """What grpc itself answers carries no ErrorInfo; it may be retried."""
    mapped = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="socket closed"))

    assert is_transient(mapped)
    assert mapped.reason == reason


def test_a_foreign_servers_broken_details_are_ignored() -> None:
    """Bytes that are no Status leave code and text."""
    trailers = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff\xff"))

    mapped = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, details="no"))

    assert isinstance(mapped, errors.NotFound)
    assert mapped.message == "no"


def test_an_internal_error_keeps_its_code() -> None:
    """A code outside the tree is kept on the error itself."""
    mapped = from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode.PERMISSION_DENIED, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no")
    )

    assert mapped.code == "PERMISSION_DENIED"
    assert not is_transient(mapped)
