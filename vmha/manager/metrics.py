"""The manager's Prometheus metrics. Names and labels are an interface: change none of them."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from vmha.metrics import LATENCY_BUCKETS_S
from vmha.model import HostState
from vmha.rpc.scalars import enum_to_proto
from vmha.v1 import host_pb2

SESSIONS: Final = Gauge("vmha_manager_sessions", "Agent sessions that are open", ["cluster"])
SUPERSEDED: Final = Counter("vmha_manager_sessions_superseded_total", "Sessions ended by a newer hello", ["cluster"])
HEARTBEATS: Final = Counter(
    "vmha_manager_heartbeats_total", "Heartbeats by what became of them: acked, revoked, held, ignored", ["cluster", "result"]
)
REPORTS: Final = Counter("vmha_manager_reports_total", "Health reports taken in", ["cluster"])
INVENTORIES: Final = Counter("vmha_manager_inventories_total", "Inventory messages stored", ["cluster"])
REFUSED_MESSAGES: Final = Counter("vmha_manager_refused_messages_total", "Session messages refused, by reason", ["reason"])
HOST_STATE: Final = Gauge("vmha_manager_host_state", "State of a host as the contract's HostState number", ["cluster", "host"])
INCIDENTS: Final = Counter("vmha_manager_incidents_total", "Hosts confirmed down", ["cluster"])
INCIDENTS_OPEN: Final = Gauge("vmha_manager_incidents_open", "Incidents under way", ["cluster"])
ALARMS: Final = Counter("vmha_manager_alarms_total", "Alarms raised, by reason", ["cluster", "reason"])
CONFIRM_LATENCY_S: Final = Histogram(
    "vmha_manager_confirm_seconds", "From the decision that a host is down to its record in the store", buckets=LATENCY_BUCKETS_S
)
LOOP_LAG_S: Final = Histogram("vmha_manager_loop_lag_seconds", "How late the event loop was", buckets=LATENCY_BUCKETS_S)
STORE_ERRORS: Final = Counter("vmha_manager_store_errors_total", "Calls that Redis did not answer")
STORE_UP: Final = Gauge("vmha_manager_store_up", "1 while Redis answers")
WATCHERS: Final = Gauge("vmha_manager_event_watchers", "Open WatchEvents calls", ["cluster"])
LEADS: Final = Gauge("vmha_manager_leads", "1 while this replica leads the cluster", ["cluster"])
CORE_ERRORS: Final = Counter(
    "vmha_manager_core_errors_total", "Events that the detector refused, and effects that failed", ["cluster"]
)

DROPPED: Final = Counter(
    "vmha_manager_dropped_total",
    "What found no room in a queue and was given up: task (told to the store), event (told to the detector)",
    ["cluster", "what"],
)


def set_host_state(cluster_id: str, host_id: str, state: HostState) -> None:
    """Show a host's state by its number in the contract, which never changes."""
    HOST_STATE.labels(cluster_id, host_id).set(enum_to_proto(host_pb2.HostState, state))


def forget_host(cluster_id: str, host_id: str) -> None:
    """Show a host no more; one that was never shown is no error."""
    HOST_STATE.remove_by_labels({"cluster": cluster_id, "host": host_id})
