"""What the command line prints: tables for people, proto JSON for programs, one clear line for each mistake."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmha.errors import EnablementRefused, InvalidField, VmhaError
from vmha.rpc.scalars import enum_prefix

_WIDTH_IN_A_PIPE: Final = 400
"""A table that goes to a file or to grep is never wrapped."""
_STYLES: Final = {
    "HEALTHY": "green", "ACTIVE": "green", "MOVED": "green", "RUNNING": "green", "SUCCEEDED": "green", "REBUILT": "green",
    "RESTARTED": "green", "OK": "green", "SUSPECT": "yellow", "COOLDOWN": "yellow", "WAITING": "yellow", "PENDING": "yellow",
    "AGENT_LOST": "yellow", "ISOLATED": "yellow", "IN_MAINTENANCE": "cyan", "DEGRADED": "yellow", "REFUSED": "yellow",
    "PARTIALLY_FAILED": "red", "FAILED": "red", "DOWN": "red", "FENCE_PENDING": "bold red", "TIMEOUT": "red",
    "FENCING": "magenta", "FENCED": "magenta", "EVACUATING": "magenta", "EVACUATED": "blue", "UNKNOWN": "dim", "DISABLED": "dim",
}  # fmt: skip


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


def console() -> Console:
    """Standard output as rich sees it at this moment."""
    out = Console(highlight=False, soft_wrap=True)
    if not out.is_terminal:
        out = Console(highlight=False, width=_WIDTH_IN_A_PIPE, soft_wrap=True)
    return out


def clean(text: object) -> str:
    """Text from outside, without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def cell(text: object) -> Text:
    """A table's cell; states have their colours."""
    shown = clean(text)
    return Text(shown, style=_STYLES.get(shown, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, also when it has no rows."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, no_wrap=True)
    for row in rows:
        grid.add_row(*(cell(item) for item in row))
    _show(grid)


def facts(rows: Iterable[tuple[str, object]]) -> None:
    """Print named values, one on each line; what is empty is a dash."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, cell("-" if value == "" else value))
    _show(grid)


def _show(grid: Table) -> None:
    out = console()
    if out.is_terminal:
        out.print(grid)
        return
    with out.capture() as captured:
        out.print(grid)
    # A table pads its last column; nobody who reads a file wants that.
    sys.stdout.writelines(f"{row.rstrip()}\n" for row in captured.get().splitlines())


def line(text: str) -> None:
    """Print one line of text."""
    console().print(Text(clean(text)))


def heading(text: str) -> None:
    """Print a heading between tables."""
    console().print(Text(f"\n{clean(text)}", style="bold"))


def as_dict(message: Message) -> dict[str, Any]:
    """A message as proto JSON, with field names as in the contract and empty fields present."""
    content: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return content


def json_document(content: object) -> None:
    """Print one indented JSON document."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def json_line(message: Message) -> None:
    """Print a message as one line, at once: for streams."""
    sys.stdout.write(json.dumps(as_dict(message)) + "\n")
    sys.stdout.flush()


def name_of(pb_enum: Any, number: int) -> str:
    """An enum's value without its prefix; its number when this release does not know it."""
    wrapper: EnumTypeWrapper = pb_enum
    value = wrapper.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else str(value.name).removeprefix(enum_prefix(wrapper.DESCRIPTOR.name))


def time_of(moment: Timestamp) -> str:
    """A time in UTC, to the second; empty when it is not set."""
    if not moment.seconds:
        return ""
    return datetime.fromtimestamp(moment.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def complain(error: VmhaError) -> None:
    """Say what went wrong on standard error: reason and message on one line, each broken rule or field on its own."""
    say = sys.stderr.write
    if isinstance(error, EnablementRefused):
        say(f"vmha: {error.reason}\n")
        for rule in error.rules:
            subject = f" ({clean(rule.subject)})" if rule.subject else ""
            say(f"  {clean(rule.rule)}{subject}: {clean(rule.message)}\n")
    elif isinstance(error, InvalidField) and len(error.violations) > 1:
        say(f"vmha: {error.reason}\n")
        for violation in error.violations:
            say(f"  {clean(violation.field)}: {clean(violation.description)}\n")
    else:
        say(f"vmha: {clean(error.reason)}: {clean(error.message)}\n")


def json_record(content: object) -> None:
    """Print one JSON object on one line, at once."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()
