"""What the Redis double holds: values by key, their types and their end."""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, TypeVar

Id = tuple[int, int]
"""A stream id: milliseconds and sequence."""


class ReplyError(Exception):
    """An error reply, its code first: "WRONGTYPE Operation against ..."."""


class Status(bytes):
    """A status reply: OK, PONG."""


OK = Status(b"OK")


class Members(dict[bytes, None]):
    """A set, in the order of insertion: Redis promises none, the simulator needs one."""


class Scores(dict[bytes, float]):
    """A sorted set."""

    def ranked(self) -> list[tuple[bytes, float]]:
        """Its members from the lowest score, equal ones by bytes."""
        return sorted(self.items(), key=lambda item: (item[1], item[0]))


class Stream:
    """A stream: entries in the order of their ids."""

    __slots__ = ("fields", "ids", "last")

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.fields: list[tuple[bytes, ...]] = []
        self.last: Id = (0, 0)

    def append(self, entry_id: Id, fields: tuple[bytes, ...]) -> None:
        """Appends an entry whose id is above all others."""
        self.ids.append(entry_id)
        self.fields.append(fields)
        self.last = entry_id

    def drop_first(self, count: int) -> int:
        """Forgets the oldest entries; how many."""
        count = min(count, len(self.ids))
        del self.ids[:count]
        del self.fields[:count]
        return count

    def span(self, first: Id, last: Id) -> range:
        """The places of the entries from one id to another, both included."""
        return range(bisect_left(self.ids, first), bisect_right(self.ids, last))


Value = bytes | dict[bytes, bytes] | Members | Scores | Stream
V = TypeVar("V")
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class Keyspace:
    """The keys of one server. `now_us` is the moment of the command under way: all of a script's calls see the same one."""

    __slots__ = ("data", "ends_ms", "now_ms", "now_us")

    def __init__(self) -> None:
        self.data: dict[bytes, Any] = {}
        self.ends_ms: dict[bytes, int] = {}
        self.now_us = 0
        self.now_ms = 0

    def set_now(self, wall_s: float) -> None:
        """The moment of the next command, by the server's wall clock."""
        self.now_us = round(wall_s * 1e6)
        self.now_ms = self.now_us // 1000

    def any(self, key: bytes) -> Any:
        """The value of a key, whatever it is; None when there is none or its time is over."""
        value = self.data.get(key)
        if value is not None and key in self.ends_ms and self.now_ms > self.ends_ms[key]:
            self.drop(key)
            return None
        return value

    def find(self, key: bytes, kind: type[V]) -> V | None:
        """The value of a key that must be of this kind, or None.

        Raises:
            ReplyError: WRONGTYPE.
        """
        value = self.data.get(key)
        if value is None or (key in self.ends_ms and self.any(key) is None):
            return None
        if type(value) is not kind:
            raise ReplyError(WRONG_TYPE)
        return value

    def make(self, key: bytes, kind: type[V]) -> V:
        """The value of a key, an empty one when there was none.

        Raises:
            ReplyError: WRONGTYPE.
        """
        value = self.find(key, kind)
        if value is None:
            value = self.data[key] = kind()
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Sets a key for ever."""
        self.data[key] = value
        self.ends_ms.pop(key, None)

    def drop(self, key: bytes) -> bool:
        """Deletes a key; whether it was there."""
        self.ends_ms.pop(key, None)
        return self.data.pop(key, None) is not None

    def sweep(self) -> None:
        """Deletes all keys whose time is over."""
        for key in [key for key, end in self.ends_ms.items() if self.now_ms > end]:
            self.drop(key)

    def clear(self) -> None:
        """Deletes everything."""
        self.data.clear()
        self.ends_ms.clear()

    def copied(self) -> tuple[dict[bytes, Any], dict[bytes, int]]:
        """Everything, for `replace`."""
        return copy.deepcopy(self.data), dict(self.ends_ms)

    def replace(self, copied: tuple[dict[bytes, Any], dict[bytes, int]]) -> None:
        """Puts back what `copied` gave."""
        self.data, self.ends_ms = copy.deepcopy(copied[0]), dict(copied[1])


Arguments = Sequence[bytes]
Run = Callable[[Keyspace, Arguments], Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Args:
        run: Answers it; arguments without the command's name.
        least: How many arguments it needs.
        most: How many it may have; None: any number.
        grows: Refused by a server that is full.
    """

    run: Run
    least: int
    most: int | None
    grows: bool


COMMANDS: dict[bytes, Command] = {}
"""Every command that needs nothing but the keyspace, by its name."""


def command(name: str, least: int, most: int | None = None, *, grows: bool = False) -> Callable[[Run], Run]:
    """Registers the function as a command."""

    def register(run: Run) -> Run:
        COMMANDS[name.encode()] = Command(run, least, most, grows)
        return run

    return register


def integer(text: bytes, told: str = "ERR value is not an integer or out of range") -> int:
    """An argument as a 64-bit integer.

    Raises:
        ReplyError: It is none.
    """
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or (digits[:1] == b"0" and len(text) > 1):
        raise ReplyError(told)
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ReplyError(told)
    return value


def real(text: bytes) -> float:
    """An argument as a score.

    Raises:
        ReplyError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = nan
    if isnan(value) or b"_" in text:
        raise ReplyError("ERR value is not a valid float")
    return value


def syntax_error() -> ReplyError:
    """The error of options that make no sense."""
    return ReplyError("ERR syntax error")
