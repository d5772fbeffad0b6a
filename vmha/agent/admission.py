"""Whether a VM that an evacuation created paused may execute here (design 5.4)."""

from __future__ import annotations

import structlog

from vmha.agent.guests import Guests
from vmha.agent.hypervisor import LocalHypervisor
from vmha.agent.keeper import Keeper
from vmha.agent.state import State
from vmha.agent.vm_locks import VmLocks
from vmha.errors import Aborted, FieldViolation, InvalidField, NotFound, PreconditionFailed
from vmha.log import bound
from vmha.model import VmState
from vmha.v1 import agent_service_pb2 as pb

_log = structlog.get_logger("vmha.agent")


class Admission:
    """Lets VMs execute: only under this host's own registration and lease, and under the newest epoch that was seen (R12)."""

    def __init__(self, state: State, keeper: Keeper, hypervisor: LocalHypervisor, guests: Guests, locks: VmLocks) -> None:
        self._state = state
        self._keeper = keeper
        self._hypervisor = hypervisor
        self._guests = guests
        self._locks = locks

    async def admit(self, request: pb.AdmitVmRequest) -> VmState:
        """Resume it; running already under this epoch is success.

        Raises:
            InvalidField: It is meant for another host or cluster.
            PreconditionFailed: NOT_REGISTERED, INCARNATION_MISMATCH, LEASE_EXPIRED, DOMAIN_NOT_PAUSED, LIBVIRT_REFUSED.
            Aborted: STALE_VM_EPOCH.
            NotFound: DOMAIN_UNKNOWN.
            Unavailable: LIBVIRT_UNAVAILABLE, STATE_UNAVAILABLE.
        """
        with bound(vm_id=request.vm_id, evacuation_id=request.evacuation_id):
            lock = self._locks(request.vm_id)
            async with lock:
                self._check(request)
                domain = await self._hypervisor.domain(request.vm_id)
                if domain is None:
                    raise NotFound("DOMAIN_UNKNOWN", f"there is no domain {request.vm_id} here", {"vm_id": request.vm_id})
                if domain.state in {VmState.SHUTOFF, VmState.CRASHED}:
                    message = f"the domain is {domain.state}, not paused"
                    raise PreconditionFailed("DOMAIN_NOT_PAUSED", message, {"vm_id": request.vm_id, "state": str(domain.state)})
                # The registration may have ended while libvirt was asked.
                self._check(request)
                # On disk first: after a crash right behind resume the epoch must not be forgotten.
                self._state.told({request.vm_id: request.epoch}, {})
                state = await self._hypervisor.resume(request.vm_id)
            self._guests.look_again(request.vm_id)
            _log.info("vm_admitted", epoch=request.epoch, state=str(state))
            return state

    def _check(self, request: pb.AdmitVmRequest) -> None:
        state = self._state
        wrong = [("host_id", state.host_id), ("cluster_id", state.cluster_id)]
        violations = [
            FieldViolation(name, f"must be this host's own, {own!r}")
            for name, own in wrong
            if own and getattr(request, name) != own
        ]
        if violations:
            raise InvalidField(violations)
        if not state.incarnation:
            raise PreconditionFailed("NOT_REGISTERED", "this host has no registration in force")
        if request.incarnation != state.incarnation:
            raise PreconditionFailed(
                "INCARNATION_MISMATCH",
                f"this host's incarnation is {state.incarnation}, not {request.incarnation}",
                {"incarnation": str(state.incarnation)},
            )
        self._keeper.check_may_start()
        newest = state.newest_epoch(request.vm_id)
        if request.epoch < newest or (request.epoch == newest and not state.owns(request.vm_id)):
            message = f"epoch {newest} of {request.vm_id} was seen here, {request.epoch} is older"
            raise Aborted("STALE_VM_EPOCH", message, {"vm_id": request.vm_id, "epoch": str(newest)})
