"""Rules switched off, one at a time, to see that chaos notices (docs/safety.md). For tests of the tests: nothing else uses this.

A mutant is a context in which a class of the product lacks a rule; the product's own code has no such switch. tests/model has
mutants of its own, for what chaos cannot hit by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

from vmha.agent.keeper import Keeper
from vmha.agent.lease import Lease
from vmha.agent.lease_events import AckReceived, AttestReceived, LeaseConfig
from vmha.agent.relay_desk import RelayDesk
from vmha.agent.state import State
from vmha.errors import FieldViolation, InvalidField
from vmha.evac.vmwork import VmWork
from vmha.manager.clusterview import ClusterView
from vmha.manager.contact import Contact, LeaseProof, NoLeaseProof
from vmha.manager.leader_lease import LeaderLease
from vmha.manager.memory import ClusterMemory
from vmha.store.scripts import Scripts
from vmha.store.vm_locks import VmLocks

Composition = Callable[[], AbstractContextManager[None]]
Patch = tuple[type, str, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A rule that can be switched off.

    Attributes:
        without: What is left out, for people.
        patches: Class, attribute, and what takes its place, made from what was there.
    """

    rule: str
    without: str
    patches: tuple[Patch, ...]

    @contextmanager
    def composition(self) -> Iterator[None]:
        """The context in which it is off."""
        with ExitStack() as stack:
            for owner, name, make in self.patches:
                before = owner.__dict__[name]
                setattr(owner, name, make(before))
                stack.callback(setattr, owner, name, before)
            yield


def composition(name: str) -> Composition:
    """The context of a mutant; of none for the empty name.

    Raises:
        InvalidField: There is no such mutant.
    """
    if not name:
        return nullcontext
    if name not in MUTANTS:
        raise InvalidField([FieldViolation("--mutant", f'unknown rule "{name}"; there are {", ".join(MUTANTS)}')])
    return MUTANTS[name].composition


# The agent


def _lease_from_receipt(before: Any) -> Any:
    def ack_received(self: Lease, event: AckReceived, now: float) -> bool:
        known = event.sequence in self._sent
        for sequence in self._sent:
            self._sent[sequence] = now
        return bool(before(self, event, now)) if known else False

    return ack_received


def _one_attest_fewer(before: Any) -> Any:
    def certified_until(self: Lease, config: LeaseConfig) -> float:
        needed = config.certificate_quorum - (self.host_id in config.voters)
        if needed <= 1:
            return math.inf if self.kept.incarnation else float(before(self, config))
        return float(before(self, replace(config, certificate_quorum=config.certificate_quorum - 1)))

    return certified_until


def _never_latched(before: Any) -> Any:
    return lambda self, now: []


def _any_age_of_ack(before: Any) -> Any:
    def ack_received(self: Lease, event: AckReceived, now: float) -> bool:
        config = self.kept.config
        if config is None:
            return bool(before(self, event, now))
        self._hold(replace(self._kept, config=replace(config, ack_max_age_s=math.inf)))
        changed = bool(before(self, event, now))
        self._hold(replace(self._kept, config=config))
        return changed

    return ack_received


def _any_attest(before: Any) -> Any:
    def attest_received(self: Lease, event: AttestReceived, now: float) -> bool:
        return bool(before(self, replace(event, no_ack_age_s=math.inf), now))

    return attest_received


def _attests_always(before: Any) -> Any:
    async def nobody_acks(self: Any, beat: Any, within_s: float) -> None:
        return None

    return nobody_acks


def _no_record(before: Any) -> Any:
    return lambda self: False


def _starts_always(before: Any) -> Any:
    return lambda self: None


# The manager


def _contact_by_hearing(before: Any) -> Any:
    def heard(self: Contact, host_id: str, now: float) -> None:
        before(self, host_id, now)
        for window in self._windows.values():
            window.contact(host_id, now, now)

    return heard


def _contact_from_echo(before: Any) -> Any:
    def echoed(self: Contact, host_id: str, incarnation: int, number: int, now: float) -> None:
        for window in self._windows.values():
            window.contact(host_id, now, now)
        before(self, host_id, incarnation, number, now)

    return echoed


def _shorter_wait(before: Any) -> Any:
    def configure(self: Contact, configs: Mapping[int, Any], now: float) -> None:
        before(self, {number: replace(rules, wait_s=rules.wait_s / 3) for number, rules in configs.items()}, now)

    return configure


def _no_window(before: Any) -> Any:
    def prove(self: Contact, host_id: str, versions: Any, now: float) -> LeaseProof | NoLeaseProof:
        found: LeaseProof | NoLeaseProof = before(self, host_id, versions, now)
        if isinstance(found, NoLeaseProof) and found.reason in {"SILENCE_TOO_SHORT", "CONTACT_TOO_SHORT", "NOT_IN_CONTACT"}:
            silent_s = now - self.silent_since(host_id)
            return LeaseProof(silent_s=silent_s, wait_s=0.1, in_contact_s=silent_s, hosts_in_contact=99, evacuation_quorum=1)
        return found

    return prove


def _contact_not_asked(before: Any) -> Any:
    def prove(self: Contact, host_id: str, versions: Any, now: float) -> LeaseProof | NoLeaseProof:
        known = tuple(versions)
        found: LeaseProof | NoLeaseProof = before(self, host_id, known, now)
        if isinstance(found, NoLeaseProof) and found.reason in {"CONTACT_TOO_SHORT", "NOT_IN_CONTACT"}:
            silent_s = now - self.silent_since(host_id)
            wait_s = max(window.rules.wait_s for window in self._windows.values())
            if silent_s > wait_s:
                return LeaseProof(
                    silent_s=silent_s, wait_s=wait_s, in_contact_s=silent_s, hosts_in_contact=99, evacuation_quorum=1
                )
        return found

    return prove


def _revoked_is_in_force(before: Any) -> Any:
    def in_force(self: ClusterMemory, host_id: str, incarnation: int) -> bool:
        host = self.hosts.get(host_id)
        return host is not None and 0 < incarnation == host.incarnation

    return in_force


def _newest_config(before: Any) -> Any:
    def versions_held(self: ClusterView, host_id: str) -> frozenset[int]:
        return frozenset([max(self.configs)]) if self.configs else frozenset()

    return versions_held


def _leads_for_ever(before: Any) -> Any:
    return lambda self, term: self._core.term == term


def _no_term(before: Any) -> Any:
    return lambda self, term: self


# The evacuator


def _never_pinned(before: Any) -> Any:
    return property(lambda self: False, lambda self, value: None)


def _locks_nothing(before: Any) -> Any:
    async def take(self: VmLocks, *arguments: Any) -> None:
        return None

    return take


def _of(rule: str, without: str, *patches: Patch) -> Mutant:
    return Mutant(rule=rule, without=without, patches=patches)


MUTANTS: Final[Mapping[str, Mutant]] = {
    mutant.rule: mutant
    for mutant in (
        _of("I2", "a third of T_wait is enough", (Contact, "configure", _shorter_wait)),
        _of("R1", "the lease counts from the receipt of the ack", (Lease, "_ack_received", _lease_from_receipt)),
        _of("R2", "one attest fewer makes a certificate", (Lease, "_certified_until", _one_attest_fewer)),
        _of("R3", "nothing is destroyed when the guard expires", (Lease, "_expired", _never_latched)),
        _of("R4", "an ack of any age counts", (Lease, "_ack_received", _any_age_of_ack)),
        _of("R5", "hearing a host is taken for contact with it", (Contact, "heard", _contact_by_hearing)),
        _of("R6", "contact counts from the receipt of the echo", (Contact, "echoed", _contact_from_echo)),
        _of(
            "R8",
            "peers attest at once, and the age of their last ack is not looked at",
            (Lease, "_attest_received", _any_attest),
            (RelayDesk, "_ack", _attests_always),
        ),
        _of(
            "R9",
            "a restarted agent keeps VMs and forgets the lease",
            (State, "_read", _no_record),
            (State, "_is_marked", _no_record),
        ),
        _of("R12", "a VM is admitted without a lease", (Keeper, "check_may_start", _starts_always)),
        _of("R15", "a start without an answer justifies another target", (VmWork, "pinned", _never_pinned)),
        _of("R16", "neither silence nor contact is asked for", (Contact, "prove", _no_window)),
        _of("R16-contact", "silence is enough, contact is not asked for", (Contact, "prove", _contact_not_asked)),
        _of("R17", "a revoked incarnation is acknowledged", (ClusterMemory, "in_force", _revoked_is_in_force)),
        _of("R18", "only the newest configuration is looked at", (ClusterView, "versions_held", _newest_config)),
        _of(
            "R19",
            "an old leader goes on, and the store takes its writes",
            (LeaderLease, "leads", _leads_for_ever),
            (Scripts, "under", _no_term),
        ),
        _of("DRAIN_LOCK", "a drain takes no lock on a VM, and says nowhere where it sends it", (VmLocks, "take", _locks_nothing)),
    )
}
"""By name, as `--mutant` takes it."""
