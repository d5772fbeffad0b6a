"""Core: two-way contact with the voters, and the window that a lease proof needs (docs/safety.md, R5, R6, R16, R18).

A voter is in contact, in F, for contact_ttl after the sending of an ack whose nonce it echoed. A host may be evacuated without
a fence after wait_duration of its silence, during all of which enough other voters were in contact, under every configuration
that the host may hold. All times are seconds on the manager's CLOCK_BOOTTIME.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ISSUED_KEPT: Final = 64
"""Nonces of one host whose send time is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterSet:
    """What one configuration says about contact.

    Attributes:
        evacuation_quorum: Voters in contact that an evacuation needs (E).
        contact_ttl_s: T_f.
        wait_s: T_wait.
    """

    voters: frozenset[str]
    evacuation_quorum: int
    contact_ttl_s: float
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseProof:
    """A host's lease has run out, and no certificate can hold (R16).

    Attributes:
        silent_s: Since its last heartbeat was processed, or since this run began.
        wait_s: What its configurations ask for.
        in_contact_s: For how long enough voters were in contact without a gap.
        hosts_in_contact: Voters in contact now, the host left out.
    """

    silent_s: float
    wait_s: float
    in_contact_s: float
    hosts_in_contact: int
    evacuation_quorum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLeaseProof:
    """Why there is none, and when there could be one; None: not while things stay as they are."""

    reason: str
    message: str
    ready_at: float | None = None


class _Window:
    """F under one configuration, and when it was last too small."""

    def __init__(self, voters: VoterSet, now: float) -> None:
        self.rules = voters
        self._expires: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []  # each of them once; its time may have come to be too early
        self._short_until = now
        self._short_without: dict[str, float] = {}

    def contact(self, host_id: str, sent_at: float, now: float) -> None:
        """An ack sent at `sent_at` came back."""
        expires = sent_at + self.rules.contact_ttl_s
        if host_id not in self.rules.voters or expires <= max(now, self._expires.get(host_id, now)):
            return
        if host_id not in self._expires:
            self._grows(now)
            heapq.heappush(self._due, (expires, host_id))
        self._expires[host_id] = expires

    def advance(self, now: float) -> None:
        """Takes out who is not in contact any more: v < a + T_f has ended."""
        while self._due and self._due[0][0] <= now:
            host_id = self._due[0][1]
            expires = self._expires[host_id]
            if expires <= now:
                heapq.heappop(self._due)
                del self._expires[host_id]
            else:
                heapq.heapreplace(self._due, (expires, host_id))

    def _grows(self, now: float) -> None:
        # Up to this instant F was too small: for everybody, or for those of its members whom it could not spare.
        size, least = len(self._expires), self.rules.evacuation_quorum
        if size < least:
            self._short_until = now
        elif size == least:
            self._short_without.update(dict.fromkeys(self._expires, now))

    def others(self, host_id: str) -> int:
        """Voters in contact, one host left out."""
        return len(self._expires) - (host_id in self._expires)

    def good_since(self, host_id: str) -> float | None:
        """Since when enough voters besides this host are in contact without a gap; None when they are not now."""
        if self.others(host_id) < self.rules.evacuation_quorum:
            return None
        return max(self._short_until, self._short_without.get(host_id, self._short_until))

    def forget(self, host_id: str) -> None:
        """The host left the cluster."""
        self._short_without.pop(host_id, None)


class Contact:
    """Contact with one cluster's voters in this run of the manager.

    Args:
        now: When this run, or this leader's term, began: whatever came before proves nothing.
    """

    def __init__(self, now: float) -> None:
        self._began = self._advanced_to = now
        self._rules: dict[int, VoterSet] = {}
        self._windows: dict[int, _Window] = {}
        self._issued: dict[str, tuple[int, list[tuple[int, float]]]] = {}
        self._heard: dict[str, float] = {}

    def restart(self, now: float) -> None:
        """What was heard so far proves nothing any more: a stall, a clock that jumped, a store that was lost (R20, R21)."""
        self._began = now
        self._issued.clear()
        self._heard.clear()
        self._windows = {version: _Window(rules, now) for version, rules in self._rules.items()}

    def configure(self, configs: Mapping[int, VoterSet], now: float) -> None:
        """The configurations that any host may hold, by number. A new one's window begins now, and begins bad."""
        self.advance(now)
        for version in [version for version in self._windows if configs.get(version) != self._rules[version]]:
            del self._windows[version]
        for version, rules in configs.items():
            if version not in self._windows:
                self._windows[version] = _Window(rules, now)
        self._rules = dict(configs)

    def forget(self, host_id: str) -> None:
        """The host left the cluster."""
        self._issued.pop(host_id, None)
        self._heard.pop(host_id, None)
        for window in self._windows.values():
            window.forget(host_id)

    def advance(self, now: float) -> None:
        """Let time pass: called before each event is applied and at each tick."""
        if now == self._advanced_to:
            return  # nothing that has run out by now can have been taken in since
        self._advanced_to = now
        for window in self._windows.values():
            window.advance(now)

    def issued(self, host_id: str, incarnation: int, number: int, sent_at: float) -> None:
        """A nonce is about to be sent to a host; `number` is its place in this run (R6)."""
        known, numbers = self._issued.get(host_id, (0, None))
        if numbers is None or known != incarnation:
            numbers = []
            self._issued[host_id] = (incarnation, numbers)
        numbers.append((number, sent_at))
        if len(numbers) > ISSUED_KEPT:
            del numbers[0]

    def echoed(self, host_id: str, incarnation: int, number: int, now: float) -> None:
        """A host sent a nonce back. One that this run did not issue to this registration says nothing."""
        self.advance(now)
        known, numbers = self._issued.get(host_id, (0, None))
        if numbers is None or known != incarnation:
            return
        sent_at = next((at for issued, at in numbers if issued == number), None)
        if sent_at is None:
            return
        while numbers[0][0] < number:
            del numbers[0]
        for window in self._windows.values():
            window.contact(host_id, sent_at, now)

    def heard(self, host_id: str, now: float) -> None:
        """A heartbeat was processed, whoever brought it."""
        self.advance(now)
        self._heard[host_id] = now

    def last_heard(self, host_id: str) -> float | None:
        """When the last heartbeat was processed in this run; None: none was."""
        return self._heard.get(host_id)

    def silent_since(self, host_id: str) -> float:
        """Since when nothing was heard: the last heartbeat, or the beginning of this run."""
        return self._heard.get(host_id, self._began)

    def in_contact(self, version: int) -> int:
        """Voters in contact now under a configuration."""
        window = self._windows.get(version)
        return 0 if window is None else window.others("")

    def prove(self, host_id: str, versions: Iterable[int], now: float) -> LeaseProof | NoLeaseProof:
        """Whether the host's lease has run out (R16).

        Args:
            host_id: The silent host.
            versions: Every configuration that it may hold: from the last confirmed to the last sent (R18).
            now: Seconds; the time of the decision.
        """
        self.advance(now)
        windows = [self._windows.get(version) for version in versions]
        known = [window for window in windows if window is not None]
        if not known or len(known) < len(windows):
            return NoLeaseProof(reason="CONFIG_UNKNOWN", message="it may hold a configuration that this manager does not know")
        wait_s = max(window.rules.wait_s for window in known)
        silent_since = self.silent_since(host_id)
        since = silent_since
        for window in known:
            good_since = window.good_since(host_id)
            if good_since is None:
                have, need = window.others(host_id), window.rules.evacuation_quorum
                return NoLeaseProof(reason="NOT_IN_CONTACT", message=f"{have} voters besides it are in contact, it takes {need}")
            since = max(since, good_since)
        if now - since <= wait_s:
            reason = "SILENCE_TOO_SHORT" if since == silent_since else "CONTACT_TOO_SHORT"
            message = f"silence and contact have lasted {now - since:.1f} s, it takes {wait_s:g} s"
            return NoLeaseProof(reason=reason, message=message, ready_at=since + wait_s)
        fewest = min(known, key=lambda window: window.others(host_id) - window.rules.evacuation_quorum)
        return LeaseProof(
            silent_s=now - silent_since,
            wait_s=wait_s,
            in_contact_s=now - max(window.good_since(host_id) or now for window in known),
            hosts_in_contact=fewest.others(host_id),
            evacuation_quorum=fewest.rules.evacuation_quorum,
        )
