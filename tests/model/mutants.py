"""The rules of docs/safety.md switched off one at a time, in the lease model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tests.model.protocol import Model, Rules, State, broken, initial
from tests.model.search import Found, search

TIGHT = Rules(drift=False, wait=3)
"""Clocks that never fail, and the shortest wait that is safe with them: the mutants' constants, small and quick."""
LONG_WINDOW = replace(TIGHT, window=3)
FOUR_HOSTS = replace(LONG_WINDOW, voters=3, slow_contact=False, slow_attests=False)
TWO_COMMITTEES = replace(TIGHT, voters=2, two_configs=True, slow_contact=False, slow_attests=False)
SHORT_LEASE = replace(LONG_WINDOW, lease=1)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A rule switched off or weakened: `sound` is the protocol, `rules` the same without it."""

    rule: str
    change: str
    sound: Rules = TIGHT
    rules: Rules


def _without(rule: str, change: str, sound: Rules = TIGHT, **changes: Any) -> Mutant:
    return Mutant(rule=rule, change=change, sound=sound, rules=replace(sound, **changes))


MUTANTS = [
    _without("I1", "T_attest below T_f: a voter attests while it still counts as in contact", attest_after=1),
    _without("I1", "T_attest below W + T_f, four hosts", FOUR_HOSTS, attest_after=2),
    _without("I2", "T_wait one tick shorter", wait=2),
    _without(
        "I2",
        "T_wait without its share for the drift of clocks",
        replace(TIGHT, drift=True, wait=4, slow_contact=False, slow_attests=False),
        wait=3,
    ),
    _without("R1", "the lease counts from the receipt of the ack", lease_from_receipt=True),
    _without("R1", "an ack of another incarnation counts", foreign_ack=True),
    _without("R1", "an agent that restarts counts its heartbeats from 1 again, in the same incarnation", sequences_again=True),
    _without("R2", "the host's own attest counts as a voter's", own_attest=True),
    _without("R2", "one attest fewer than C - 1, two hosts", needed_less=1),
    _without("R2", "one attest fewer than C - 1 (or one voter twice, R24), four hosts", FOUR_HOSTS, needed_less=1),
    _without(
        "R2", "the certificate counts from the newest request, not the n-th newest, four hosts", FOUR_HOSTS, newest_request=True
    ),
    _without("R2", "an attest counts for any request, without its nonce, from its receipt", attest_any_request=True),
    _without("R5", "heartbeats echo a sequence: hearing a voter is taken for contact with it", echo_sequence=True),
    _without("R6", "contact counts from the receipt of the echo", contact_from_receipt=True),
    _without("R6", "nonces of an earlier run of the manager count", foreign_run=True),
    _without("R8", "an echo leaves before the ack is on record", echo_before_record=True),
    _without("R9", "an agent's restart forgets the last ack", record_lost_on_restart=True),
    _without("R9", "a reboot counts as never having had an ack", record_lost_on_reboot=True),
    _without("R9", "VMs found without a record run on", guard_lost_keeps_vm=True),
    _without("R10", "the kill comes late, or never", never_killed=True),
    _without("R12", "a certificate is enough for a start", start_on_certificate=True),
    _without("R12", "a start is taken before the first ack", start_unleased=True),
    _without("R16", "silence is not asked for", silence_ignored=True),
    _without("R16", "contact is looked at only at the decision", window_at_decision=True),
    _without("R16", "a new run's window begins good", window_starts_good=True),
    _without("R16", "the silent host itself counts as in contact", SHORT_LEASE, counts_itself=True),
    _without("R16", "E - 1 voters are enough, two hosts", quorum_less=1),
    _without(
        "R16",
        "E - 1 voters are enough, three hosts",
        replace(TIGHT, voters=2, slow_contact=False, slow_attests=False),
        quorum_less=1,
    ),
    _without("R17", "a revoked incarnation is acked", revoked_acked=True),
    _without("R17", "a heartbeat is acked while the decision is made", not_serialised=True),
    _without("R18", "only the newest configuration is looked at", TWO_COMMITTEES, newest_config_only=True),
    _without("R19", "a leader that lost its lock acks what it read before it looked", old_leader_acks=True),
]


@cache
def find(rules: Rules) -> Found[State]:
    """The shortest run that ends with two copies, or none."""
    return search(initial(rules), Model(rules).successors, broken)
