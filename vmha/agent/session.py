"""One stream to one manager, from hello to its end.

A reader, a writer and the clocks of heartbeat and report are tasks of their own; none waits for another. The stream's end says
nothing of anybody's health: whoever holds the link opens the next.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog

from vmha.agent import messages
from vmha.agent.autostart import Autostart
from vmha.agent.guests import Guests
from vmha.agent.identity import Identity
from vmha.agent.lease_events import Registered, Unregistered
from vmha.agent.outbox import Outbox
from vmha.agent.ownership import Ownership
from vmha.agent.pause import set_within
from vmha.agent.prober import Prober
from vmha.agent.relay_desk import RelayDesk
from vmha.errors import Unavailable
from vmha.model import GoodbyeReason
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import enum_to_proto, seconds
from vmha.v1 import manager_service_pb2 as ms

WELCOME_WITHIN_S: Final = 10.0
SILENT_HEARTBEATS: Final = 4
LEAST_SILENCE_S: Final = 2.0
"""A manager that says nothing for so many heartbeat intervals, and at least this long, though they wait for acks, is left."""
COALESCE_S: Final = 0.01
"""Verdicts that change together go into one report."""
RESEND_S: Final = 10.0
"""A report or inventory that is not acknowledged after this long is made and sent anew."""
STATUS_WITHIN_S: Final = 1.0

_log = structlog.get_logger("vmha.agent")
Call = Any


@dataclass(frozen=True)
class Desk:
    """The parts of the agent that a session serves."""

    identity: Identity
    prober: Prober
    guests: Guests
    ownership: Ownership
    autostart: Autostart
    relays: RelayDesk


class Session:
    """One session. `run` returns when the manager ended it, and raises VmhaError when it failed.

    Attributes:
        welcomed: Set once the manager took the session.
        drained: Set when the manager asked to go elsewhere.
        refresh_s: How often to ask for peers.
        pushed: Counts assignments, so that an answer to an older question is not taken for news.
    """

    def __init__(self, desk: Desk, call: Call) -> None:
        self._desk = desk
        self._identity = desk.identity
        self._state = desk.identity.state
        self._keeper = desk.identity.keeper
        self._call = call
        self._outbox = Outbox(desk.identity, desk.prober, desk.guests, desk.relays)
        self._loop = asyncio.get_running_loop()
        self._nonce = ""
        self._registered = False
        self._announced = False
        self._token = ""
        self._must_register = False
        self._parts: list[ms.OwnershipUpdate] = []
        self._heartbeat_s = 5.0
        self._report_s = 127.0
        self._retimed = asyncio.Event()
        self._verdicts_due: asyncio.TimerHandle | None = None
        self._heard_at = self._identity.clock.now()
        self._scouts: set[asyncio.Task[None]] = set()
        self.welcomed = asyncio.Event()
        self.drained = asyncio.Event()
        self.refresh_s = 59.0
        self.pushed = 0

    async def run(self) -> None:
        """Serve the stream to its end.

        Raises:
            VmhaError: It failed; with the manager's reason where it gave one.
        """
        hello = self._identity.hello()
        self._announced = hello.watchdog
        self._outbox.put(ms.ReportHealthRequest(hello=hello))
        jobs = [self._read, self._write, self._beat, self._report_regularly, self._watch_silence]
        tasks = [asyncio.create_task(job(), name=f"session {job.__name__}") for job in jobs]
        self._desk.guests.listeners.append(self._guests_changed)
        self._keeper.listeners.append(self._guard_changed)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._raise_status(done)
        finally:
            self._desk.guests.listeners.remove(self._guests_changed)
            self._keeper.listeners.remove(self._guard_changed)
            if self._verdicts_due is not None:
                self._verdicts_due.cancel()
            for task in (*tasks, *self._scouts):
                task.cancel()
            # Since grpc 1.83 a call that is only dropped is never collected (#43462).
            self._call.cancel()
            await asyncio.gather(*tasks, *self._scouts, return_exceptions=True)

    def verdict_changed(self) -> None:
        """Report soon, with whatever else changes at the same moment (S4)."""
        if self.welcomed.is_set() and self._verdicts_due is None:
            self._verdicts_due = self._loop.call_later(COALESCE_S, self._report_verdicts)

    def bundle_now(self) -> None:
        """Peers wait for their heartbeats to be carried on: send them with the next message, which is now (R7)."""
        if self._registered:
            self._outbox.heartbeat()

    def leave(self, reason: GoodbyeReason | None) -> None:
        """Say goodbye (None: another session is open, go without a word) and half-close; the manager then ends the session."""
        if reason is not None:
            number = enum_to_proto(ms.GoodbyeReason, reason)
            self._outbox.put(ms.ReportHealthRequest(goodbye=ms.AgentGoodbye(reason=number)))
        self._outbox.put(ms.ReportHealthRequest())  # the writer half-closes here

    # Tasks

    async def _read(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self._heard_at = self._identity.clock.now()
            self._keeper.look()
            kind = message.WhichOneof("payload")
            handle: Callable[[Any], None] | None = getattr(self, f"_on_{kind}", None)
            if handle is None:
                _log.debug("message_unknown", kind=kind)  # of a newer manager
            else:
                handle(getattr(message, kind))

    async def _write(self) -> None:
        while True:
            message = await self._outbox.next()
            if message.WhichOneof("payload") is None:
                await self._call.done_writing()
                await asyncio.Event().wait()
            message.applied_nonce = self._nonce
            await self._call.write(message)

    async def _beat(self) -> None:
        due = self._identity.clock.now()
        while True:
            if self._registered:
                if self._identity.has_watchdog is not self._announced:
                    await self._begin_anew()
                self._outbox.heartbeat()
            now = self._identity.clock.now()
            due = max(due + self._heartbeat_s, now)
            self._retimed.clear()
            if await set_within(self._retimed, due - now):
                due = self._identity.clock.now()

    async def _begin_anew(self) -> None:
        # Only hello tells of the watchdog (R10): the manager ends this session, and the link opens the next.
        _log.info("watchdog_changed", announced=self._announced)
        self.leave(None)
        await asyncio.Event().wait()

    async def _report_regularly(self) -> None:
        await self.welcomed.wait()
        waited = 0.0
        while True:
            self._outbox.report()
            while waited < self._report_s:
                pause = min(RESEND_S, self._report_s - waited)
                await asyncio.sleep(pause)
                waited += pause
                self._outbox.resend()
            waited = 0.0

    async def _watch_silence(self) -> None:
        within_s = min(WELCOME_WITHIN_S, max(LEAST_SILENCE_S, SILENT_HEARTBEATS * self._identity.heartbeat_interval_s))
        try:
            async with asyncio.timeout(within_s):
                await self.welcomed.wait()
        except TimeoutError:
            raise Unavailable("NO_WELCOME", f"the manager did not welcome this agent within {within_s:g} s") from None
        while True:
            limit_s = max(LEAST_SILENCE_S, SILENT_HEARTBEATS * self._heartbeat_s)
            await asyncio.sleep(limit_s / 4)
            if self._registered and self._identity.clock.now() - self._heard_at > limit_s:
                raise Unavailable("MANAGER_SILENT", f"the manager has said nothing for {limit_s:g} s")

    async def _raise_status(self, done: set[asyncio.Task[None]]) -> None:
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, grpc.RpcError | asyncio.InvalidStateError | grpc.aio.UsageError):
                raise error
        # Whoever noticed first, the call itself knows how it ended.
        async with asyncio.timeout(STATUS_WITHIN_S):
            code = await self._call.code()
            if code is grpc.StatusCode.OK:
                return
            details, trailing = await self._call.details(), await self._call.trailing_metadata()
        raise from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))

    # What the manager says

    def _on_welcome(self, welcome: ms.SessionWelcome) -> None:
        _log.info("session_welcomed", session_id=welcome.session_id, manager_id=welcome.manager_id)
        self._state.joined(welcome.cluster_id)
        self._identity.copy.welcomed()
        self._keeper.lease.cluster_id = welcome.cluster_id
        self._identity.report_acked(welcome.last_stored_sequence)
        if welcome.HasField("config"):
            self._on_config(welcome.config)
        if welcome.HasField("assignment"):
            self._on_assignment(welcome.assignment)
        self.welcomed.set()
        if self._keeper.is_lapsed:
            self._settle_lapse(in_force=not welcome.registration_required)
        if welcome.registration_required or not self._state.incarnation or self._keeper.lease.latched:
            self._register_anew()
        else:
            self._registered = True
            self._outbox.inventory(None)
            self._retimed.set()

    def _on_cluster_copy(self, copy: ms.ConfigurationCopy) -> None:
        self._identity.copy.take(copy)

    def _settle_lapse(self, *, in_force: bool) -> None:
        if in_force:
            self._keeper.spare()
        else:
            self._keeper.condemn("the guard ended while no agent ran, and the registration was revoked")

    def _on_report_ack(self, ack: ms.ReportAck) -> None:
        self._identity.report_acked(ack.sequence)
        self._outbox.acked(ack.sequence)

    def _on_assignment(self, assignment: ms.SessionAssignment) -> None:
        self.pushed += 1
        self._nonce = assignment.nonce
        self._desk.prober.assign(messages.assigned(assignment))
        least = messages.LEAST_INTERVAL_S
        self._heartbeat_s = max(least, seconds(assignment.heartbeat_interval))
        self._report_s = max(least, seconds(assignment.report_interval))
        self.refresh_s = max(least, seconds(assignment.peer_refresh_interval))
        self._desk.guests.every(self._report_s)
        self._retimed.set()

    def _on_drain(self, drain: ms.SessionDrain) -> None:
        _log.info("session_drains", grace_s=seconds(drain.grace_duration))
        self.drained.set()

    def _on_offer(self, offer: ms.RegistrationOffer) -> None:
        if (
            not self._token
            or not secrets.compare_digest(offer.boot_token.encode(), self._token.encode())
            or offer.incarnation <= 0
        ):
            _log.warning("offer_ignored", incarnation=offer.incarnation)
            return
        self._token = ""
        self._keeper.tell(Registered(incarnation=offer.incarnation))
        if self._state.incarnation != offer.incarnation:
            _log.warning("offer_ignored", incarnation=offer.incarnation)
            return
        self._registered = True
        _log.info("registered", incarnation=offer.incarnation)
        self._retimed.set()

    def _on_heartbeat_acks(self, acks: ms.HeartbeatAcks) -> None:
        for ack in acks.acks:
            if ack.host_id != self._state.host_id:
                self._desk.relays.acked(ack)
            else:
                self._identity.accept(ack)

    def _on_ownership(self, update: ms.OwnershipUpdate) -> None:
        self._parts.append(update)
        if update.more:
            return
        parts, self._parts = self._parts, []
        owned = [messages.owned(vm) for part in parts for vm in part.owned]
        released = [messages.released(vm) for part in parts for vm in part.releases]
        self._desk.ownership.update(update.incarnation, owned, released, start_owned=update.start_owned)

    def _on_config(self, config: ms.AgentConfig) -> None:
        if self._identity.configure(config):
            self._desk.autostart.protect(config.protection_enabled)

    def _on_scout(self, scout: ms.ScoutRequest) -> None:
        task = asyncio.create_task(self._scout(scout), name=f"scout {scout.scout_id}")
        self._scouts.add(task)
        task.add_done_callback(self._scouts.discard)

    def _on_inventory_request(self, request: ms.InventoryRequest) -> None:
        _log.info("inventory_requested", reason=request.reason)
        self._desk.guests.look_at_all()
        self._outbox.inventory(None)

    def _on_revoked(self, revoked: ms.IncarnationRevoked) -> None:
        if revoked.incarnation != self._state.incarnation:
            return
        _log.warning("incarnation_revoked", incarnation=revoked.incarnation, reason=revoked.reason)
        self._register_anew()

    # Doing it

    def _register_anew(self) -> None:
        self._registered = False
        self._desk.ownership.revoked()
        self._keeper.tell(Unregistered())
        self._token = ""
        self._must_register = True
        self._register_when_known()

    def _register_when_known(self) -> None:
        # Without libvirt nobody can say what runs here: the host waits with its registration.
        table = self._desk.guests.table
        if not self._must_register or table is None or not self._keeper.lease.may_register:
            return
        self._must_register = False
        self._token = secrets.token_hex(16)
        vms = messages.vm_epochs(table, self._state)
        self._outbox.put(ms.ReportHealthRequest(registration=ms.AgentRegistration(boot_token=self._token, vms=vms)))
        self._outbox.inventory(None)

    def _guard_changed(self) -> None:
        """It latched: nothing more is said under this incarnation (R3). Or its VMs are gone: the host may register (R23)."""
        if self.welcomed.is_set() and self._keeper.lease.latched:
            self._register_anew()

    def _guests_changed(self, changed: frozenset[str] | None) -> None:
        if self.welcomed.is_set():
            self._register_when_known()
            self._outbox.inventory(changed)

    def _report_verdicts(self) -> None:
        self._verdicts_due = None
        self._outbox.report()

    async def _scout(self, scout: ms.ScoutRequest) -> None:
        observations = await self._desk.prober.scout(messages.peers(scout.peers))
        self._outbox.scouted(scout.scout_id, observations)
