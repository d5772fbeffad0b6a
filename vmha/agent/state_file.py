"""Where the agent's record is kept, behind a Protocol: a file of this boot, or memory in the simulator."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from vmha.errors import Unavailable


class StateFile(Protocol):
    """One record, replaced as a whole."""

    @property
    def name(self) -> str:
        """What people call it, for logs."""
        ...

    def read(self) -> bytes | None:
        """What was written last; None when there is nothing. Raises OSError when it can't be read."""
        ...

    def write(self, content: bytes) -> None:
        """Replace it; durable when this returns. Raises Unavailable(STATE_UNAVAILABLE): either one may be there."""
        ...

    def remove(self) -> None:
        """There is nothing any more; nothing before is success. Raises Unavailable(STATE_UNAVAILABLE)."""
        ...


class DiskFile:
    """A file that is replaced by renaming, synced with its directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    def read(self) -> bytes | None:
        """See `StateFile`."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """See `StateFile`."""
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            self._sync_directory()
        except OSError as error:
            raise self._unavailable("written", error) from None

    def remove(self) -> None:
        """See `StateFile`."""
        try:
            with suppress(FileNotFoundError):
                self._path.unlink()
                self._sync_directory()
        except OSError as error:
            raise self._unavailable("removed", error) from None

    def _sync_directory(self) -> None:
        # Without it a crash may bring back the older name.
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _unavailable(self, what: str, error: OSError) -> Unavailable:
        message = f"{self._path} cannot be {what}: {error.strerror}"
        return Unavailable("STATE_UNAVAILABLE", message, {"path": str(self._path)})


class MemoryFile:
    """A record that outlives the agent, and is gone with whoever holds it."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.content: bytes | None = None

    @property
    def name(self) -> str:
        """What it was called when it was made."""
        return self._name

    def read(self) -> bytes | None:
        """See `StateFile`."""
        return self.content

    def write(self, content: bytes) -> None:
        """See `StateFile`."""
        self.content = content

    def remove(self) -> None:
        """See `StateFile`."""
        self.content = None
