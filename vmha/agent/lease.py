"""Core: a host's lease on its VMs, its certificates, and the latch that ends both (docs/safety.md, R1 to R4, R8, R9, R12).

Whoever holds it tells every event with the time at which it is processed. Before any event is looked at the guard's end is
compared with that time (R3): what comes late finds the incarnation finished.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from vmha.agent.lease_events import (
    NEVER,
    AckReceived,
    AskPeers,
    AttestReceived,
    Condemned,
    ConfigTaken,
    DestroyAll,
    Effect,
    Event,
    GuardState,
    HeartbeatSent,
    Keep,
    Kept,
    LeaseConfig,
    PeerAsked,
    Registered,
    Unregistered,
    VmsGone,
)

SENT_KEPT: Final = 256
"""Heartbeats whose send time is remembered until they are acknowledged."""
REQUESTS_KEPT: Final = 1024
"""Requests to peers that may still be answered."""


class Lease:
    """One host's guard.

    Args:
        host_id: The host.
        cluster_id: Its cluster; empty until it is known.
        kept: What an earlier agent of this boot wrote; None when there is nothing.
        now: Seconds on CLOCK_BOOTTIME.

    Attributes:
        guard_until: When the guard ends; minus infinity when nothing was promised.
        enforced: Whether this host destroys its VMs when the guard ends: what it announces as self-fencing.
        echo: The nonce of the newest accepted ack, for the next heartbeat (R5).
        certificates: Times that the guard went over from a lease to a certificate.
    """

    def __init__(self, host_id: str, cluster_id: str, kept: Kept | None, now: float) -> None:
        self.host_id = host_id
        self.cluster_id = cluster_id
        # Without a record nobody knows when the last ack came: not before now (R9, L4).
        self._hold(kept if kept is not None and kept.last_ack != NEVER else replace(kept or Kept(), last_ack=now))
        self.echo = ""
        self.certificates = 0
        self._sent: dict[int, float] = {}
        self._acked_sequence = 0
        self._requests: dict[str, tuple[str, float]] = {}
        self._attested: dict[str, float] = {}
        self._asked_at = NEVER
        self._resume = self._kept.latched and not self._kept.vms_gone
        self._was_certified = self._kept.cert_until > self._kept.lease_until and self._kept.cert_until > now
        self._resume_reason = "the agent restarted before every VM was verified gone"
        self._handlers: dict[type, Callable[[Any, float], bool]] = {
            Condemned: self._condemned,
            ConfigTaken: self._config_taken,
            Registered: self._registered,
            Unregistered: self._unregistered,
            HeartbeatSent: self._heartbeat_sent,
            AckReceived: self._ack_received,
            PeerAsked: self._peer_asked,
            AttestReceived: self._attest_received,
            VmsGone: self._vms_gone,
        }

    def _hold(self, kept: Kept) -> None:
        """Take a new record, and work out what is asked of it far more often than it changes."""
        self._kept, config = kept, kept.config
        self.guard_until = max(kept.lease_until, kept.cert_until, kept.carried_until)
        self.enforced = config is not None and config.enforced and self.guard_until > NEVER
        self._asks = kept.incarnation > 0 and config is not None and any(voter != self.host_id for voter in config.voters)

    # What others may ask

    @property
    def kept(self) -> Kept:
        """What is on record."""
        return self._kept

    @property
    def config(self) -> LeaseConfig | None:
        """The configuration held."""
        return self._kept.config

    @property
    def incarnation(self) -> int:
        """The registration in force; 0 without one."""
        return self._kept.incarnation

    @property
    def latched(self) -> bool:
        """Whether the guard has expired: no VM may run, no start, no heartbeat of this incarnation."""
        return self._kept.latched

    @property
    def may_register(self) -> bool:
        """Whether a registration may be asked for: a latched host first stops every VM (R23)."""
        return not self._kept.latched or self._kept.vms_gone

    def no_ack_age(self, now: float) -> float:
        """Seconds since the last accepted ack: what an attest states (R8)."""
        return now - self._kept.last_ack

    def may_start(self, now: float) -> bool:
        """Whether a VM may be started: the lease itself holds, under this incarnation; a certificate is not enough (R12)."""
        kept = self._kept
        return 0 < kept.incarnation == kept.leased_incarnation and not kept.latched and now < kept.lease_until

    def state(self, now: float) -> GuardState:
        """What lets the VMs run at this moment."""
        kept = self._kept
        if kept.latched:
            return GuardState.LATCHED
        if now < max(kept.lease_until, kept.carried_until):
            return GuardState.LEASED
        return GuardState.CERTIFIED if now < kept.cert_until else GuardState.EMPTY

    def deadline(self) -> float | None:
        """When `tick` is due next; None when nothing is."""
        if self._kept.latched:
            return None
        due = self.guard_until if self.enforced and self.guard_until < math.inf else None
        if not self._asks:
            return due
        request = self._next_request()
        return request if due is None else min(due, request)

    # What happens

    def tick(self, now: float) -> list[Effect]:
        """Time went by."""
        effects = self._expired(now)
        if self._resume:
            self._resume = False
            effects.append(DestroyAll(reason=self._resume_reason))
        config = self._kept.config
        if not self._kept.latched and config is not None and self._asks and now >= self._next_request():
            self._asked_at = now
            effects.append(AskPeers(hosts=tuple(voter for voter in config.voters if voter != self.host_id)))
        return effects

    def event(self, event: Event, now: float) -> list[Effect]:
        """Something happened; `now` is when it is processed."""
        effects = self._expired(now)
        if self._handlers[type(event)](event, now):
            effects.append(Keep(kept=self._kept))
        return effects

    def _expired(self, now: float) -> list[Effect]:
        if self._kept.latched or not self.enforced or now < self.guard_until:
            self._note_certificate(now)
            return []
        self._hold(replace(self._kept, latched=True, vms_gone=False))
        self._requests.clear()
        self._attested.clear()
        return [Keep(kept=self._kept), DestroyAll(reason="neither lease nor certificate holds")]

    def _note_certificate(self, now: float) -> None:
        certified = now < self._kept.cert_until and self.state(now) is GuardState.CERTIFIED
        self.certificates += certified and not self._was_certified
        self._was_certified = certified

    # Events: each answers whether the record changed

    def _condemned(self, event: Condemned, now: float) -> bool:
        if not self._kept.latched:
            self._hold(replace(self._kept, latched=True, vms_gone=False))
            self._resume, self._resume_reason = True, event.reason
        return True

    def _config_taken(self, event: ConfigTaken, now: float) -> bool:
        before, config = self._kept.config, event.config
        if before is not None and config.version < before.version:
            return False
        kept = replace(self._kept, config=config)
        if (before is None or not before.enforced) and now >= self.guard_until and not kept.latched:
            # Nobody relied on a guard that was not enforced: what ended meanwhile condemns no VM.
            kept = replace(kept, lease_until=NEVER, cert_until=NEVER, carried_until=NEVER)
        if before is None or _majority(before) != _majority(config):
            # What another majority said, or one that was asked for less, says nothing about this one.
            kept = replace(kept, cert_until=NEVER)
            self._attested.clear()
        self._hold(kept)
        self._certify(now)
        return True

    def _registered(self, event: Registered, now: float) -> bool:
        if event.incarnation <= self._kept.incarnation or not self.may_register:
            return False
        # VMs that run through the change keep the guard they had, and no more; a latched host has none, and starts from nothing.
        carried = NEVER if self._kept.latched else self.guard_until
        self._hold(
            replace(
                self._kept,
                incarnation=event.incarnation,
                latched=False,
                vms_gone=False,
                lease_until=NEVER,
                cert_until=NEVER,
                carried_until=carried,
            )
        )
        self._forget_flight()
        self._certify(now)
        return True

    def _unregistered(self, event: Unregistered, now: float) -> bool:
        carried = NEVER if self._kept.latched else self.guard_until
        self._hold(replace(self._kept, incarnation=0, lease_until=NEVER, cert_until=NEVER, carried_until=carried))
        self._forget_flight()
        return True

    def _forget_flight(self) -> None:
        self._sent.clear()
        self._requests.clear()
        self._attested.clear()
        self.echo = ""

    def _heartbeat_sent(self, event: HeartbeatSent, now: float) -> bool:
        # Sent to several peers, it counts from the first (R1).
        self._sent.setdefault(event.sequence, now)
        while len(self._sent) > SENT_KEPT:
            del self._sent[next(iter(self._sent))]
        return False

    def _ack_received(self, event: AckReceived, now: float) -> bool:
        kept, config = self._kept, self._kept.config
        if kept.latched or config is None or not 0 < kept.incarnation == event.incarnation:
            return False
        sent_at = self._sent.get(event.sequence)
        if sent_at is None or event.sequence <= self._acked_sequence:
            return False
        for sequence in [sequence for sequence in self._sent if sequence <= event.sequence]:
            del self._sent[sequence]
        if now - sent_at > config.ack_max_age_s:
            return False  # R4: no lease, no last_ack, no echo
        self._acked_sequence = event.sequence
        until = max(kept.lease_until, sent_at + config.lease_duration_s)
        self._hold(replace(kept, last_ack=now, leased_incarnation=event.incarnation, lease_until=until))
        self.echo = event.nonce
        return True

    def _peer_asked(self, event: PeerAsked, now: float) -> bool:
        if not self._kept.latched:
            self._requests[event.request_nonce] = (event.host_id, now)
        while len(self._requests) > REQUESTS_KEPT:
            del self._requests[next(iter(self._requests))]
        return False

    def _attest_received(self, event: AttestReceived, now: float) -> bool:
        kept, config = self._kept, self._kept.config
        asked, sent_at = self._requests.pop(event.request_nonce, ("", NEVER))
        if kept.latched or config is None or asked != event.host_id or event.host_id == self.host_id:
            return False
        if event.cluster_id != self.cluster_id or not 0 < kept.incarnation == event.incarnation:
            return False
        if event.no_ack_age_s < config.attest_after_s or event.host_id not in config.voters:
            return False
        self._attested[event.host_id] = max(sent_at, self._attested.get(event.host_id, NEVER))
        return self._certify(now)

    def _vms_gone(self, event: VmsGone, now: float) -> bool:
        changed = self._kept.latched and not self._kept.vms_gone
        if changed:
            self._hold(replace(self._kept, vms_gone=True))
        return changed

    # Certificates

    def _certify(self, now: float) -> bool:
        """R2: the certificate ends W after the n-th newest request that distinct voters answered with an attest."""
        kept, config = self._kept, self._kept.config
        if config is None:
            return False
        until = self._certified_until(config)
        if until <= max(kept.cert_until, now):
            # One that has ended already would be taken for a guard that expired, on a host that never had any.
            return False
        self._hold(replace(kept, cert_until=until))
        return True

    def _certified_until(self, config: LeaseConfig) -> float:
        needed = config.certificate_quorum - (self.host_id in config.voters)
        if not config.voters or self._kept.incarnation == 0:
            return NEVER
        if needed <= 0:
            return math.inf  # the only voter is its own majority
        times = sorted((at for host, at in self._attested.items() if host in config.voters), reverse=True)
        return NEVER if len(times) < needed else times[needed - 1] + config.certificate_window_s

    def _next_request(self) -> float:
        config = self._kept.config
        assert config is not None
        return max(self._kept.last_ack + config.relay_after_s, self._asked_at + config.request_interval_s)


def _majority(config: LeaseConfig) -> tuple[object, ...]:
    return frozenset(config.voters), config.certificate_quorum, config.certificate_window_s, config.attest_after_s
