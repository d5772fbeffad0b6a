"""`RemoteHypervisor` over libvirt, for qemu+tcp, qemu+tls, qemu+ssh and test URIs.

libvirt's calls block without a bound, so each host has its own threads (vmha.bulkhead), its port is tried before libvirt is
asked to open it, and keepalive ends calls on a connection that went dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import libvirt

from vmha.bulkhead import Bulkhead, CallLost, CallNotMade
from vmha.domain_xml import root_file
from vmha.errors import InvalidField
from vmha.evac import libvirt_migration
from vmha.evac.hypervisor import LOCK_ERROR, LockHeld, NotReached, OutcomeUnknown, Refused
from vmha.evac.libvirt_migration import unless
from vmha.evac.libvirt_storage import copy_image
from vmha.libvirt_domains import find_domain, undefine, vm_state
from vmha.libvirt_events import start_libvirt_events
from vmha.model import VmState

T = TypeVar("T")

PROBE_TIMEOUT_S = 2.0
OPEN_TIMEOUT_S = 10.0
KEEPALIVE = (5, 3)
"""Seconds between two keepalives, and how many may stay unanswered."""
_PORTS = {"tcp": 16509, "tls": 16514, "ssh": 22}
_REMOTE = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}


class LibvirtHypervisor:
    """One host's libvirt: one connection, shared by its threads, made again when it is dead.

    Args:
        unsafe: Migrate also where libvirt cannot see that the disks lie on shared storage.
    """

    def __init__(self, uri: str, *, threads: int = 4, unsafe: bool = False) -> None:
        start_libvirt_events()
        self._uri, self._unsafe = uri, unsafe
        # The test driver cannot create paused; it executes nothing either.
        self._is_test = urlsplit(uri).scheme.split("+")[0] == "test"
        self._bulkhead = Bulkhead(f"libvirt {_shown(uri)}", size=threads)
        # A migration keeps its thread for minutes: looks and aborts need others.
        self._movers = Bulkhead(f"migrations {_shown(uri)}", size=threads)
        self._connection: Any = None
        self._opening = asyncio.Lock()

    async def connect(self, timeout_s: float) -> None:
        """Opens the connection."""
        await self._opened(timeout_s)

    async def start_paused(self, vm_id: str, domain_xml: str, timeout_s: float) -> VmState:
        """Defines and creates paused."""
        return await self._ask(lambda c: self._start(c, vm_id, domain_xml), timeout_s)

    async def rebuild_disk(self, vm_id: str, domain_xml: str, image_path: str, timeout_s: float) -> None:
        """Makes the disk anew."""
        await self._ask(lambda c: _rebuild(c, vm_id, domain_xml, image_path), timeout_s)

    async def state(self, vm_id: str, timeout_s: float) -> VmState:
        """What the domain does now."""
        return await self._ask(lambda c: _state_of(find_domain(c, vm_id)), timeout_s)

    async def remove(self, vm_id: str, timeout_s: float) -> None:
        """Destroys and undefines."""
        await self._ask(lambda c: _remove(c, vm_id), timeout_s)

    async def list(self, timeout_s: float) -> Mapping[str, VmState]:
        """Every domain."""
        return await self._ask(lambda c: {d.UUIDString(): _state_of(d) for d in c.listAllDomains()}, timeout_s)

    async def migrate(self, vm_id: str, target_uri: str, timeout_s: float) -> None:
        """Moves it live."""
        move = partial(libvirt_migration.migrate, vm_id=vm_id, target_uri=target_uri, unsafe=self._unsafe)
        await self._ask(move, timeout_s, self._movers)

    async def is_migrating(self, vm_id: str, timeout_s: float) -> bool:
        """Whether a job has it."""
        return await self._ask(lambda c: libvirt_migration.is_migrating(c, vm_id), timeout_s)

    async def abort_migration(self, vm_id: str, timeout_s: float) -> None:
        """Ends its migration."""
        await self._ask(lambda c: libvirt_migration.abort(c, vm_id), timeout_s)

    async def drop_incoming(self, vm_id: str, timeout_s: float) -> None:
        """Ends what is coming in."""
        await self._ask(lambda c: _drop_incoming(c, vm_id), timeout_s)

    async def shut_down(self, vm_id: str, timeout_s: float) -> None:
        """Asks the guest."""
        await self._ask(lambda c: libvirt_migration.shut_down(c, vm_id), timeout_s)

    async def stop(self, vm_id: str, timeout_s: float) -> None:
        """Ends the guest."""
        await self._ask(lambda c: libvirt_migration.stop(c, vm_id), timeout_s)

    def close(self) -> None:
        """Lets go; libvirt closes the connection when the last thread is done with it."""
        self._connection = None
        self._bulkhead.close()
        self._movers.close()

    def _start(self, connection: Any, vm_id: str, domain_xml: str) -> VmState:
        try:
            domain = connection.defineXML(domain_xml)
            if domain.UUIDString() != vm_id:
                domain.undefine()
                raise Refused("the XML defines another UUID")
            self._create(domain)
            return _state_of(domain)
        except libvirt.libvirtError as error:
            _raise_when_broken(connection, error)
            present = _state_of(find_domain(connection, vm_id))
            if present in {VmState.RUNNING, VmState.PAUSED}:
                return present  # it was active already: an earlier try came through
            _remove(connection, vm_id)
            message = _text(error)
            raise (LockHeld if LOCK_ERROR.search(message) else Refused)(message) from error

    def _create(self, domain: Any) -> None:
        if self._is_test:
            domain.create()
            domain.suspend()
            return
        # A managed save on this host would be a stale memory image of the VM: boot, whatever lies there.
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_FORCE_BOOT)

    async def _ask(self, question: Callable[[Any], T], timeout_s: float, crew: Bulkhead | None = None) -> T:
        connection = await self._opened(min(timeout_s, OPEN_TIMEOUT_S))
        try:
            return await (crew or self._bulkhead).run(lambda: question(connection), timeout_s)
        except CallNotMade as error:
            raise NotReached(str(error)) from error
        except CallLost as error:
            self._forget(connection)
            raise OutcomeUnknown(str(error)) from error
        except libvirt.libvirtError as error:
            self._forget(connection)
            raise OutcomeUnknown(_text(error)) from error

    def _forget(self, connection: Any) -> None:
        if self._connection is connection:
            self._connection = None

    async def _opened(self, timeout_s: float) -> Any:
        if (ready := self._connection) is not None and ready.isAlive():
            return ready
        try:
            async with asyncio.timeout(timeout_s):
                await self._opening.acquire()
        except TimeoutError:
            raise NotReached(f"{_shown(self._uri)}: others have waited for its connection for {timeout_s:g} s") from None
        try:
            if (ready := self._connection) is None or not ready.isAlive():
                self._connection = await self._open(timeout_s)
            return self._connection
        finally:
            self._opening.release()

    async def _open(self, timeout_s: float) -> Any:
        try:
            await _probe_port(self._uri)
            return await self._bulkhead.run(self._open_blocking, timeout_s)
        except (CallLost, CallNotMade, OSError) as error:
            raise NotReached(f"{_shown(self._uri)}: {str(error) or type(error).__name__}") from error
        except libvirt.libvirtError as error:
            raise NotReached(f"{_shown(self._uri)}: {_text(error)}") from error

    def _open_blocking(self) -> Any:
        connection = libvirt.open(self._uri)
        if not self._is_test:
            connection.setKeepAlive(*KEEPALIVE)
        return connection


def _shown(uri: str) -> str:
    parts = urlsplit(uri)
    host = f"{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
    return f"{parts.scheme}://{host}{parts.path}"  # no user, no query: they may hold secrets


async def _probe_port(uri: str) -> None:
    parts = urlsplit(uri)
    scheme, _, transport = parts.scheme.partition("+")
    if not parts.hostname or (scheme == "test" and not transport):
        return
    port = parts.port or _PORTS.get(transport or "tls")
    if port is None:
        return
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        _, writer = await asyncio.open_connection(parts.hostname, port)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _state_of(domain: Any) -> VmState:
    if domain is None:
        return VmState.ABSENT
    try:
        return vm_state(domain.state()[0])
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return VmState.ABSENT
        raise


def _rebuild(connection: Any, vm_id: str, domain_xml: str, image_path: str) -> None:
    if _state_of(find_domain(connection, vm_id)) in {VmState.RUNNING, VmState.PAUSED}:
        return  # an earlier try came through: its disk is in use
    try:
        path, disk_format = root_file(domain_xml)
        copy_image(connection, path, disk_format, image_path)
    except InvalidField as error:
        raise Refused(error.message) from error
    except libvirt.libvirtError as error:
        _raise_when_broken(connection, error)
        raise Refused(f"its disk could not be made from the image: {_text(error)}") from error


def _remove(connection: Any, vm_id: str) -> None:
    domain = find_domain(connection, vm_id)
    if domain is None:
        return
    if domain.isActive():
        unless(domain.destroy, libvirt.VIR_ERR_OPERATION_INVALID)
    if domain.isPersistent():
        undefine(domain)
    if (left := _state_of(find_domain(connection, vm_id))) is not VmState.ABSENT:
        raise OutcomeUnknown(f"the domain is still {left} after it was destroyed and undefined")


def _drop_incoming(connection: Any, vm_id: str) -> None:
    domain = find_domain(connection, vm_id)
    if domain is not None and libvirt_migration.is_incoming(domain):
        unless(domain.destroy, libvirt.VIR_ERR_OPERATION_INVALID)  # it is defined at the end only


def _raise_when_broken(connection: Any, error: libvirt.libvirtError) -> None:
    if error.get_error_domain() in _REMOTE or not connection.isAlive():
        raise error


def _text(error: libvirt.libvirtError) -> str:
    return (error.get_error_message() or str(error))[:500]
