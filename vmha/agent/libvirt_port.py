"""`LocalHypervisor` over libvirt.

libvirt's calls block without a bound, so they run on threads of their own (vmha.bulkhead): a libvirtd that hangs costs inventory,
never a heartbeat. A call that does not come back costs the connection; a new one is opened when libvirt answers again.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import libvirt
import structlog

from vmha.agent import libvirt_calls
from vmha.agent.hypervisor import Domain, DomainChange, HypervisorRefused, Watcher
from vmha.agent.libvirt_connection import Connection
from vmha.agent.libvirt_facts import FactsReader
from vmha.agent.metrics import Metrics
from vmha.agent.qemu_processes import QemuProcesses
from vmha.bulkhead import Bulkhead, CallLost, CallNotMade
from vmha.errors import NotFound, Unavailable, VmhaError
from vmha.facts import HostFacts
from vmha.libvirt_events import start_libvirt_events
from vmha.model import VmState

T = TypeVar("T")

OPEN_TIMEOUT_S: Final = 10.0
QUESTION_TIMEOUT_S: Final = 10.0
LIST_TIMEOUT_S: Final = 60.0
FACTS_TIMEOUT_S: Final = 30.0
"""A libvirtd asks each QEMU binary what it can do when it is asked first."""
ACT_TIMEOUT_S: Final = 60.0
"""destroy of a guest whose QEMU hangs takes 11 s."""
KERNEL_TIMEOUT_S: Final = 5.0
ALIVE_TIMEOUT_S: Final = 1.0
"""Whoever asks what is alive is about to kill it, within seconds: a libvirt that hangs is asked no more."""
RECONNECT_S: Final = (0.2, 5.0)
CHECK_INTERVAL_S: Final = 10.0
_BROKEN: Final = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})

_log = structlog.get_logger("vmha.agent")


class LibvirtPort:
    """See `LocalHypervisor`."""

    def __init__(self, uri: str, metrics: Metrics, *, threads: int = 6, question_timeout_s: float = QUESTION_TIMEOUT_S) -> None:
        start_libvirt_events()
        self._uri = uri
        self._metrics = metrics
        self._question_timeout_s = question_timeout_s
        self._bulkhead = Bulkhead("local libvirt", size=threads)
        self._kernel = Bulkhead("processes", size=1)
        self._processes = QemuProcesses()
        self._sees_processes = False
        self._begins: dict[object, str] = {}
        self._connection: Connection | None = None
        self._facts = FactsReader()
        self._lost = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether a connection is open, as far as is known."""
        return self._connection is not None

    async def run(self, watcher: Watcher) -> None:
        """Keep a connection until cancelled."""
        attempts = 0
        try:
            while True:
                connection = await self._open(watcher, attempts)
                if connection is not None:
                    attempts = 0
                    await self._attend(connection, watcher)
                attempts += 1
                first, cap = RECONNECT_S
                await asyncio.sleep(random.uniform(first / 2, min(cap, first * 2 ** min(attempts, 10))))
        finally:
            self._drop()
            self._bulkhead.close()
            self._kernel.close()

    async def facts(self) -> HostFacts:
        """Capacity, versions, pools, and what guests can be given."""
        return await self._ask(self._facts.read, FACTS_TIMEOUT_S)

    async def domains(self) -> list[Domain]:
        """Every domain."""
        return await self._ask(libvirt_calls.domains, LIST_TIMEOUT_S)

    async def domain(self, vm_id: str) -> Domain | None:
        """One domain."""
        return await self._ask(lambda c: libvirt_calls.domain(c, vm_id), self._question_timeout_s)

    async def define(self, vm_id: str, domain_xml: str) -> None:
        """Define it."""
        await self._act("define", lambda c: libvirt_calls.define(c, vm_id, domain_xml))

    async def start(self, vm_id: str) -> None:
        """Start it."""
        await self._begin("start", vm_id, lambda c: libvirt_calls.start(c, vm_id))

    async def resume(self, vm_id: str) -> VmState:
        """Let it execute."""
        return await self._begin("resume", vm_id, lambda c: libvirt_calls.resume(c, vm_id))

    async def remove(self, vm_id: str) -> None:
        """Destroy and undefine it."""
        await self._act("remove", lambda c: libvirt_calls.remove(c, vm_id))

    async def destroy(self, vm_id: str) -> None:
        """Stop it."""
        await self._act("destroy", lambda c: libvirt_calls.destroy(c, vm_id))

    async def kill(self, vm_id: str) -> None:
        """End its process by signal."""
        result = "failed"
        with suppress(OSError, CallLost, CallNotMade):
            await self._kernel.run(lambda: self._processes.kill(vm_id), KERNEL_TIMEOUT_S)
            result = "ok"
        self._metrics.acts.labels("kill", result).inc()

    async def alive(self) -> frozenset[str]:
        """Processes, what libvirt calls active, and what may still begin."""
        try:
            seen = await self._kernel.run(self._processes.alive, KERNEL_TIMEOUT_S)
        except (OSError, CallLost, CallNotMade) as error:
            raise Unavailable("LIBVIRT_UNAVAILABLE", f"the host's processes can't be listed: {error}") from None
        self._sees_processes = self._sees_processes or bool(seen)
        try:
            active = await self._ask(libvirt_calls.active, min(ALIVE_TIMEOUT_S, self._question_timeout_s))
        except VmhaError:
            if not self._sees_processes:
                raise  # a container may show none of the host's processes: none seen proves nothing
            active = frozenset()
        return seen | active | frozenset(self._begins.values())

    async def take_autostart(self, vm_id: str) -> None:
        """Mark it, then switch it off."""
        await self._act("take_autostart", lambda c: libvirt_calls.take_autostart(c, vm_id))

    async def return_autostart(self, vm_id: str) -> None:
        """Switch it on, then remove the mark."""
        await self._act("return_autostart", lambda c: libvirt_calls.return_autostart(c, vm_id))

    async def _begin(self, name: str, vm_id: str, act: Callable[[Any], T]) -> T:
        """An act that lets a VM execute, noted until it returns: one that nobody waits for any more may still do so."""
        note, begun = object(), threading.Event()
        self._begins[note] = vm_id

        def noted(connection: Any) -> T:
            begun.set()
            try:
                return act(connection)
            finally:
                self._begins.pop(note, None)

        try:
            return await self._act(name, noted)
        finally:
            if not begun.is_set():
                self._begins.pop(note, None)

    async def _act(self, name: str, act: Callable[[Any], T]) -> T:
        result = "failed"
        try:
            answer = await self._ask(act, ACT_TIMEOUT_S)
            result = "ok"
            return answer
        finally:
            self._metrics.acts.labels(name, result).inc()

    async def _ask(self, question: Callable[[Any], T], timeout_s: float) -> T:
        connection = self._connection
        if connection is None:
            raise Unavailable("LIBVIRT_UNAVAILABLE", "there is no connection to libvirt")
        try:
            return await self._bulkhead.run(lambda: connection.use(question), timeout_s)
        except CallNotMade as error:
            raise Unavailable("LIBVIRT_UNAVAILABLE", str(error)) from None
        except CallLost as error:
            self._give_up(connection)
            raise Unavailable("LIBVIRT_UNAVAILABLE", str(error)) from None
        except libvirt.libvirtError as error:
            if error.get_error_domain() in _BROKEN or not connection.is_alive():
                self._give_up(connection)
                raise Unavailable("LIBVIRT_UNAVAILABLE", libvirt_calls.text(error)) from None
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise NotFound("DOMAIN_UNKNOWN", "there is no such domain") from None
            raise HypervisorRefused(libvirt_calls.text(error)) from None

    # The connection

    async def _open(self, watcher: Watcher, attempts: int) -> Connection | None:
        loop = asyncio.get_running_loop()
        self._lost = lost = asyncio.Event()
        late = threading.Event()

        def changed(_connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
            _on_loop(loop, watcher.domain_changed, domain.UUIDString(), libvirt_calls.change(event, detail))

        def closed() -> None:
            _on_loop(loop, lost.set)

        def open_it() -> Connection:
            connection = Connection.open(self._uri, changed, closed)
            if late.is_set():
                connection.drop()
            return connection

        try:
            return await self._bulkhead.run(open_it, OPEN_TIMEOUT_S)
        except (CallLost, CallNotMade) as error:
            late.set()
            self._say_away(attempts, str(error))
        except libvirt.libvirtError as error:
            self._say_away(attempts, libvirt_calls.text(error))
        return None

    async def _attend(self, connection: Connection, watcher: Watcher) -> None:
        self._connection, self._facts = connection, FactsReader()
        self._metrics.libvirt_connects.inc()
        self._metrics.libvirt_up.set(1)
        _log.info("libvirt_connected", uri=_shown(self._uri))
        watcher.connected()
        lost = asyncio.create_task(self._lost.wait(), name="libvirt lost")
        try:
            while await self._answers_still(connection, lost):
                await asyncio.wait([lost], timeout=CHECK_INTERVAL_S)
        finally:
            lost.cancel()
            self._metrics.libvirt_up.set(0)
            self._drop()
            watcher.disconnected()
        _log.warning("libvirt_away", uri=_shown(self._uri))

    async def _answers_still(self, connection: Connection, lost: asyncio.Task[Any]) -> bool:
        """Not once it is lost: a question that hangs then is not waited for."""
        if lost.done():
            return False
        answers = asyncio.create_task(self._answers(connection), name="libvirt answers")
        try:
            await asyncio.wait([answers, lost], return_when=asyncio.FIRST_COMPLETED)
            return not lost.done() and answers.result()
        finally:
            answers.cancel()

    async def _answers(self, connection: Connection) -> bool:
        try:
            await self._bulkhead.run(lambda: connection.use(lambda handle: handle.getLibVersion()), self._question_timeout_s)
        except CallNotMade:
            return not self._bulkhead.lost_calls  # all threads are at work, and none of them hangs
        except (CallLost, libvirt.libvirtError):
            return False
        return True

    def _give_up(self, connection: Connection) -> None:
        if connection is self._connection:
            self._lost.set()
            self._drop()  # now: whoever asks next is not to wait as well

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def _say_away(self, attempts: int, error: str) -> None:
        if attempts == 0 or attempts % 20 == 0:
            _log.warning("libvirt_unreachable", uri=_shown(self._uri), error=error, attempts=attempts)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: str | DomainChange) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(call, *arguments)


def _shown(uri: str) -> str:
    return uri.partition("?")[0].partition("@")[2] or uri.partition("?")[0]
