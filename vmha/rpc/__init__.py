"""gRPC plumbing: options, servers, channels, interceptors, errors, conversion, validation. Knows no service's logic."""

import os

# vmha forks only to exec fence agents; grpc's fork handlers would stop the loop for them (grpc #41768).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
