"""Prometheus metrics: each service registers its own on the process's registry; this module serves them over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from vmha.errors import Unavailable

Stop = Callable[[], None]
LATENCY_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150, 300)
"""From one Redis script to the reference's cooldown."""


def start_metrics(listen: str, registry: CollectorRegistry = REGISTRY) -> Stop:
    """Serve /metrics at `host:port` from a thread of its own; an empty `listen` serves nothing.

    Returns:
        A function that stops it.

    Raises:
        Unavailable: LISTEN_FAILED, the address is taken or not ours.
    """
    if not listen:
        return lambda: None
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    except OSError as error:
        raise Unavailable("LISTEN_FAILED", f"cannot serve metrics on {listen}: {error.strerror}", {"listen": listen}) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return stop
