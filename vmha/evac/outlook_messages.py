"""Outlooks as messages of the contract; what may be long is cut there, and the rest counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vmha.evac.outlook import NOT_TRIED, HostOutlook, VmOutlook
from vmha.evac.placement_explain import SHOWN
from vmha.evac.reasons import REFUSAL_WORDS, HostRefusal
from vmha.messages import evacuation_to_proto, vm_entry_to_proto
from vmha.rpc.scalars import enum_to_proto
from vmha.store.records import EvacuationRecord
from vmha.v1 import evacuation_service_pb2 as pb

LISTED: Final = 100
"""VMs, and targets, that an answer about a host names."""


def vm_placement(outlook: VmOutlook) -> pb.VmPlacement:
    """Where one VM could go."""
    journaled, planned = outlook.journaled, outlook.planned
    return pb.VmPlacement(
        vm_id=outlook.vm.vm_id,
        vm_name=outlook.vm.name,
        host_id=outlook.record.host_id,
        evacuation=_under_way(outlook.record),
        journaled=None if journaled is None else vm_entry_to_proto(journaled),
        planned=None if planned is None else vm_entry_to_proto(planned),
        vm_rules=[
            pb.VmRule(reason=reason, against=verdict is not None, message=verdict.message if verdict else "")
            for reason, verdict in outlook.rules
        ],
        host_rules=_host_rules(outlook),
        host_count=outlook.host_count,
        other_host_ids=outlook.others[:SHOWN],
        other_count=len(outlook.others),
        ha_disabled=not outlook.ha_enabled,
    )


def host_loss(outlook: HostOutlook) -> pb.HostLoss:
    """What would become of a host's VMs."""
    targets = outlook.targets()
    return pb.HostLoss(
        host_id=outlook.record.host_id,
        evacuation=_under_way(outlook.record),
        vm_count=len(outlook.entries),
        fates=[
            pb.VmFate(outcome=enum_to_proto(pb.VmOutcome, outcome), reason=reason, vm_count=count)
            for outcome, reason, count in outlook.fates()
        ],
        vms=[vm_entry_to_proto(entry) for entry in outlook.entries[:LISTED]],
        targets=[pb.TargetShare(host_id=host, vm_count=count, memory_mib=mib) for host, count, mib in targets[:LISTED]],
        target_count=len(targets),
        ha_disabled=not outlook.ha_enabled,
    )


def _under_way(record: EvacuationRecord) -> pb.Evacuation | None:
    return evacuation_to_proto(record) if record.evacuation_id else None


def _host_rules(outlook: VmOutlook) -> Iterator[pb.HostRule]:
    if outlook.refused is None:
        return
    hosts: dict[HostRefusal, list[str]] = {why: [] for why in HostRefusal if why is not NOT_TRIED}
    for host_id in sorted(outlook.refused):
        hosts[outlook.refused[host_id]].append(host_id)
    for why, refused in hosts.items():
        yield pb.HostRule(
            reason=why,
            message=REFUSAL_WORDS[why],
            refused_count=len(refused),
            hosts=[pb.RefusedHost(host_id=host_id, message=outlook.figures.get(host_id, "")) for host_id in refused[:SHOWN]],
        )
