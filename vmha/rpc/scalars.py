"""Enums, spans and times of the contract.

Spans are float seconds here, times are Unix seconds. 0.0 as a time means "not yet" and leaves the field unset.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.timestamp_pb2 import Timestamp

from vmha.errors import FieldViolation, InvalidField

P = TypeVar("P", bound=int)
M = TypeVar("M", bound=StrEnum)
_NANOS: Final = 1_000_000_000


@cache
def enum_prefix(name: str) -> str:
    """The prefix of an enum's values: HOST_STATE_ for HostState."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper() + "_"


def enum_to_proto(pb_enum: type[P], member: StrEnum) -> P:
    """The contract's value of a model enum's member, found by its name: HostState.DOWN is HOST_STATE_DOWN."""
    wrapper = cast(EnumTypeWrapper, pb_enum)
    return cast(P, wrapper.Value(enum_prefix(wrapper.DESCRIPTOR.name) + member.value))


def enum_from_proto(model: type[M], pb_enum: type[int], number: int, default: M | None = None, *, field: str = "") -> M:
    """The model's member for a number from the wire.

    A number that this release does not know, or that has no member, is `default`.

    Raises:
        InvalidField: There is none and no default.
    """
    wrapper = cast(EnumTypeWrapper, pb_enum)
    prefix = enum_prefix(wrapper.DESCRIPTOR.name)
    value = wrapper.DESCRIPTOR.values_by_number.get(number)
    if value is not None:
        name = value.name.removeprefix(prefix)
        if name in model._value2member_map_:
            return model(name)
    if default is not None:
        return default
    known = ", ".join(f"{prefix}{member.value}" for member in model)
    raise InvalidField([FieldViolation(field or wrapper.DESCRIPTOR.name, f"must be one of {known}")])


def duration(seconds: float) -> Duration:
    """A span as Duration, to the nanosecond."""
    whole = math.floor(seconds)
    nanos = round((seconds - whole) * _NANOS)
    span = Duration(seconds=whole + nanos // _NANOS, nanos=nanos % _NANOS)
    if span.seconds < 0 and span.nanos:
        span = Duration(seconds=span.seconds + 1, nanos=span.nanos - _NANOS)
    return span


def seconds(span: Duration | timedelta) -> float:
    """A Duration in seconds."""
    if isinstance(span, timedelta):
        return span.total_seconds()
    return span.seconds + span.nanos / _NANOS


def timestamp(unix_s: float) -> Timestamp | None:
    """A time as Timestamp; None, which leaves a field unset, for 0.0."""
    if not unix_s:
        return None
    return Timestamp(seconds=int(unix_s), nanos=min(_NANOS - 1, round((unix_s - int(unix_s)) * _NANOS)))
