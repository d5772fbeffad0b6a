"""Every error that crosses a room's border, in one tree.

    VmhaError                     has `reason` (contract, docs/errors.md), `code` (gRPC status name), `metadata`
      InvalidField                INVALID_ARGUMENT   FIELD_INVALID       a request, config or message field is wrong; names all
      NotFound                    NOT_FOUND          *_UNKNOWN
      AlreadyExists               ALREADY_EXISTS     *_EXISTS
      PreconditionFailed          FAILED_PRECONDITION
        EnablementRefused         FAILED_PRECONDITION ENABLEMENT_REFUSED lists each broken rule
      PermissionDenied            PERMISSION_DENIED  HOST_MISMATCH, CALLER_NOT_ALLOWED
      Aborted                     ABORTED            STALE_*, ETAG_MISMATCH, HOST_BUSY, SESSION_SUPERSEDED
      Exhausted                   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE, OUTBOX_FULL, WATCHER_TOO_SLOW
      OutOfRange                  OUT_OF_RANGE       REVISION_COMPACTED
      Unavailable                 UNAVAILABLE        STORE_UNAVAILABLE, LIBVIRT_UNAVAILABLE, DRAINING
      Unsupported                 UNIMPLEMENTED      RELAY_NOT_SUPPORTED

`vmha.rpc` turns them into google.rpc.Status and back; nothing else does. Messages never hold secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


class VmhaError(Exception):
    """An error with a reason that programs can rely on.

    Attributes:
        reason: UPPER_SNAKE_CASE, listed in docs/errors.md.
        metadata: The dynamic parts of the message, for programs.
    """

    code = "INTERNAL"

    def __init__(self, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})

    def again(self) -> Self:
        """The same error for another task to raise: one that many raise collects all their tracebacks, and keeps their frames."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        return twin


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong: its path, as `report.observations[3].host_id`, and what was expected."""

    field: str
    description: str


class InvalidField(VmhaError):
    """Fields of a request, configuration or message are wrong; all of them are named at once."""

    code = "INVALID_ARGUMENT"

    def __init__(
        self, violations: Sequence[FieldViolation], *, reason: str = "FIELD_INVALID", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason, "; ".join(f"{v.field}: {v.description}" for v in violations), metadata)
        self.violations = tuple(violations)


class NotFound(VmhaError):
    """The named thing does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(VmhaError):
    """The named thing exists, and differs."""

    code = "ALREADY_EXISTS"


class PreconditionFailed(VmhaError):
    """The present state does not allow the request; it may be repeated when the state has changed."""

    code = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """One rule that stands against a request: its name, what it is about, and what a person reads."""

    rule: str
    subject: str
    message: str


class EnablementRefused(PreconditionFailed):
    """Protection cannot be switched on; each broken rule is listed (S10, S11, S13)."""

    def __init__(self, rules: Sequence[BrokenRule]) -> None:
        names = ",".join(dict.fromkeys(r.rule for r in rules if r.rule))
        super().__init__("ENABLEMENT_REFUSED", " ".join(r.message for r in rules), {"rules": names})
        self.rules = tuple(rules)


class PermissionDenied(VmhaError):
    """The caller's certificate does not allow the call."""

    code = "PERMISSION_DENIED"


class Aborted(VmhaError):
    """Somebody newer was faster: read again, then decide."""

    code = "ABORTED"


class Exhausted(VmhaError):
    """A bound was reached."""

    code = "RESOURCE_EXHAUSTED"


class OutOfRange(VmhaError):
    """What was asked for is no longer kept."""

    code = "OUT_OF_RANGE"


class Unavailable(VmhaError):
    """Something outside this process does not answer; try again."""

    code = "UNAVAILABLE"


class Unsupported(VmhaError):
    """This release does not do that."""

    code = "UNIMPLEMENTED"
