"""Records to and from what Redis keeps: hashes of text, and JSON for what is read and written whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter

from vmha.facts import HostFacts, VmFacts
from vmha.model import ClusterConfig, EvacuationKind, EvacuationState, Group, HostConfig, HostState, ProofKind, VmOutcome, VmState
from vmha.store.records import (
    MIGRATED_AWAY,
    ClusterRecord,
    EvacuationRecord,
    HostRecord,
    Incident,
    SafetyConfig,
    SuspectRecord,
    VmEntry,
    VmRecord,
)

Hash = Mapping[str, str]

PARSED_KEPT: Final = 4096
"""Texts of each kind whose meaning is remembered: managers read the same records over and over, and they seldom change."""

_CLUSTER_CONFIG = TypeAdapter(ClusterConfig)
_HOST_CONFIG = TypeAdapter(HostConfig)
_HOST_FACTS = TypeAdapter(HostFacts)
_VM_FACTS = TypeAdapter(VmFacts)
_GROUP = TypeAdapter(Group)
_VM_ENTRY = TypeAdapter(VmEntry)
_SAFETY_CONFIG = TypeAdapter(SafetyConfig)
_read_cluster_config: Callable[[str], ClusterConfig] = lru_cache(PARSED_KEPT)(_CLUSTER_CONFIG.validate_json)
_read_host_config: Callable[[str], HostConfig] = lru_cache(PARSED_KEPT)(_HOST_CONFIG.validate_json)
_read_host_facts: Callable[[str], HostFacts] = lru_cache(PARSED_KEPT)(_HOST_FACTS.validate_json)
_read_vm_facts: Callable[[str], VmFacts] = lru_cache(PARSED_KEPT)(_VM_FACTS.validate_json)
_read_safety_config: Callable[[str], SafetyConfig] = lru_cache(PARSED_KEPT)(_SAFETY_CONFIG.validate_json)


def text(value: object) -> str:
    """What a client answers, with or without decode_responses, as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def text_map(reply: Mapping[Any, Any]) -> dict[str, str]:
    """A hash as a client answers it."""
    return {text(name): text(value) for name, value in reply.items()}


def flag(value: bool) -> str:
    """A boolean as a hash keeps it."""
    return "1" if value else "0"


def _json(adapter: TypeAdapter[Any], value: object) -> str:
    """Canonical: equal values give equal text, so that a script can compare them."""
    return json.dumps(adapter.dump_python(value, mode="json"), sort_keys=True, separators=(",", ":"))


def cluster_config_text(config: ClusterConfig) -> str:
    """A cluster's settings."""
    return _json(_CLUSTER_CONFIG, config)


def host_config_text(config: HostConfig) -> str:
    """A host's settings."""
    return _json(_HOST_CONFIG, config)


def host_facts_text(facts: HostFacts | None) -> str:
    """A host's facts; empty for none."""
    return _json(_HOST_FACTS, facts) if facts is not None else ""


def vm_facts_text(facts: VmFacts | None) -> str:
    """A VM's facts; empty for none."""
    return _json(_VM_FACTS, facts) if facts is not None else ""


def group_text(group: Group) -> str:
    """An affinity rule, without its etag."""
    value = _GROUP.dump_python(group, mode="json")
    del value["etag"]
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def group(stored: str) -> Group:
    """An affinity rule; its etag is made of its content."""
    return _GROUP.validate_python(json.loads(stored) | {"etag": hashlib.sha1(stored.encode(), usedforsecurity=False).hexdigest()})


def entry_text(entry: VmEntry) -> str:
    """A journal entry."""
    return _VM_ENTRY.dump_json(entry).decode()


def entry(stored: str) -> VmEntry:
    """A journal entry."""
    return _VM_ENTRY.validate_json(stored)


def _int(row: Hash, name: str) -> int:
    return int(row.get(name) or 0)


def _float(row: Hash, name: str) -> float:
    return float(row.get(name) or 0)


def cluster(cluster_id: str, row: Hash) -> ClusterRecord:
    """A cluster's hash."""
    return ClusterRecord(
        cluster_id=cluster_id,
        config=_read_cluster_config(row["config"]),
        ha_enabled=row.get("ha_enabled") == "1",
        version=_int(row, "version"),
        config_version=_int(row, "config_version"),
        store_generation=_int(row, "store_generation"),
        awaited=tuple(sorted(json.loads(row.get("awaited") or "[]"))),
    )


def safety_config_text(config: SafetyConfig) -> str:
    """A configuration of the safety protocol."""
    return _json(_SAFETY_CONFIG, config)


def safety_config(stored: str) -> SafetyConfig:
    """A configuration of the safety protocol."""
    return _read_safety_config(stored)


def host(cluster_id: str, host_id: str, row: Hash) -> HostRecord:
    """A host's hash."""
    return HostRecord(
        host_id=host_id,
        cluster_id=cluster_id,
        config=_read_host_config(row["config"]),
        version=_int(row, "version"),
        state=HostState(row.get("state") or "UNKNOWN"),
        state_reason=row.get("state_reason", ""),
        state_message=row.get("state_message", ""),
        state_time_s=_float(row, "state_time_s"),
        boot_id=row.get("boot_id", ""),
        incarnation=_int(row, "incarnation"),
        incarnation_revoked=row.get("incarnation_revoked") == "1",
        fence_epoch=_int(row, "fence_epoch"),
        in_maintenance=row.get("in_maintenance") == "1",
        incident_id=row.get("incident_id", ""),
        facts=_read_host_facts(row["facts"]) if row.get("facts") else None,
        confirmed_off_by=row.get("confirmed_off_by", ""),
        confirmed_off_epoch=_int(row, "confirmed_off_epoch"),
        confirmed_off_time_s=_float(row, "confirmed_off_time_s"),
        self_fencing=row.get("self_fencing") == "1",
        watchdog=row.get("watchdog") == "1",
        config_sent=_int(row, "config_sent"),
        config_confirmed=_int(row, "config_confirmed"),
        agent_gone=row.get("agent_gone") == "1",
        undelivered=row.get("undelivered") == "1",
        dead_incarnation=_int(row, "dead_incarnation"),
        drain_id=row.get("drain_id", ""),
        drain_stop=row.get("drain_stop") == "1",
        drain_before=row.get("drain_before") == "1",
        clock_suspect_s=_float(row, "clock_suspect_s"),
        flaps_s=tuple(float(at) for at in json.loads(row.get("flaps") or "[]")),
    )


def host_row(record: HostRecord) -> dict[str, str]:
    """A host's hash, for the restoration of a lost store."""
    return {
        "config": host_config_text(record.config),
        "version": str(record.version),
        "state": record.state.value,
        "state_reason": record.state_reason,
        "state_message": record.state_message,
        "state_time_s": f"{record.state_time_s:.6f}",
        "boot_id": record.boot_id,
        "incarnation": str(record.incarnation),
        "incarnation_revoked": flag(record.incarnation_revoked),
        "fence_epoch": str(record.fence_epoch),
        "in_maintenance": flag(record.in_maintenance),
        "incident_id": record.incident_id,
        "facts": host_facts_text(record.facts),
        "confirmed_off_by": record.confirmed_off_by,
        "confirmed_off_epoch": str(record.confirmed_off_epoch),
        "confirmed_off_time_s": f"{record.confirmed_off_time_s:.6f}",
        "self_fencing": flag(record.self_fencing),
        "watchdog": flag(record.watchdog),
        "config_sent": str(record.config_sent),
        "config_confirmed": str(record.config_confirmed),
        "agent_gone": flag(record.agent_gone),
        "undelivered": flag(record.undelivered),
        "dead_incarnation": str(record.dead_incarnation),
        "drain_id": record.drain_id,
        "drain_stop": flag(record.drain_stop),
        "drain_before": flag(record.drain_before),
        "clock_suspect_s": f"{record.clock_suspect_s:.6f}",
        "flaps": json.dumps([f"{at:.6f}" for at in record.flaps_s]),
    }


def suspect(host_id: str, row: Hash) -> SuspectRecord:
    """A suspect's hash, with the spans that the script computed."""
    return SuspectRecord(
        host_id=host_id,
        boot_id=row.get("boot_id", ""),
        since_age_s=_float(row, "since_age_s"),
        confirm_in_s=_float(row, "confirm_in_s"),
        reason=row.get("reason", ""),
        evidence=row.get("evidence", ""),
    )


def incident(stored: str) -> Incident:
    """An incident: a JSON array of texts, for Lua keeps those exact."""
    incident_id, host_id, boot_id, incarnation, fence_epoch, evidence, *more = json.loads(stored)
    return Incident(
        incident_id=incident_id,
        host_id=host_id,
        boot_id=boot_id,
        incarnation=int(incarnation),
        fence_epoch=int(fence_epoch),
        evidence=evidence,
        fence_decides=more == ["1"],
    )


def incident_text(record: Incident) -> str:
    """An incident, for the restoration of a lost store."""
    numbers = str(record.incarnation), str(record.fence_epoch)
    return json.dumps([record.incident_id, record.host_id, record.boot_id, *numbers, record.evidence, flag(record.fence_decides)])


def vm(vm_id: str, row: Hash) -> VmRecord:
    """A VM's hash."""
    return VmRecord(
        vm_id=vm_id,
        name=row.get("name", ""),
        owner_host_id=row.get("owner", ""),
        owner_incarnation=_int(row, "owner_incarnation"),
        epoch=_int(row, "epoch"),
        desired_state=VmState(row.get("desired_state") or "UNSPECIFIED"),
        state=VmState(row.get("state") or "UNSPECIFIED"),
        state_reason=row.get("state_reason", ""),
        domain_xml=row.get("domain_xml", ""),
        facts=_read_vm_facts(row["facts"]) if row.get("facts") else VmFacts(),
        claim_id=row.get("claim_id", ""),
        autostart=row.get("autostart") == "1",
        reason=MIGRATED_AWAY if row.get("departed") == "1" else row.get("reason", ""),
        seen_on=row.get("seen_on", ""),
        seen_incarnation=_int(row, "seen_incarnation"),
        seen_state=VmState(row.get("seen_state") or "UNSPECIFIED"),
        unadmitted=row.get("unadmitted") == "1",
        withheld=row.get("withheld") == "1",
        moving_to=row.get("moving_to", ""),
        moving_incarnation=_int(row, "moving_incarnation"),
        moving_by=row.get("moving_by", ""),
    )


def evacuation(cluster_id: str, evacuation_id: str, row: Hash) -> EvacuationRecord:
    """An evacuation's head; outcomes that no VM has are left out of its counts."""
    return EvacuationRecord(
        evacuation_id=evacuation_id,
        cluster_id=cluster_id,
        host_id=row["host_id"],
        fence_epoch=_int(row, "fence_epoch"),
        incarnation=_int(row, "incarnation"),
        state=EvacuationState(row["state"]),
        reason=row.get("reason", ""),
        message=row.get("message", ""),
        proof=ProofKind(row.get("proof") or "UNSPECIFIED"),
        sequence=_int(row, "sequence"),
        start_time_s=_float(row, "start_time_s"),
        proof_time_s=_float(row, "proof_time_s"),
        end_time_s=_float(row, "end_time_s"),
        leader_term=_int(row, "leader_term"),
        lease_proof=row.get("lease_proof", ""),
        cancel_requested=row.get("cancel_requested") == "1",
        kind=EvacuationKind(row.get("kind") or "EVACUATION"),
        counts={outcome: _int(row, f"count_{outcome.value}") for outcome in VmOutcome if _int(row, f"count_{outcome.value}")},
    )


def flat_map(stored: str) -> dict[str, str]:
    """A JSON array of name, value, name, value ... as a dict; Lua writes those, for texts keep numbers exact."""
    flat = json.loads(stored)
    return dict(zip(flat[::2], flat[1::2], strict=True))
