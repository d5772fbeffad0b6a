"""Real certificates of an authority of the tests' own, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vmha.rpc.tls import TlsFiles

LOOPBACK = "IP:127.0.0.1"
_NEW_KEY = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]


class Authority:
    """Signs certificates; everything is below `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca_file, self._key = folder / "ca.pem", folder / "ca.key"
        _run(*_NEW_KEY, "-keyout", self._key, "-out", self.ca_file, "-subj", "/CN=authority")

    def sign(self, name: str, *alternative_names: str) -> TlsFiles:
        """A certificate with these subject alternative names, as openssl writes them."""
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        names = "subjectAltName=" + ",".join(alternative_names)
        signing: list[str | Path] = [
            "-CA",
            self.ca_file,
            "-CAkey",
            self._key,
            "-addext",
            names,
            "-addext",
            "basicConstraints=CA:FALSE",
        ]
        _run(*_NEW_KEY, "-keyout", key, "-out", cert, "-subj", f"/CN={name}", *signing)
        return TlsFiles(cert_file=cert, key_file=key, ca_file=self.ca_file)

    def host(self, host_id: str) -> TlsFiles:
        """Of a host's agent. It names no address: who calls a host asks for its id."""
        return self.sign(f"host-{host_id}", f"DNS:{host_id}", uri(f"host/{host_id}"))

    def service(self, role: str) -> TlsFiles:
        """Of a manager, an evacuator or an operator, at 127.0.0.1."""
        return self.sign(role.replace("/", "-"), LOOPBACK, uri(role))


def uri(identity: str) -> str:
    """As the contract's certificates name their holder."""
    return f"URI:spiffe://example.org/vmha/{identity}"


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
