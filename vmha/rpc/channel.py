"""Opening channels."""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf.internal import api_implementation

from vmha.rpc.options import MAX_RECEIVE_BYTES, channel_options
from vmha.rpc.tls import TlsFiles

# The pure Python runtime parses 300 times slower: heartbeats of a hundred hosts would fill a core.
assert api_implementation.Type() == "upb", "vmha needs protobuf's upb runtime"


def open_channel(
    target: str, tls: TlsFiles | None = None, *, host_id: str = "", max_receive_bytes: int = MAX_RECEIVE_BYTES
) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target); plaintext when `tls` is None. Connects when it is first used.

    Close it with `await channel.close()`.

    Args:
        host_id: Whose agent must answer there, proven by its certificate (R24). Empty: the certificate must name `target`.
    """
    options = cast("list[tuple[str, object]]", channel_options(max_receive_bytes))
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    if host_id:
        options.append(("grpc.ssl_target_name_override", host_id))
    return grpc.aio.secure_channel(target, tls.channel_credentials(), options=options)
