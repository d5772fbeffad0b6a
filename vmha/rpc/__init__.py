"""gRPC plumbing: options, servers, channels, interceptors, errors, validation."""
