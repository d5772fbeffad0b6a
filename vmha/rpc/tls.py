"""Mutual TLS from three files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import grpc

from vmha.errors import FieldViolation, InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a process finds its certificate, its key and the authority that it trusts; all PEM."""

    cert_file: Path
    key_file: Path
    ca_file: Path

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server that demands a certificate of every client.

        Raises:
            InvalidField: A file cannot be read.
        """
        ca, key, cert = self._read()
        return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a client.

        Raises:
            InvalidField: A file cannot be read.
        """
        ca, key, cert = self._read()
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)

    def _read(self) -> tuple[bytes, bytes, bytes]:
        found: dict[str, bytes] = {}
        wrong: list[FieldViolation] = []
        for name in ("ca_file", "key_file", "cert_file"):
            path: Path = getattr(self, name)
            try:
                found[name] = path.read_bytes()
            except OSError as error:
                wrong.append(FieldViolation(f"tls.{name}", f"cannot read {path}: {error.strerror}"))
        if wrong:
            raise InvalidField(wrong)
        return found["ca_file"], found["key_file"], found["cert_file"]
