"""The fields of a scenario: one table for each kind of object, read by the parser and held against docs/simulator.md.

Pure: values in, values and violations out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from vmha.errors import FieldViolation
from vmha.model import valid_id

REQUIRED: Final = "required"
"""In a field's `default`: it must be given."""
OPTIONAL: Final = None
"""In a field's `default`: it may be left out, and then is not there."""


class Kind(StrEnum):
    """What a value must be."""

    TEXT = "text"
    ID = "id"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    TEXTS = "list of texts"
    CHOICES = "list of choices"
    OBJECT = "object"
    OBJECTS = "list of objects"
    HOST = "host"
    HOSTS = "list of hosts"
    VM = "VM"
    VMS = "list of VMs"
    ENDPOINT = "endpoint"
    SIDES = "list of lists of endpoints"
    MANAGER = "manager"
    SWITCH = "on or off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field.

    Attributes:
        default: Its value when it is left out; REQUIRED or OPTIONAL.
        choices: What it may say (CHOICE, CHOICES).
        above: It must be more than this, not just as much.
        aliases: Other names under which it is taken.
    """

    name: str
    kind: Kind
    default: Any = REQUIRED
    low: float = -math.inf
    high: float = math.inf
    above: float | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(slots=True)
class Known:
    """What a field may refer to."""

    hosts: Collection[str] = ()
    vms: Collection[str] = ()
    managers: int = 1


@dataclass(slots=True)
class Reader:
    """Reads objects field by field and collects everything that is wrong."""

    known: Known = field(default_factory=Known)
    wrong: list[FieldViolation] = field(default_factory=list)

    def refuse(self, place: str, text: str) -> None:
        """Something is wrong at a place."""
        self.wrong.append(FieldViolation(place, text))

    def read(self, raw: object, fields: Sequence[Field], place: str, also: Collection[str] = ()) -> dict[str, Any]:
        """An object's values by field name, defaults filled in; what is wrong is left out.

        Args:
            also: Keys that are allowed beside the fields.
        """
        if not isinstance(raw, Mapping):
            self.refuse(place or "scenario", f"must be an object, is {shown(raw)}")
            return {}
        spelled = {name: item for item in fields for name in (item.name, *item.aliases)}
        known = ", ".join([*(item.name for item in fields), *sorted(also)])
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key in also:
                continue
            if key not in spelled:
                self.refuse(_join(place, key), f"unknown key; there are {known}")
                continue
            item = spelled[key]
            if item.name in values:
                self.refuse(_join(place, key), f"is given twice, as {item.name} too")
                continue
            values[item.name] = self.value(value, item, _join(place, key))
        self._fill(values, fields, place)
        return {key: value for key, value in values.items() if value is not _WRONG}

    def value(self, raw: object, item: Field, place: str) -> Any:
        """A value, or what stands for a wrong one."""
        return _READERS[item.kind](self, raw, item, place)

    def _fill(self, values: dict[str, Any], fields: Sequence[Field], place: str) -> None:
        for item in fields:
            if item.name in values:
                continue
            if item.default is REQUIRED:
                self.refuse(_join(place, item.name), "is required")
            elif item.default is not OPTIONAL:
                values[item.name] = item.default

    # By kind

    def _text(self, raw: object, item: Field, place: str) -> Any:
        if not isinstance(raw, str):
            return self._not(place, "a text", raw)
        return raw

    def _identifier(self, raw: object, item: Field, place: str) -> Any:
        if not isinstance(raw, str) or not valid_id(raw):
            return self._not(place, "1 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends", raw)
        return raw

    def _number(self, raw: object, item: Field, place: str) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            return self._not(place, "a number", raw)
        return float(raw) if self._within(raw, item, place) else _WRONG

    def _integer(self, raw: object, item: Field, place: str) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, int):
            return self._not(place, "a whole number", raw)
        return raw if self._within(raw, item, place) else _WRONG

    def _within(self, value: float, item: Field, place: str) -> bool:
        if item.above is not None and value <= item.above:
            self.refuse(place, f"must be more than {item.above:g}, is {value:g}")
        elif not item.low <= value <= item.high:
            expected = f"at least {item.low:g}" if item.high == math.inf else f"from {item.low:g} to {item.high:g}"
            self.refuse(place, f"must be {expected}, is {value:g}")
        else:
            return True
        return False

    def _boolean(self, raw: object, item: Field, place: str) -> Any:
        return raw if isinstance(raw, bool) else self._not(place, "true or false", raw)

    def _switch(self, raw: object, item: Field, place: str) -> Any:
        if isinstance(raw, bool):
            return raw
        return raw == "on" if raw in {"on", "off"} else self._not(place, '"on" or "off"', raw)

    def _choice(self, raw: object, item: Field, place: str) -> Any:
        if not isinstance(raw, str) or raw not in item.choices:
            return self._not(place, f"one of {', '.join(item.choices)}", raw)
        return raw

    def _list(self, raw: object, place: str, of: str) -> Iterator[tuple[str, object]] | None:
        if isinstance(raw, str) or not isinstance(raw, Sequence):
            self._not(place, f"a list of {of}", raw)
            return None
        return ((f"{place}[{i}]", value) for i, value in enumerate(raw))

    def _all(self, raw: object, place: str, of: str, read: Callable[[object, str], Any]) -> Any:
        items = self._list(raw, place, of)
        if items is None:
            return _WRONG
        values: list[Any] = []
        for where, value in items:
            got = read(value, where)
            if got is not _WRONG and got in values:
                self.refuse(where, f"{shown(value)} is named twice")
            values.append(got)
        return _WRONG if any(value is _WRONG for value in values) else tuple(values)

    def _texts(self, raw: object, item: Field, place: str) -> Any:
        return self._all(raw, place, "texts", lambda value, where: self._text(value, item, where))

    def _choices(self, raw: object, item: Field, place: str) -> Any:
        return self._all(raw, place, "texts", lambda value, where: self._choice(value, item, where))

    def _object(self, raw: object, item: Field, place: str) -> Any:
        return raw if isinstance(raw, Mapping) else self._not(place, "an object", raw)

    def _objects(self, raw: object, item: Field, place: str) -> Any:
        if isinstance(raw, str) or not isinstance(raw, Sequence):
            return self._not(place, "a list of objects", raw)
        return raw

    def _host(self, raw: object, item: Field, place: str) -> Any:
        return self._one_of(raw, self.known.hosts, "host", place)

    def _hosts(self, raw: object, item: Field, place: str) -> Any:
        return self._some(raw, item, place, "hosts", self._host)

    def _vm(self, raw: object, item: Field, place: str) -> Any:
        return self._one_of(raw, self.known.vms, "VM", place)

    def _vms(self, raw: object, item: Field, place: str) -> Any:
        return self._some(raw, item, place, "VMs", self._vm)

    def _some(self, raw: object, item: Field, place: str, of: str, read: Callable[[object, Field, str], Any]) -> Any:
        values = self._all(raw, place, of, lambda value, where: read(value, item, where))
        return self._not(place, f"at least one of the {of}", raw) if values == () else values

    def _one_of(self, raw: object, known: Collection[str], of: str, place: str) -> Any:
        if not isinstance(raw, str):
            return self._not(place, f"the id of a {of}", raw)
        if raw not in known:
            self.refuse(place, f"unknown {of} {shown(raw)}; there {listed(known)}")
            return _WRONG
        return raw

    def _endpoint(self, raw: object, item: Field, place: str) -> Any:
        if not isinstance(raw, str):
            return self._not(place, "a host or part of the management plane", raw)
        planes = endpoints(self.known.managers)
        if raw in planes or raw in self.known.hosts:
            return raw
        self.refuse(place, f"unknown endpoint {shown(raw)}; there {listed([*self.known.hosts, *planes])}")
        return _WRONG

    def _sides(self, raw: object, item: Field, place: str) -> Any:
        def side(value: object, where: str) -> Any:
            return self._all(value, where, "endpoints", lambda each, at: self._endpoint(each, item, at))

        sides = self._all(raw, place, "sides", side)
        if sides is _WRONG:
            return sides
        if len(sides) < 2 or not all(sides):
            return self._not(place, "at least two sides, each with an endpoint", raw)
        seen: set[str] = set()
        for i, names in enumerate(sides):
            for name in names:
                if name in seen:
                    self.refuse(f"{place}[{i}]", f"{shown(name)} is on another side too")
                seen.add(name)
        return sides

    def _manager(self, raw: object, item: Field, place: str) -> Any:
        if raw == "all":
            return raw
        if isinstance(raw, bool) or not isinstance(raw, int):
            return self._not(place, 'the number of a manager, or "all"', raw)
        if not 0 <= raw < self.known.managers:
            self.refuse(place, f"must be from 0 to {self.known.managers - 1}, is {raw}")
            return _WRONG
        return raw

    def _not(self, place: str, expected: str, raw: object) -> Any:
        self.refuse(place, f"must be {expected}, is {shown(raw)}")
        return _WRONG


_WRONG: Final = object()
_READERS: Final[Mapping[Kind, Callable[[Reader, object, Field, str], Any]]] = {
    Kind.TEXT: Reader._text,
    Kind.ID: Reader._identifier,
    Kind.NUMBER: Reader._number,
    Kind.INTEGER: Reader._integer,
    Kind.BOOLEAN: Reader._boolean,
    Kind.CHOICE: Reader._choice,
    Kind.TEXTS: Reader._texts,
    Kind.CHOICES: Reader._choices,
    Kind.OBJECT: Reader._object,
    Kind.OBJECTS: Reader._objects,
    Kind.HOST: Reader._host,
    Kind.HOSTS: Reader._hosts,
    Kind.VM: Reader._vm,
    Kind.VMS: Reader._vms,
    Kind.ENDPOINT: Reader._endpoint,
    Kind.SIDES: Reader._sides,
    Kind.MANAGER: Reader._manager,
    Kind.SWITCH: Reader._switch,
}


def endpoints(managers: int) -> list[str]:
    """The parts of the management plane that a link or a side may name."""
    return ["management", *(f"manager/{i}" for i in range(managers)), "evac", "store"]


def listed(names: Collection[str]) -> str:
    """`are h1, h2`, or `are none`; long lists are cut."""
    if not names:
        return "are none"
    some = list(names)[:20]
    return "are " + ", ".join(some) + (f" and {len(names) - len(some)} more" if len(names) > len(some) else "")


def shown(raw: object) -> str:
    """A value as JSON would write it, cut short."""
    if raw is None or isinstance(raw, bool):
        return {None: "null", True: "true", False: "false"}[raw]
    if isinstance(raw, Mapping):
        return "an object"
    if isinstance(raw, list | tuple):
        return "a list" if raw else "an empty list"
    text = f'"{raw}"' if isinstance(raw, str) else str(raw)
    return text if len(text) <= 60 else text[:57] + "..."


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else str(key)
