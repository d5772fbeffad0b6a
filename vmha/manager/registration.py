"""Registration in two steps, and what a host is told of the VMs that it owns (R14, docs/decisions/002).

An offer changes nothing. Only the first heartbeat under the offered incarnation completes it, and then one script puts it in
force and re-claims what the host owns. Then, when its inventory is stored, the host is told what it owns and must give up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, Protocol, TypeVar

from vmha.errors import Aborted, NotFound, Unavailable
from vmha.manager.heartbeats import HeartbeatDesk, Nonces
from vmha.manager.inventory import EXECUTING, InventoryDesk, Seen
from vmha.manager.memory import ClusterMemory
from vmha.manager.session_messages import ownership_updates
from vmha.manager.sessions import Session, Sessions
from vmha.manager.withheld_vms import WithheldVms
from vmha.model import VmState
from vmha.store import Store
from vmha.store.records import VmRecord
from vmha.v1 import manager_service_pb2 as ms

RETRY_S: Final = 0.5

T = TypeVar("T")


class Registrar(Protocol):
    """Who decides whether a host may register."""

    def wants_registration(self, host_id: str, boot_id: str) -> None:
        """A host asks; `RegistrationDesk.permit` is the answer, at once or later."""
        ...

    def may_register(self, host_id: str) -> bool:
        """Whether it may now."""
        ...

    def registered(self, host_id: str, boot_id: str) -> None:
        """Its registration is in force."""
        ...

    def leading(self) -> bool:
        """Whether this manager may act at this moment (R19)."""
        ...

    def store_away(self) -> None:
        """Redis does not answer."""
        ...


class RegistrationDesk:
    """Registers the hosts of one cluster."""

    def __init__(
        self,
        store: Store,
        memory: ClusterMemory,
        sessions: Sessions,
        nonces: Nonces,
        registrar: Registrar,
        inventories: dict[Session, InventoryDesk],
    ) -> None:
        self._store = store
        self._memory = memory
        self._sessions = sessions
        self._nonces = nonces
        self._registrar = registrar
        self._inventories = inventories
        self._tasks: dict[Session, asyncio.Task[None]] = {}
        self.withheld = WithheldVms(store, memory, sessions, registrar.leading)
        self.heartbeats: HeartbeatDesk | None = None

    def request(self, session: Session, message: ms.AgentRegistration) -> None:
        """An agent asks for an incarnation."""
        if session.boot_token == message.boot_token:
            return
        self.close(session)
        session.boot_token = message.boot_token
        session.offered = 0
        session.registered = False
        # The host was never given up in this boot: a VM of another owner that runs there came by a live migration.
        session.same_boot = self._memory.registered_boots.get(session.host_id) == session.boot_id
        inventory = self._inventories.get(session)
        if inventory is not None:
            inventory.registered(False)
        self._registrar.wants_registration(session.host_id, session.boot_id)

    def permit(self, host_id: str) -> None:
        """The host may register: offer it an incarnation."""
        session = self._sessions.get(host_id)
        if session is not None and session.boot_token and not session.registered and not session.offered:
            self._start(session, self._offer(session, session.boot_token))

    def offer_taken(self, session: Session) -> None:
        """The first heartbeat under the offered incarnation: complete the registration."""
        self._start(session, self._complete(session, session.offered))

    def resumed(self, session: Session) -> None:
        """A hello named the incarnation in force."""
        session.registered, session.incarnation = True, self._memory.hosts[session.host_id].incarnation
        self._memory.registered_boots[session.host_id] = session.boot_id

    async def stored(self, session: Session, seen: Seen, whole: bool) -> None:
        """An inventory is in the store: tell the host what it owns and must give up."""
        completed = self._memory.undelivered.get(session.host_id) == session.incarnation
        if seen.withheld:
            self.withheld.look_after()
        if not whole and (completed or not seen.owners_changed):
            return
        owned = seen.owned
        if owned is None:
            owned = await self._store.vms.list(session.cluster_id, session.host_id)
        safe_mode = self._memory.cluster.safe_mode
        releases = [r for r in seen.foreign.values() if whole and _is_stale(session, seen, r, completed=completed)]
        # Whose a domain is that waits for its admission is known when everybody has told (docs/decisions/020).
        releases = [r for r in releases if not (safe_mode and seen.states.get(r.vm_id) is VmState.AWAITING_ADMISSION)]
        reported = _present(seen) if whole else frozenset(record.vm_id for record in owned)
        start_owned, admit = whole and completed and not safe_mode, not safe_mode
        updates = ownership_updates(session.incarnation, owned, releases, start_owned=start_owned, admit=admit, reported=reported)
        for update in updates:
            session.send(ms.ReportHealthResponse(ownership=update))
        if whole and not (completed and not start_owned):
            session.ownership_mark = self._nonces.count

    def close(self, session: Session) -> None:
        """The session has ended; what was offered may be taken up in the next one."""
        task = self._tasks.pop(session, None)
        if task is not None:
            task.cancel()

    def _start(self, session: Session, work: Coroutine[None, None, None]) -> None:
        running = self._tasks.get(session)
        if running is not None and not running.done():
            work.close()
            return
        task = asyncio.create_task(work, name=f"registration {session.host_id}")
        self._tasks[session] = task
        task.add_done_callback(lambda done: self._done(session, done))

    def _done(self, session: Session, task: asyncio.Task[None]) -> None:
        if self._tasks.get(session) is task:
            del self._tasks[session]

    async def _offer(self, session: Session, boot_token: str) -> None:
        incarnation = await self._insist(lambda: self._store.hosts.offer(session.cluster_id, session.host_id, boot_token))
        if session.boot_token != boot_token or not self._registrar.may_register(session.host_id):
            return
        session.offered = incarnation
        session.log.info("registration offered", incarnation=incarnation)
        session.send(ms.ReportHealthResponse(offer=ms.RegistrationOffer(boot_token=boot_token, incarnation=incarnation)))

    async def _complete(self, session: Session, incarnation: int) -> None:
        cluster_id, host_id = session.cluster_id, session.host_id
        try:
            owned = await self._insist(
                lambda: self._store.hosts.complete_registration(cluster_id, host_id, incarnation, session.boot_id)
            )
        except Aborted as error:
            # Confirmed down in between: the offer was withdrawn with it.
            _withdraw(session, incarnation, error.reason)
            return
        if not self._memory.put_registration(host_id, incarnation, session.boot_id):
            _withdraw(session, incarnation, "CONFIRMED_DOWN")
            return
        session.offered, session.registered, session.incarnation = 0, True, incarnation
        session.log.info("registered", incarnation=incarnation, owned=len(owned))
        self._registrar.registered(host_id, session.boot_id)
        if any(record.withheld for record in owned):
            self.withheld.look_after()
        assert self.heartbeats is not None
        self.heartbeats.replay(session)
        inventory = self._inventories.get(session)
        if inventory is not None:
            inventory.registered(True)
            if not inventory.has_full:
                request_inventory(session, "REGISTRATION")

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Until the store answers; the session's end ends it."""
        while True:
            try:
                return await call()
            except Unavailable:
                self._registrar.store_away()
            except NotFound:
                # The store came back empty; it is being restored from memory.
                pass
            await asyncio.sleep(RETRY_S)


def request_inventory(session: Session, reason: str) -> None:
    """Ask for a full inventory."""
    session.send(ms.ReportHealthResponse(inventory_request=ms.InventoryRequest(reason=reason)))


def _withdraw(session: Session, incarnation: int, reason: str) -> None:
    session.log.warning("registration was withdrawn", incarnation=incarnation, reason=reason)
    session.offered, session.boot_token, session.held = 0, "", None
    session.revoke(incarnation, reason)


def _is_stale(session: Session, seen: Seen, record: VmRecord, *, completed: bool) -> bool:
    """Whether a VM of another owner must go from this host.

    After a host was given up, or booted anew, whatever another owns is stale, but for what executes there because a drain brings
    it (docs/decisions/022): it has not changed hands since, and nobody starts it before both hosts were looked at. In a boot that
    was never given up nothing can have been evacuated: what executes there came by a live migration whose end was not reported
    yet, and must not be touched.
    """
    if completed and not session.same_boot and record.moving_to != session.host_id:
        return True
    return seen.states.get(record.vm_id) not in EXECUTING


def _present(seen: Seen) -> frozenset[str]:
    return frozenset(vm_id for vm_id, state in seen.states.items() if state is not VmState.ABSENT)
