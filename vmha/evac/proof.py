"""The ladder of proof (design 5.3): the first rung that holds is enough; none means FENCE_PENDING.

A rung is one entry of `LADDER`. Cheap rungs stand first: the order changes the time it takes, never the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from vmha.evac.events import ProofDenied, ProofGiven
from vmha.evac.fencing import FenceDevice, FenceFailed, Power
from vmha.evac.reasons import ProofReason
from vmha.model import ClusterConfig, ProofKind, ProofPolicy, SelfFencing
from vmha.store.records import HostRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The host in question, as the store knows it now, and the failure's epoch.

    Attributes:
        lease_proof: The leader's word that the host's lease has run out, with its figures; empty without it.
    """

    config: ClusterConfig
    host: HostRecord
    fence_epoch: int
    device: FenceDevice
    lease_proof: str = ""
    ask_fence: bool = True


Answer = ProofGiven | ProofDenied
Rung = Callable[[Case], Awaitable[Answer | None]]
"""Gives the proof, says why it has none, or None when it does not apply."""


async def no_proof_wanted(case: Case) -> Answer | None:
    """`proof: none`: the operators rely on the storage's own locks."""
    if case.config.proof is not ProofPolicy.NONE:
        return None
    return ProofGiven(kind=ProofKind.NONE, message="the cluster is set to proof: none; storage locks alone protect its VMs")


async def operators_word(case: Case) -> Answer | None:
    """ConfirmHostOff for this very failure."""
    if not case.host.confirmed_off_by or case.host.confirmed_off_epoch != case.fence_epoch:
        return None
    return ProofGiven(kind=ProofKind.OPERATOR, message=f"{case.host.confirmed_off_by} stated that the host is off")


async def lease(case: Case) -> Answer | None:
    """The leader found that the host's self-fencing agent has stopped its VMs by now (R16); durable before it counts."""
    if not case.lease_proof or case.config.self_fencing is SelfFencing.OFF:
        return None
    return ProofGiven(kind=ProofKind.LEASE, message=case.lease_proof)


async def fence(case: Case) -> Answer | None:
    """The device reads "off" twice. It is asked first, and ordered only when the host is on."""
    config, timers = case.host.config.fence, case.config.timers
    if config is None:
        return ProofDenied(reason=ProofReason.FENCE_NOT_CONFIGURED, message="the host has no fence device configured")
    if not case.ask_fence:
        return None
    timeout_s, refused = timers.fence_timeout_s, ""
    try:
        if await case.device.read(config, timeout_s) is Power.ON:
            refused = await _order_off(case, timeout_s)
            if await case.device.read(config, timeout_s) is Power.ON:
                return ProofDenied(reason=ProofReason.FENCE_STILL_ON, message=f"ordered off, and reads on{refused}")
        await asyncio.sleep(timers.fence_confirm_s)
        if await case.device.read(config, timeout_s) is Power.OFF:
            message = f"{config.agent} reads off twice, {timers.fence_confirm_s:g} s apart"
            return ProofGiven(kind=ProofKind.FENCE, message=message)
    except FenceFailed as error:
        return ProofDenied(reason=error.reason, message=str(error))
    return ProofDenied(reason=ProofReason.FENCE_STILL_ON, message="read off, and on again: somebody switches it")


async def _order_off(case: Case, timeout_s: float) -> str:
    assert case.host.config.fence is not None
    try:
        await case.device.order_off(case.host.config.fence, timeout_s)
    except FenceFailed as error:
        return f" ({error})"  # its word does not count; the readings that follow do
    return ""


LADDER: tuple[Rung, ...] = (no_proof_wanted, operators_word, lease, fence)


async def prove(case: Case, ladder: tuple[Rung, ...] = LADDER) -> Answer:
    """Climbs the ladder; the last refusal is the answer when no rung holds."""
    denied = ProofDenied(reason=ProofReason.FENCE_NOT_CONFIGURED, message="no rung of the ladder applies")
    for rung in ladder:
        answer = await rung(case)
        if isinstance(answer, ProofGiven):
            return answer
        denied = answer or denied
    return denied
