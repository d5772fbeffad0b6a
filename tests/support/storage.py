"""A `StoragePort` in memory. It passes the same contract tests as the real one (tests/agent/test_storage_port.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vmha.agent.shared_files import Found, Unfit
from vmha.agent.shared_proof import Owner
from vmha.agent.storage import Mount, mount_of
from vmha.agent.storage_keeper import StorageKeeper

DISK = (Mount("/", "ext4"),)
TOKEN = "0123456789abcdef" * 2


class MemoryStorage:
    """One host's view of storage.

    Attributes:
        table: What is mounted.
        shared: Directory -> host_id -> stamp; hosts that share a directory share the inner dict.
        tokens: Directory -> token.
        links: Symbolic links: path -> target.
        owners: Directory -> owner.
        hung: Mount points that answer nobody.
    """

    def __init__(self, *mounts: Mount) -> None:
        self.table: tuple[Mount, ...] = mounts or DISK
        self.shared: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.owners: dict[str, Owner] = {}
        self.hung: set[str] = set()

    def mounts(self) -> tuple[Mount, ...]:
        """See `StoragePort`."""
        return self.table

    async def resolve(self, paths: Collection[str]) -> Mapping[str, str]:
        """See `StoragePort`."""
        return {path: self._follow(path) for path in paths if self._point(path) not in self.hung}

    async def read(self, directory: str, host_id: str, *, others: bool) -> Found:
        """See `StoragePort`."""
        stamps = self._stamps(directory)
        wanted = list(stamps) if others else [host_id]
        return Found(self.tokens.setdefault(directory, TOKEN), {name: stamps[name] for name in wanted if name in stamps})

    async def write(self, directory: str, host_id: str, stamp: str) -> None:
        """See `StoragePort`."""
        self._stamps(directory)[host_id] = stamp

    async def owner(self, directory: str) -> Owner | None:
        """See `StoragePort`."""
        self._answer(directory)
        return self.owners.get(directory)

    def _follow(self, path: str) -> str:
        for link, target in self.links.items():
            if path == link or path.startswith(f"{link}/"):
                return target + path.removeprefix(link)
        return path

    def _stamps(self, directory: str) -> dict[str, str]:
        self._answer(directory)
        if directory not in self.shared:
            raise Unfit("cannot be opened: No such file or directory")
        return self.shared[directory]

    def _answer(self, path: str) -> None:
        if (point := self._point(path)) in self.hung:
            raise Unfit(f"{point} does not answer")

    def _point(self, path: str) -> str:
        mount = mount_of(path, self.table)
        return "/" if mount is None else mount.point


def unshared() -> StorageKeeper:
    """Of a host whose configuration calls nothing shared."""
    return StorageKeeper(MemoryStorage(), "h1")
