"""Exit codes, as docs/cli.md promises them."""

from __future__ import annotations

from enum import IntEnum

from vmha.errors import InvalidField, NotFound, Unavailable, VmhaError


class Exit(IntEnum):
    """What a command's end means."""

    OK = 0
    REFUSED = 1
    """The server refused or failed."""
    USAGE = 2
    """The command line or a file is wrong."""
    NOT_FOUND = 3
    """The named thing does not exist."""
    UNREACHABLE = 4
    """The server cannot be reached, did not answer in time, or lacks its store."""
    VMS_FAILED = 5
    """The evacuation ended with VMs that could not be moved."""
    UNFIT = 6
    """doctor found something that keeps protection off."""
    INTERRUPTED = 130
    """Ctrl-C."""


def of(error: VmhaError) -> Exit:
    """The exit code that tells of `error`."""
    if isinstance(error, InvalidField):
        return Exit.USAGE
    if isinstance(error, NotFound):
        return Exit.NOT_FOUND
    if isinstance(error, Unavailable):
        return Exit.UNREACHABLE
    return Exit.REFUSED
