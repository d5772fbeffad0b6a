"""Keeps what is known of the host's storage: which directories are shared, and where the disks of its VMs lie (S13, S24).

What was known is kept while storage does not answer: a VM's disks lie where they lay. Its directory, though, has a problem then
and no storage id: no VM is to be started from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Final

import structlog

from vmha.agent.shared_files import Unfit
from vmha.agent.shared_proof import NOT_SEEN, Proof, tpm_problem
from vmha.agent.storage import Mount, Shared, paths_of, place, storage_id_of
from vmha.agent.storage_port import StoragePort
from vmha.facts import HostFacts, SharedDirectory, VmFacts

EARLY_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Pauses between looks while a directory has a problem, then the last for ever: hosts that start together see each other soon."""

_log = structlog.get_logger("vmha.agent")
Volumes = Mapping[str, str]


@dataclass(slots=True)
class _Directory:
    """A directory that the configuration calls shared. `known_id`: the storage that it was last proven to be."""

    path: str
    proof: Proof
    known_id: str = ""
    problem: str = NOT_SEEN

    @property
    def report(self) -> SharedDirectory:
        return SharedDirectory(path=self.path, storage_id="" if self.problem else self.known_id, problem=self.problem)


class StorageKeeper:
    """Looks at directories, and fills storage into facts."""

    def __init__(self, port: StoragePort, host_id: str, directories: Collection[str] = (), tpm_directory: str = "") -> None:
        """Args: what the configuration calls shared, and where libvirt keeps the state of emulated TPMs, by absolute path."""
        self._port = port
        self._host_id = host_id
        self._directories = [_Directory(path, Proof(host_id)) for path in directories]
        self._tpm_directory = tpm_directory
        self._tpm_id = self._tpm_problem = ""
        self._mounts: tuple[Mount, ...] = ()
        self._resolved: dict[str, str] = {}
        self._located: set[str] = set()
        self._looking = asyncio.Lock()

    async def run(self, changed: Callable[[], None]) -> None:
        """Look again soon while a directory has a problem; else the slow round is enough. `changed` hears of news."""
        for pause_s in chain(EARLY_S, repeat(EARLY_S[-1])):
            await asyncio.sleep(pause_s)
            if any(directory.problem for directory in self._directories):
                before = (self._reports(), self._tpm_id)
                await self.look()
                if (self._reports(), self._tpm_id) != before:
                    changed()

    async def look(self) -> None:
        """Look at every directory, and follow symbolic links anew. Bounded; what does not answer keeps what was known of it."""
        async with self._looking:
            self._mounts = self._port.mounts()
            self._resolved = {path: self._resolved[path] for path in self._located if path in self._resolved}
            self._located.clear()
            await self._locate({directory.path for directory in self._directories})
            await asyncio.gather(*(self._look_at(directory) for directory in self._directories))
            await self._look_at_tpm()

    async def locate(self, wanted: Iterable[tuple[VmFacts, Volumes]]) -> None:
        """Follow the symbolic links of VMs' disks, as far as that was not done since the last look. Bounded.

        Args:
            wanted: Facts of VMs, each with the paths of its disks that are volumes of libvirt's pools, by target.
        """
        await self._locate({path for facts, volumes in wanted for path in paths_of(facts.disks, volumes)})

    def place(self, facts: VmFacts, volumes: Volumes) -> VmFacts:
        """A VM's facts with the storage of its disks, which were located."""
        return replace(facts, disks=place(facts.disks, volumes, self._resolved, self._mounts, self._shared()))

    def host(self, facts: HostFacts) -> HostFacts:
        """What libvirt says of the host, and what is known of its storage."""
        return replace(facts, shared_directories=self._reports(), tpm_storage_id=self._tpm_id)

    async def _locate(self, paths: set[str]) -> None:
        missing = paths - self._located
        if missing:
            self._resolved |= await self._port.resolve(missing)
            self._located |= missing

    async def _look_at(self, directory: _Directory) -> None:
        proof, where = directory.proof, self._resolved.get(directory.path, directory.path)
        try:
            found = await self._port.read(where, self._host_id, others=not proof.storage_id)
            proof.saw(found.token, found.stamps)
            await self._port.write(where, self._host_id, proof.stamp)
            proof.wrote()
        except Unfit as error:
            problem = str(error)
        else:
            directory.known_id = proof.storage_id
            problem = "" if directory.known_id else NOT_SEEN
        if problem != directory.problem:
            log = _log.warning if problem else _log.info
            log("shared_directory", path=directory.path, storage_id=directory.known_id, problem=problem)
            directory.problem = problem

    async def _look_at_tpm(self) -> None:
        """Only where it lies on shared storage: on its own disk libvirt does as it likes."""
        if not self._directories or not self._tpm_directory:
            return
        await self._locate({self._tpm_directory})
        where = self._resolved.get(self._tpm_directory, self._tpm_directory)
        trusted = [shared for shared, each in zip(self._shared(), self._directories, strict=True) if not each.problem]
        storage_id, problem = storage_id_of(where, self._mounts, trusted), ""
        if storage_id:
            try:
                problem = tpm_problem(await self._port.owner(where))
            except Unfit as error:
                problem = str(error)
        if problem and problem != self._tpm_problem:
            _log.warning("tpm_state_directory", path=self._tpm_directory, problem=problem)
        self._tpm_problem, self._tpm_id = problem, "" if problem else storage_id

    def _shared(self) -> list[Shared]:
        found = self._resolved
        return [Shared(each.path, found.get(each.path, each.path), each.known_id) for each in self._directories]

    def _reports(self) -> tuple[SharedDirectory, ...]:
        reports = [each.report for each in self._directories]
        if self._tpm_problem:
            reports = [each for each in reports if each.path != self._tpm_directory]
            reports.append(SharedDirectory(path=self._tpm_directory, problem=self._tpm_problem))
        return tuple(reports)
