"""Channel arguments of every server and channel.

Unknown keys are ignored by grpc in silence, so tests/rpc/test_transport.py proves the effect of those that matter.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024
MAX_RECEIVE_BYTES: Final = 4 * MIB
"""What a client takes in: a page of hosts or VMs, an OwnershipUpdate with XML."""
PENDING_CALLS: Final = 20_000
"""Calls that may wait to be taken up by a server: more than the agents of one manager."""

EXPERIMENTS: Final = ("GRPC_EXPERIMENTS", "-event_engine_listener,-event_engine_client,-event_engine_callback_cq")
"""For the environment of a manager, before grpc is imported: its sockets are read by the thread that waits for its calls, and not
by a pool beside it. That takes a tenth of a message's CPU away (docs/decisions/025); an unknown name is ignored."""

Options = list[tuple[str, int | str]]

_KEEPALIVE: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 10_000),
    # Sets TCP_USER_TIMEOUT only: finds a host that lost power while data is under way.
    ("grpc.keepalive_timeout_ms", 5_000),
    # Decides about a peer that is frozen; its default of 60 s overrides keepalive_timeout (grpc #39239).
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Without it a quiet stream is pinged twice and then never again.
    ("grpc.http2.max_pings_without_data", 0),
    # Costs 20 % of a stream message's CPU; messages here are small.
    ("grpc.http2.bdp_probe", 0),
)


def server_options(max_receive_bytes: int = MIB) -> Options:
    """Arguments of a server that takes in messages of up to `max_receive_bytes`."""
    return [
        *_KEEPALIVE,
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients ping every 10 s; half of it leaves room for jitter. The minimum's default of 5 min answers them with GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        # A second server on the same port must fail, not share the connections.
        ("grpc.so_reuseport", 0),
        # All agents of a manager that died call at the same time. With 1,000 waiting calls grpc begins to reject some, and who is
        # rejected comes again: that costs more than to let it wait.
        ("grpc.server.max_pending_requests", PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_CALLS),
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
    ]


def channel_options(max_receive_bytes: int = MAX_RECEIVE_BYTES) -> Options:
    """Arguments of a channel."""
    return [
        *_KEEPALIVE,
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Also the time one attempt to connect may take; its default of 20 s waits for a dead replica.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A proxy of the environment has no business between services.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config", '{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}'),
    ]
