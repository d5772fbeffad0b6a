"""The host's file systems as the agent sees them: the table of mounts, and files on storage that may hang for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

from vmha.agent import shared_files
from vmha.agent.shared_files import Found, Unfit
from vmha.agent.shared_proof import Owner
from vmha.agent.storage import Mount, mount_of, parse_mounts
from vmha.bulkhead import Bulkhead, CallLost, CallNotMade

T = TypeVar("T")
ANSWER_S: Final = 5.0
"""A mount that has not answered by then hangs, and is asked nothing more until it does."""
HOST: Final = Path("/proc/1")
"""Whose mounts and root count: the host's, also where the agent runs in a container that shows it the host's processes."""
OWN: Final = Path("/proc/self")


class StoragePort(Protocol):
    """Every method has a bound of its own."""

    def mounts(self) -> tuple[Mount, ...]:
        """What is mounted; empty when nobody can tell. The kernel's own table: it asks no storage."""
        ...

    async def resolve(self, paths: Collection[str]) -> Mapping[str, str]:
        """The paths without symbolic links, of those whose storage answered."""
        ...

    async def read(self, directory: str, host_id: str, *, others: bool) -> Found:
        """Token and stamps in a directory, see `shared_files.read`. Raises Unfit, also when it does not answer."""
        ...

    async def write(self, directory: str, host_id: str, stamp: str) -> None:
        """Replace this host's stamp. Raises Unfit, also when it does not answer."""
        ...

    async def owner(self, directory: str) -> Owner | None:
        """Whose a directory is; None when it is not there. Raises Unfit, also when it does not answer."""
        ...


class HostStorage:
    """See `StoragePort`. Each mount has a thread of its own: one that hangs takes no other with it."""

    def __init__(self, *, answer_s: float = ANSWER_S, process: Path = HOST) -> None:
        self._answer_s = answer_s
        self._process = process
        self._mounts: tuple[Mount, ...] = ()
        self._bulkheads: dict[str, Bulkhead] = {}

    def mounts(self) -> tuple[Mount, ...]:
        """See `StoragePort`."""
        for process in (self._process, OWN):
            with suppress(OSError):
                self._mounts = parse_mounts((process / "mountinfo").read_text(errors="surrogateescape"))
                return self._mounts
        return ()

    async def resolve(self, paths: Collection[str]) -> Mapping[str, str]:
        """See `StoragePort`."""
        root = self._root()
        groups: dict[str, list[str]] = {}
        for path in sorted(paths):
            groups.setdefault(self._point(path), []).append(path)
        found = await asyncio.gather(*(self._resolve(group, root) for group in groups.values()))
        return {path: resolved for group in found for path, resolved in group.items()}

    async def read(self, directory: str, host_id: str, *, others: bool) -> Found:
        """See `StoragePort`."""
        return await self._ask(directory, lambda: shared_files.read(directory, host_id, others=others))

    async def write(self, directory: str, host_id: str, stamp: str) -> None:
        """See `StoragePort`."""
        await self._ask(directory, lambda: shared_files.write(directory, host_id, stamp))

    async def owner(self, directory: str) -> Owner | None:
        """See `StoragePort`."""
        return await self._ask(directory, lambda: shared_files.owner(directory))

    async def _resolve(self, paths: Sequence[str], root: str) -> Mapping[str, str]:
        def resolved() -> dict[str, str]:
            found = {}
            for path in paths:
                with suppress(Unfit):
                    found[path] = shared_files.resolve(path, root)
            return found

        try:
            return await self._ask(paths[0], resolved)
        except Unfit:
            return {}

    async def _ask(self, path: str, question: Callable[[], T]) -> T:
        point = self._point(path)
        if point not in self._bulkheads:
            self._bulkheads[point] = Bulkhead(f"storage {point}", size=1, max_lost=1)
        try:
            return await self._bulkheads[point].run(question, self._answer_s)
        except (CallLost, CallNotMade):
            raise Unfit(f"{point} does not answer") from None

    def _point(self, path: str) -> str:
        mount = mount_of(path, self._mounts)
        return "/" if mount is None else mount.point

    def _root(self) -> str:
        """The host's root directory as this process reaches it; its own, where it may not."""
        root = f"{self._process}/root"
        with suppress(OSError):
            os.close(os.open(f"{root}/", os.O_PATH))
            return root
        return ""
