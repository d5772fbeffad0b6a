"""Core: how a host's state changes, and its way through a confirmed failure until that is settled (docs/decisions/002)."""

from __future__ import annotations

from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager.hostview import IN_INCIDENT, STREAMING, HostView, IllegalInput, OpenIncident, Suspicion
from vmha.model import EvacuationState, HostState

Effects = list[fx.Effect]

FLAPPING = "FLAPPING"
"""Alarm, and the reason of a host's state, while it was suspected in vain too often within an hour."""
STEPS: dict[EvacuationState, tuple[HostState, ...]] = {
    EvacuationState.VERIFYING: (HostState.FENCING,),
    EvacuationState.FENCE_PENDING: (HostState.FENCE_PENDING,),
    EvacuationState.PLANNING: (HostState.FENCED,),
    EvacuationState.RUNNING: (HostState.FENCED, HostState.EVACUATING),
    EvacuationState.PENDING: (HostState.FENCED, HostState.EVACUATING),
    EvacuationState.SUCCEEDED: (HostState.FENCED, HostState.EVACUATED),
    EvacuationState.PARTIALLY_FAILED: (HostState.FENCED, HostState.EVACUATED),
    EvacuationState.FAILED: (HostState.FENCED, HostState.EVACUATED),
}
"""What an evacuation's state means for its host. FENCED is never left out: it tells which rung of the ladder gave the proof."""
RANK = {
    HostState.DOWN: 0,
    HostState.FENCING: 1,
    HostState.FENCE_PENDING: 1,
    HostState.FENCED: 2,
    HostState.EVACUATING: 3,
    HostState.EVACUATED: 4,
}


def streaming(host: HostView) -> HostState:
    """The state of a host whose stream is fresh."""
    return HostState.IN_MAINTENANCE if host.in_maintenance else HostState.HEALTHY


def change(host: HostView, new: HostState, reason: str, message: str = "") -> Effects:
    """Change a host's state, where it differs.

    Raises:
        IllegalInput: The machine does not allow it; nothing was changed.
    """
    old = host.state
    if old is new:
        return []
    host.enter(new)
    incident_id = host.incident.incident_id if host.incident else ""
    return [fx.ChangeState(host_id=host.host_id, old=old, new=new, reason=reason, message=message, incident_id=incident_id)]


def raise_alarm(host: HostView, reason: str, message: str) -> Effects:
    """Raise an alarm once until it is cleared."""
    if reason in host.alarms:
        return []
    host.alarms.add(reason)
    return [fx.RaiseAlarm(reason=reason, host_id=host.host_id, message=message)]


def clear_alarms(host: HostView, *reasons: str) -> Effects:
    """Clear those of the alarms that stand."""
    standing = [reason for reason in reasons if reason in host.alarms]
    host.alarms.difference_update(standing)
    return [fx.ClearAlarm(reason=reason, host_id=host.host_id) for reason in standing]


def reason_of(host: HostView, state: HostState, reason: str) -> str:
    """The reason of a state; placement reads it: a host is no target while it flaps."""
    return FLAPPING if state in STREAMING and FLAPPING in host.alarms else reason


def note_agent(host: HostView, *, gone: bool, self_fencing: bool, watchdog: bool | None = None) -> Effects:
    """What is known of a host's agent: durable where it changes, for a later run must not take its silence for the host's.

    Args:
        watchdog: None: as before.
    """
    found = gone, self_fencing, host.watchdog if watchdog is None else watchdog
    if found == (host.agent_gone, host.self_fencing, host.watchdog):
        return []
    host.agent_gone, host.self_fencing, host.watchdog = found
    return [fx.RecordAgent(host_id=host.host_id, gone=gone, self_fencing=self_fencing, watchdog=host.watchdog)]


def clear(host: HostView, state: HostState, reason: str, now: float, *, in_vain: bool = True) -> Effects:
    """Drop a suspicion. One that a sign of life ended was in vain, and counts towards flapping."""
    host.suspicion, host.held = None, ""
    done: Effects = [fx.ClearSuspect(host_id=host.host_id, reason=reason)]
    if in_vain:
        host.note_cleared(now)
        done.append(fx.RecordFlap(host_id=host.host_id))
        reason = reason_of(host, state, reason)
    return done + clear_alarms(host, "MASS_FAILURE_HELD") + change(host, state, reason)


def confirm_ended(host: HostView, x: ev.ConfirmEnded, now: float) -> Effects:
    """The store's answer to ConfirmDown: there is an incident now, or there is none.

    Raises:
        IllegalInput: It was not asked.
    """
    suspicion = host.suspicion
    if suspicion is None or suspicion.confirm_asked_at is None:
        raise IllegalInput(f"{host.host_id}: nobody asked to confirm it down")
    asked_at, host.suspicion = suspicion.confirm_asked_at, None
    # Not `wants_registration`: a wish of long ago that was never fulfilled is no sign of life.
    lives = host.last_heard_at >= asked_at
    if x.incident_id is None:
        streams = host.heard_at is not None and host.heard_at >= asked_at
        state = streaming(host) if streams else HostState.AGENT_LOST
        # Nothing may confirm it in the same breath: its silence counts from here.
        host.started_at = now
        permit: Effects = [fx.PermitRegistration(host_id=host.host_id)] if host.wants_registration else []
        return clear(host, state, "SUSPICION_LOST", now, in_vain=False) + permit
    host.incident = OpenIncident(x.incident_id, fence_decides=suspicion.fence_decides)
    done = change(host, HostState.DOWN, "CONFIRMED", suspicion.evidence)
    done += clear_alarms(host, "MASS_FAILURE_HELD", "UNCONFIRMABLE")
    if lives:
        # It spoke while the store wrote: nothing was ordered yet, and nothing will be.
        return done + _close(host, HostState.UNKNOWN, "HOST_RETURNED", now)
    return [*done, fx.OrderEvacuation(host_id=host.host_id, incident_id=x.incident_id)]


def operator_confirmed_off(host: HostView, operator: str, now: float) -> Effects:
    """An operator's word makes an incident at once; where there is one already, the evacuator reads the word itself."""
    if host.incident is not None or host.is_asked or not host.may_enter(HostState.DOWN):
        return []
    evidence = f"{operator} states that it is off"
    host.suspicion = Suspicion(now, 0.0, evidence, confirm_at=now, asked_at=now, confirm_asked_at=now)
    return [fx.ConfirmDown(host_id=host.host_id, boot_id=host.boot_id, evidence=evidence, operator=True)]


def advanced(host: HostView, x: ev.EvacuationAdvanced, now: float) -> Effects:
    """The evacuator's word. Late words of other incidents are let go by."""
    incident = host.incident
    if incident is None or incident.incident_id != x.incident_id:
        return []
    incident.evacuation = x.state
    if x.state is EvacuationState.CANCELLED:
        return _close(host, HostState.UNKNOWN, "EVACUATION_CANCELLED", now)
    done: Effects = []
    if not incident.registered:
        done = _walk(host, x)
    if x.state.is_terminal:
        return done + _close(host, host.state, "", now)
    if incident.lets_register and host.wants_registration:
        done.append(fx.PermitRegistration(host_id=host.host_id))
    return done


def _walk(host: HostView, x: ev.EvacuationAdvanced) -> Effects:
    done: Effects = []
    for state in STEPS[x.state]:
        if host.state not in RANK or RANK[state] < RANK[host.state]:
            continue
        reason = x.proof.value if state is HostState.FENCED else (x.reason or x.state.value)
        done += change(host, state, reason, x.message)
    if x.state is EvacuationState.FENCE_PENDING:
        done += raise_alarm(host, "FENCE_PENDING", x.message or "no proof of death yet: no guest is started")
    elif x.state.is_proven:
        done += clear_alarms(host, "FENCE_PENDING")
    return done


def _close(host: HostView, state: HostState, reason: str, now: float) -> Effects:
    incident, host.incident = host.incident, None
    assert incident is not None
    done: Effects = [fx.CloseIncident(host_id=host.host_id, incident_id=incident.incident_id)]
    done += clear_alarms(host, "FENCE_PENDING")
    if host.state in IN_INCIDENT:
        # Its incarnation is revoked, so it could not be heard until now: its silence counts from here.
        host.started_at = now
        done += change(host, state, reason)
    if host.wants_registration:
        done.append(fx.PermitRegistration(host_id=host.host_id))
    return done


def registration_requested(host: HostView, now: float) -> Effects:
    """A host asks for an incarnation: it lives, so an unproven death is no death; a proven one is settled first."""
    host.wants_registration, host.registration_asked_at = True, now
    if host.is_asked:
        return []
    if host.suspicion is not None:
        return [*clear(host, HostState.AGENT_LOST, "HOST_RETURNED", now), fx.PermitRegistration(host_id=host.host_id)]
    incident = host.incident
    if incident is None or incident.lets_register:
        return [fx.PermitRegistration(host_id=host.host_id)]
    if incident.is_proven or incident.cancelling:
        return []
    incident.cancelling = True
    return [fx.CancelEvacuation(host_id=host.host_id, incident_id=incident.incident_id, reason="HOST_RETURNED")]


def registration_completed(host: HostView, boot_id: str, now: float) -> Effects:
    """A new incarnation is in force: the host is back, whatever it was."""
    host.boot_id, host.heard_at, host.wants_registration = boot_id, now, False
    host.planned_until, host.held = None, ""
    if host.is_asked:
        # The store's answer is on its way; this sign of life decides what it comes to.
        return []
    host.scouts_asked = ()
    if host.incident is not None:
        host.incident.registered = True
    done = clear_alarms(host, "UNCONFIRMABLE", "FENCE_PENDING", "MASS_FAILURE_HELD")
    if host.suspicion is not None:
        return done + clear(host, streaming(host), "REGISTERED", now)
    return done + change(host, streaming(host), reason_of(host, streaming(host), "REGISTERED"))
