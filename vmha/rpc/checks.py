"""Collects what is wrong with a message, so that a caller hears of all of it at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from google.protobuf.duration_pb2 import Duration

from vmha.errors import FieldViolation, InvalidField
from vmha.model import valid_id
from vmha.rpc.scalars import seconds

MAX_TEXT: Final = 1024
MAX_DAY_S: Final = 86_400.0
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_TARGET: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})\Z")


def valid_uuid(text: str) -> bool:
    """Whether text is a UUID as libvirt writes it."""
    return _UUID.match(text) is not None


def valid_target(text: str) -> bool:
    """Whether text is `host:port`, with an IPv6 address in brackets."""
    match = _TARGET.match(text)
    return match is not None and 0 < int(match[1]) <= 65535


class Checks:
    """`with Checks() as wrong: wrong.identifier("host_id", request.host_id)`; raises InvalidField at the end.

    Raises:
        InvalidField: On leaving the block, when something was wrong.
    """

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []

    def __enter__(self) -> Checks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self.violations:
            raise InvalidField(self.violations)

    def add(self, field: str, description: str) -> None:
        """One field is wrong."""
        self.violations.append(FieldViolation(field, description))

    def that(self, holds: bool, field: str, description: str) -> None:
        """The field is wrong unless `holds`."""
        if not holds:
            self.add(field, description)

    def identifier(self, field: str, value: str, *, optional: bool = False) -> None:
        """A cluster_id, host_id or group_id."""
        if not value:
            self.that(optional, field, "is required")
        else:
            self.that(valid_id(value), field, "must match [a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")

    def uuid(self, field: str, value: str, *, optional: bool = False) -> None:
        """A vm_id or request_id."""
        if not value:
            self.that(optional, field, "is required")
        else:
            self.that(valid_uuid(value), field, "must be a UUID")

    def target(self, field: str, value: str) -> None:
        """A required host:port."""
        self.that(valid_target(value), field, "must be host:port" if value else "is required")

    def text(self, field: str, value: str, *, required: bool = False, limit: int = MAX_TEXT) -> None:
        """Text of bounded length."""
        self.that(bool(value) or not required, field, "is required")
        self.that(len(value) <= limit, field, f"must have at most {limit} characters, has {len(value)}")

    def positive(self, field: str, value: int) -> None:
        """A required number that counts from 1."""
        self.that(value >= 1, field, "is required and counts from 1")

    def not_negative(self, field: str, value: int) -> None:
        """A number that may be 0."""
        self.that(value >= 0, field, "must not be negative")

    def span(self, field: str, value: Duration, longest_s: float = MAX_DAY_S) -> None:
        """A span from 0 to `longest_s`."""
        self.that(0 <= seconds(value) <= longest_s, field, f"must be from 0 to {longest_s:g} s, is {seconds(value):g} s")

    def count(self, field: str, found: int, limit: int) -> None:
        """A list of bounded length."""
        self.that(found <= limit, field, f"must have at most {limit} items, has {found}")

    def distinct(self, field: str, values: Iterable[str]) -> None:
        """A list without repeats."""
        seen: set[str] = set()
        for value in values:
            self.that(value not in seen, field, f"names {value} twice")
            seen.add(value)
