"""How agent and evacuator ask a simulated hypervisor: `LocalHypervisor` and `RemoteHypervisor`."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from vmha.agent.hypervisor import Domain, DomainChange, HypervisorRefused, Watcher
from vmha.domain_xml import parse_domain
from vmha.errors import InvalidField, NotFound, Unavailable
from vmha.evac.hypervisor import Busy, LockHeld, NotReached, OutcomeUnknown, Refused, TargetNotReached
from vmha.facts import HostFacts
from vmha.model import VmState
from vmha.sim.history import Refused as Declined
from vmha.sim.hypervisor import MARK, HypervisorFailure, SimDomain, SimHypervisor

T = TypeVar("T")
QUESTION_TIMEOUT_S: Final = 10.0
"""The real port's."""
ACT_TIMEOUT_S: Final = 60.0
CONNECT_TIMEOUT_S: Final = 2.0
"""The real evacuator's, for libvirt's port."""
KEEPALIVE_S: Final = 20.0
"""After which libvirt's keepalive gives a call up whose host is silent."""


class Alive(Protocol):
    """The process that asks."""

    def require_alive(self) -> bool:
        """Raises CancelledError when it is dead."""
        ...


class SimLocalHypervisor:
    """See `LocalHypervisor`. One for each run of an agent."""

    def __init__(self, hypervisor: SimHypervisor, process: Alive) -> None:
        self._hypervisor, self._process = hypervisor, process
        self._watcher: Watcher | None = None
        self._connected = False
        self._answers = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """See `LocalHypervisor`."""
        return self._connected

    async def run(self, watcher: Watcher) -> None:
        """See `LocalHypervisor`."""
        self._watcher = watcher
        self._hypervisor.listeners.append(self)
        self.answers(self._hypervisor.answers)
        try:
            await asyncio.Event().wait()
        finally:
            if self in self._hypervisor.listeners:
                self._hypervisor.listeners.remove(self)

    # From the hypervisor

    def domain_changed(self, vm_id: str, change: DomainChange) -> None:
        """See `hypervisor.Listener`."""
        if self._connected and self._watcher is not None:
            self._watcher.domain_changed(vm_id, change)

    def answers(self, does: bool) -> None:
        """See `hypervisor.Listener`."""
        if not does:
            self._answers.clear()
            return
        self._answers.set()
        if self._watcher is not None:
            self._connected = True
            self._watcher.connected()  # also where the connection outlived it: events are lost

    # Asking

    async def facts(self) -> HostFacts:
        """See `LocalHypervisor`."""
        await self._turn()
        return self._hypervisor.facts

    async def domains(self) -> list[Domain]:
        """See `LocalHypervisor`."""
        await self._turn()
        return [domain.read() for domain in self._hypervisor.domains.values()]

    async def domain(self, vm_id: str) -> Domain | None:
        """See `LocalHypervisor`."""
        await self._turn()
        domain = self._hypervisor.domains.get(vm_id)
        return None if domain is None else domain.read()

    async def alive(self) -> frozenset[str]:
        """See `LocalHypervisor`: from the kernel's list, which a hung libvirt doesn't touch."""
        self._process.require_alive()
        running = {vm_id for vm_id, domain in self._hypervisor.domains.items() if domain.active}
        return frozenset(running | set(self._hypervisor.starting))

    # Acting

    async def define(self, vm_id: str, domain_xml: str) -> None:
        """See `LocalHypervisor`."""
        await self._turn()
        try:
            described = parse_domain(domain_xml)
        except InvalidField as error:
            raise HypervisorRefused(error.message) from None
        if described.uuid != vm_id:
            raise HypervisorRefused("the XML defines another UUID")
        self._hypervisor.define(vm_id, described.name, domain_xml)

    async def start(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._turn()
        self._known(vm_id)
        try:
            async with asyncio.timeout(ACT_TIMEOUT_S):
                await _done(lambda done: self._hypervisor.start(vm_id, "resume", paused=False, done=done))
        except HypervisorFailure as error:
            raise HypervisorRefused(str(error)) from None
        except TimeoutError:
            raise _away() from None

    async def resume(self, vm_id: str) -> VmState:
        """See `LocalHypervisor`."""
        await self._turn()
        domain = self._known(vm_id)
        self._hypervisor.resume(domain)
        return domain.state

    async def remove(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._turn()
        self._hypervisor.remove(vm_id, "agent")

    async def destroy(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._turn()
        if vm_id in self._hypervisor.domains:
            self._hypervisor.stop(self._hypervisor.domains[vm_id], "self_fencing")

    async def kill(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        self._process.require_alive()
        if vm_id in self._hypervisor.domains:
            self._hypervisor.stop(self._hypervisor.domains[vm_id], "self_fencing", DomainChange.CRASHED)

    async def take_autostart(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._turn()
        domain = self._known(vm_id)
        if MARK not in domain.xml:
            domain.xml = domain.xml.replace("</metadata>", f"{MARK}</metadata>")
        domain.autostart = False

    async def return_autostart(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._turn()
        domain = self._known(vm_id)
        domain.xml, domain.autostart = domain.xml.replace(MARK, ""), True

    def _known(self, vm_id: str) -> SimDomain:
        domain = self._hypervisor.domains.get(vm_id)
        if domain is None:
            raise NotFound("DOMAIN_UNKNOWN", "there is no such domain")
        return domain

    async def _turn(self) -> None:
        """Until libvirt answers; a hung one costs the connection."""
        self._process.require_alive()
        if self._hypervisor.answers and self._connected:
            return
        if self._connected:
            try:
                async with asyncio.timeout(QUESTION_TIMEOUT_S):
                    await self._answers.wait()
            except TimeoutError:
                if self._connected:
                    self._connected = False
                    if self._watcher is not None:
                        self._watcher.disconnected()
        self._process.require_alive()
        if not self._connected:
            raise _away()


def _away() -> Unavailable:
    return Unavailable("LIBVIRT_UNAVAILABLE", "libvirt does not answer")


class SimRemoteHypervisor:
    """See `RemoteHypervisor`.

    Args:
        reaches: Whether packets go to libvirt's port and back now.
        carries: Whether a host reaches another one, as libvirt does for a migration.
    """

    def __init__(
        self,
        hypervisor: SimHypervisor,
        process: Alive,
        reaches: Callable[[], bool],
        carries: Callable[[str, str], bool] = lambda source, target: True,
    ) -> None:
        self._hypervisor, self._process, self._reaches, self._carries = hypervisor, process, reaches, carries

    async def connect(self, timeout_s: float) -> None:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)

    async def start_paused(self, vm_id: str, domain_xml: str, timeout_s: float) -> VmState:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        hypervisor = self._hypervisor
        try:
            described = parse_domain(domain_xml)
        except InvalidField as error:
            raise Refused(error.message) from None
        if described.uuid != vm_id:
            raise Refused("the XML defines another UUID")
        present = hypervisor.domains.get(vm_id)
        if present is not None and present.active:
            return _shown(present)
        hypervisor.define(vm_id, described.name, domain_xml)
        try:
            await self._answer(_done(lambda done: self._start(vm_id, done)), timeout_s)
        except HypervisorFailure as error:
            if not self._reaches():
                raise OutcomeUnknown(f"the connection to libvirt on {hypervisor.host_id} broke") from None
            raise (LockHeld if error.locked else Refused)(str(error)) from None
        return _shown(hypervisor.domains.get(vm_id))

    def _start(self, vm_id: str, done: Callable[[Exception | None], None]) -> None:
        hypervisor = self._hypervisor

        def ended(error: Exception | None) -> None:
            if error is not None and vm_id in hypervisor.domains and not hypervisor.domains[vm_id].active:
                hypervisor.undefine(hypervisor.domains[vm_id])
            done(error)

        hypervisor.start(vm_id, "start", paused=True, done=ended)

    async def rebuild_disk(self, vm_id: str, domain_xml: str, image_path: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`. It takes no time."""
        await self._open(timeout_s)
        present = self._hypervisor.domains.get(vm_id)
        if present is not None and present.active:
            return
        if posixpath.basename(image_path) not in self._hypervisor.site.images:
            raise Refused(f"there is no image {image_path}")
        self._hypervisor.rebuild_disk(vm_id)

    async def state(self, vm_id: str, timeout_s: float) -> VmState:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        return _shown(self._hypervisor.domains.get(vm_id))

    async def remove(self, vm_id: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        self._hypervisor.remove(vm_id, "evacuator")

    async def list(self, timeout_s: float) -> Mapping[str, VmState]:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        return {vm_id: _shown(domain) for vm_id, domain in self._hypervisor.domains.items()}

    async def migrate(self, vm_id: str, target_uri: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        hypervisor = self._hypervisor
        domain, target = hypervisor.domains.get(vm_id), hypervisor.site.hypervisors.get(urlsplit(target_uri).hostname or "")
        if domain is None or not domain.counts:
            raise Refused("there is no such domain, or it is not active")
        if vm_id in hypervisor.outgoing:
            raise Busy("Requested operation is not valid: domain has active job")
        if target is None or not target.answers or not self._carries(hypervisor.host_id, target.host_id):
            raise TargetNotReached(f"unable to connect to server at {target_uri}")
        try:
            await self._answer(_done(lambda done: hypervisor.migrate(domain, target, done)), timeout_s)
        except Declined as error:
            raise Refused(error.message) from None
        except HypervisorFailure as error:
            if not hypervisor.answers or not self._reaches():
                raise OutcomeUnknown(f"the connection to libvirt on {hypervisor.host_id} broke") from None
            raise Refused(str(error)) from None

    async def is_migrating(self, vm_id: str, timeout_s: float) -> bool:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        return vm_id in self._hypervisor.outgoing

    async def abort_migration(self, vm_id: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        self._hypervisor.abort_migration(vm_id)

    async def drop_incoming(self, vm_id: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        self._hypervisor.drop_incoming(vm_id)

    async def shut_down(self, vm_id: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`: every simulated guest listens."""
        await self._open(timeout_s)
        if (domain := self._hypervisor.domains.get(vm_id)) is not None:
            self._hypervisor.stop(domain, "drain", DomainChange.SHUTDOWN)

    async def stop(self, vm_id: str, timeout_s: float) -> None:
        """See `RemoteHypervisor`."""
        await self._open(timeout_s)
        if (domain := self._hypervisor.domains.get(vm_id)) is not None:
            self._hypervisor.stop(domain, "drain")

    def close(self) -> None:
        """See `RemoteHypervisor`."""

    async def _open(self, timeout_s: float) -> None:
        """Reach libvirt; what hangs there takes all the time there is."""
        self._process.require_alive()
        if not self._hypervisor.up or not self._reaches():
            await asyncio.sleep(min(timeout_s, CONNECT_TIMEOUT_S))
            self._process.require_alive()
            if not self._hypervisor.up or not self._reaches():
                raise NotReached(f"no connection to libvirt on {self._hypervisor.host_id}")
        if self._hypervisor.hung:
            await asyncio.sleep(timeout_s)
            self._process.require_alive()
            raise OutcomeUnknown(f"libvirt on {self._hypervisor.host_id} gave no answer within {timeout_s:g} s")

    async def _answer(self, answer: Awaitable[T], timeout_s: float) -> T:
        waiting = asyncio.ensure_future(answer)
        left_s = timeout_s
        try:
            while not waiting.done():
                span_s = min(left_s, KEEPALIVE_S)
                await asyncio.wait([waiting], timeout=span_s)
                left_s -= span_s
                # libvirt's keepalive goes on while a call takes long.
                silent = not self._hypervisor.answers or not self._reaches()
                if not waiting.done() and (left_s <= 0 or silent):
                    raise OutcomeUnknown(f"libvirt on {self._hypervisor.host_id} gave no answer within {timeout_s:g} s")
        finally:
            waiting.cancel()
        result = waiting.result()
        self._process.require_alive()
        if not self._hypervisor.answers or not self._reaches():
            raise OutcomeUnknown(f"the connection to libvirt on {self._hypervisor.host_id} broke")
        return result


def _shown(domain: SimDomain | None) -> VmState:
    """As the evacuator's adapter shows it, which knows one kind of paused."""
    if domain is None:
        return VmState.ABSENT
    return VmState.PAUSED if domain.state is VmState.AWAITING_ADMISSION else domain.state


async def _done(begin: Callable[[Callable[[Exception | None], None]], None]) -> None:
    """Until what was begun tells its end. Raises what it failed of."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    begin(done)
    await ended
