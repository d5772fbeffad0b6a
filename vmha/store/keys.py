"""Every key that vmha keeps in Redis: name, type, lifetime, writer and reader. docs/redis-keys.md shows the same table.

All keys of a cluster carry the hash tag `{cluster_id}`, so that one script may touch them all on a Redis Cluster. The two indexes
over all clusters do not; they are written outside scripts, and nothing that decides relies on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FINISHED_TTL_S = 30 * 24 * 3600
"""How long an ended evacuation can still be read."""
TOMBSTONE_TTL_S = 24 * 3600
"""How long a deleted cluster is not brought back by a manager that still remembers it."""
EVENT_TOKEN_TTL_S = 120
"""How long the repeat of an event's append is recognised."""
EVENTS_KEPT = 10_000
"""Events of a cluster, and steps of an evacuation, that are kept (approximately)."""
CONFIGS_KEPT = 64
"""Numbered configurations of a cluster that are kept."""
EVACUATIONS_KEPT = 1_000
"""Evacuations of a cluster that are kept."""

_PART = re.compile(r"<(\w+)>")
_CLUSTER_PREFIX = "vmha:{<cluster_id>}:"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """One kind of key. Calling it with the parts of the name, in their order, gives a key.

    Attributes:
        pattern: The key's name; `<part>` stands for an identifier, braces are Redis's hash tag.
        kind: Redis's type.
        ttl: How long it lives.
    """

    name: str
    pattern: str
    kind: str
    ttl: str
    writer: str
    reader: str
    holds: str

    def __call__(self, *parts: str) -> str:
        """The key for these parts."""
        names = _PART.findall(self.pattern)
        if len(names) != len(parts):
            raise TypeError(f"key {self.name} takes {names}, got {len(parts)} parts")
        rest = iter(parts)
        return _PART.sub(lambda _: next(rest), self.pattern)

    def lua(self) -> str:
        """A Lua function `K_<name>` that makes the key from its parts after the cluster's; `P` is the cluster's prefix."""
        tail = self.pattern.removeprefix(_CLUSTER_PREFIX)
        names = _PART.findall(tail)
        pieces = [f"a{names.index(p)}" if i % 2 else f"'{p}'" for i, p in enumerate(_PART.split(tail)) if p]
        arguments = ", ".join(f"a{i}" for i in range(len(names)))
        return f"local function K_{self.name}({arguments}) return P .. {' .. '.join(pieces)} end"


def _spec(name: str, tail: str, kind: str, ttl: str, writer: str, reader: str, holds: str) -> KeySpec:
    return KeySpec(name=name, pattern=_CLUSTER_PREFIX + tail, kind=kind, ttl=ttl, writer=writer, reader=reader, holds=holds)


CLUSTER_INDEX = KeySpec(
    name="cluster_index",
    pattern="vmha:clusters",
    kind="set",
    ttl="none",
    writer="manager",
    reader="manager, evac",
    holds="ids of all clusters; best effort, written before the cluster itself",
)
HOST_INDEX = KeySpec(
    name="host_index",
    pattern="vmha:hosts",
    kind="hash",
    ttl="none",
    writer="manager",
    reader="manager",
    holds="host_id to cluster_id; best effort, checked against the host itself",
)
CLUSTER = _spec(
    "cluster",
    "cluster",
    "hash",
    "none",
    "manager",
    "manager, evac",
    "settings, protection on or off, versions, store generation, hosts that safe mode waits for",
)
LEADER = _spec(
    "leader", "leader", "hash", "given by the manager, renewed", "manager", "manager",
    "the manager that leads: its run, name and address, the term, and what only it knows of the cluster",
)  # fmt: skip
TERM = _spec("term", "term", "string", "none", "manager", "manager, evac", "newest term of leadership; outlives the lease")
TOMBSTONE = _spec("tombstone", "deleted", "string", "1 day", "manager", "manager", "last version of a cluster deleted on purpose")
HOSTS = _spec("hosts", "hosts", "set", "none", "manager", "manager, evac", "ids of the cluster's hosts")
HOST = _spec(
    "host", "host:<host_id>", "hash", "none", "manager", "manager, evac",
    "configuration, state, registration in force and on offer, fence epoch, drain, operator's word, facts, agent's announcements",
)  # fmt: skip
CONFIGS = _spec(
    "configs", "configs", "hash", "none; what some host may still hold, 64 newest", "manager", "manager",
    "number to configuration of the safety protocol (JSON): voters, quorums, constants (R18)",
)  # fmt: skip
GROUPS = _spec("groups", "groups", "hash", "none", "manager", "manager, evac", "group_id to affinity rule (JSON)")
SUSPECT = _spec(
    "suspect", "suspect:<host_id>", "hash", "given by the manager, longer than the cooldown", "manager", "manager",
    "boot under suspicion, since when, confirmable from when; its absence only ever cancels",
)  # fmt: skip
INCIDENTS = _spec("incidents", "incidents", "hash", "none", "manager", "manager", "host_id to its open incident (JSON array)")
VMS = _spec("vms", "vms", "set", "none", "manager", "manager, evac", "ids of the cluster's VMs")
VM = _spec(
    "vm", "vm:<vm_id>", "hash", "none", "manager, evac", "manager, evac",
    "owner, its incarnation, epoch, claim, desired and last state, XML, facts; the lock on it, and where it is being migrated to",
)  # fmt: skip
HOST_VMS = _spec(
    "host_vms", "host:<host_id>:vms", "set", "none", "manager, evac", "manager, evac", "ids of the VMs that the host owns"
)
HOST_SEEN = _spec(
    "host_seen", "host:<host_id>:seen", "set", "none", "manager, evac", "manager, evac",
    "ids of VMs of other owners that the host said it executes, or that are being migrated to it (R22)",
)  # fmt: skip
WITHHELD = _spec(
    "withheld", "withheld", "set", "none", "manager", "manager",
    "ids of VMs that their host was not told to start when it registered: another host might have had them (R22)",
)  # fmt: skip
EVACUATIONS = _spec(
    "evacuations", "evacuations", "sorted set", "none; 1,000 newest", "evac, manager", "evac",
    "ids of evacuations and drains by start (Unix ms)",
)  # fmt: skip
EVACUATING = _spec("evacuating", "evacuating", "hash", "none", "evac", "evac", "host_id to its evacuation that has not ended")
DRAINING = _spec(
    "draining", "draining", "hash", "none", "manager, evac", "manager, evac", "host_id to its drain that has not ended"
)
EVACUATION = _spec(
    "evacuation", "evacuation:<evacuation_id>", "hash", "30 days after its end", "evac, manager", "evac, manager",
    "head of the journal of an evacuation or a drain: state, proof, sequence, counters",
)  # fmt: skip
ENTRIES = _spec(
    "entries", "evacuation:<evacuation_id>:vms", "hash", "30 days after its end", "evac", "evac", "vm_id to its entry (JSON)"
)
HISTORY = _spec(
    "history", "evacuation:<evacuation_id>:history", "stream", "30 days after its end; 10,000 newest", "evac", "evac",
    "each step with id `<sequence>-0`",
)  # fmt: skip
PLANNING = _spec(
    "planning", "planning", "string", "given by the evacuator", "evac", "evac", "the runner that plans for the cluster now"
)
RUNNER = _spec(
    "runner", "evacuation:<evacuation_id>:runner", "string", "given by the evacuator, renewed", "evac", "evac",
    "token of the one runner that may write the journal",
)  # fmt: skip
EVENTS = _spec(
    "events", "events", "stream", "none; 10,000 newest", "manager, evac", "manager", "event log with id `<revision>-0`"
)
EVENT_TOKEN = _spec(
    "event_token",
    "event:<token>",
    "string",
    "2 minutes",
    "manager, evac",
    "manager, evac",
    "revision of an append, for its repeat",
)

TABLE: tuple[KeySpec, ...] = (
    CLUSTER_INDEX, HOST_INDEX, CLUSTER, LEADER, TERM, TOMBSTONE, CONFIGS, HOSTS, HOST, GROUPS, SUSPECT, INCIDENTS, VMS, VM,
    HOST_VMS, HOST_SEEN, WITHHELD, EVACUATIONS, EVACUATING, DRAINING, EVACUATION, ENTRIES, HISTORY, PLANNING, RUNNER, EVENTS,
    EVENT_TOKEN,
)  # fmt: skip
"""Every key, in the order of the data's way."""


def lua_functions() -> str:
    """The Lua functions that name the cluster's keys: scripts take all names from this module."""
    return "\n".join(spec.lua() for spec in TABLE if spec.pattern.startswith(_CLUSTER_PREFIX))


def markdown() -> str:
    """The table as docs/redis-keys.md shows it."""
    head = "| key | type | lives | written by | read by | holds |\n| --- | --- | --- | --- | --- | --- |\n"
    return head + "".join(f"| `{s.pattern}` | {s.kind} | {s.ttl} | {s.writer} | {s.reader} | {s.holds} |\n" for s in TABLE)
