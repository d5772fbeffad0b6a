"""The lab's fence device: one Redfish BMC per host, as fence_redfish speaks to, and the lab's guardian.

Runs as a process of its own in the root namespace. Each BMC has its own address on the management plane and answers there with
TLS and a password. `ForceOff` is a real loss of the host's power, and is answered when the host is dead. When the lab's owner
dies, this process takes the lab down.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lab.planes import MAX_HOSTS
from lab.system import LabError, end, environment, run, spawn, started_at, wait_for

if TYPE_CHECKING:
    from lab.host import Host
    from lab.lab import Lab

USER = "vmha"
PORT = 443
TOP = Path(__file__).resolve().parent.parent
HANG_S = 600.0
REQUEST_TIMEOUT_S = 30.0

FailMode = Literal["error", "hang", "unreachable", "stuck"]
"""How a device can fail.

error: HTTP 500. hang: accepts and says nothing. unreachable: its address is gone. stuck: takes `off`, and the power stays on.
"""
FAIL_MODES: tuple[FailMode, ...] = get_args(FailMode)


class Fence:
    """The fence devices of a lab, as its owner handles them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def directory(self) -> Path:
        """Password, certificate and log."""
        return self._lab.directory / "fence"

    @property
    def password_file(self) -> Path:
        """The BMCs' password, for `secret_files`."""
        return self.directory / "password"

    def config(self, host: str) -> dict[str, object]:
        """How to fence a host, as vmha's host configuration has it."""
        found = self._lab.host(host)
        parameters = {"ip": found.bmc_address, "username": USER, "systems_uri": _uri(found.name), "ssl_insecure": "1"}
        return {"agent": "fence_redfish", "parameters": parameters, "secret_files": {"password": str(self.password_file)}}

    def call(self, host: str, action: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run the real fence agent: status, off, on. Its exit status is 0 for on, 2 for a status of off."""
        parameters = self.config(host)["parameters"]
        assert isinstance(parameters, dict)
        lines = [
            f"{key}={value}"
            for key, value in {**parameters, "password": self.password_file.read_text(), "action": action}.items()
        ]
        return subprocess.run(
            ["fence_redfish"], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=timeout_s, check=False,
            env=environment(),
        )  # fmt: skip

    def fail(self, host: str, mode: FailMode = "error") -> None:
        """Make a host's fence device fail until `heal`."""
        if mode not in FAIL_MODES:
            raise LabError(f"fence mode {mode!r}: {', '.join(FAIL_MODES)}")
        self.heal(host)
        if mode == "unreachable":
            self._address(host, "del")
        (self._lab.host(host).directory / "fence").write_text(mode)

    def heal(self, host: str) -> None:
        """Let a host's fence device work again."""
        mode = self._lab.host(host).directory / "fence"
        was = mode.read_text() if mode.exists() else ""
        mode.unlink(missing_ok=True)
        if was == "unreachable":
            self._address(host, "add")

    def start(self) -> None:
        """Start the devices; called by the lab."""
        self.directory.mkdir(exist_ok=True)
        if not self.password_file.exists():
            self.password_file.touch(mode=0o600)
            self.password_file.write_text(secrets.token_hex(8))
            key, certificate = str(self.directory / "key.pem"), str(self.directory / "cert.pem")
            curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]  # RSA takes a tenth of a second
            run(
                [
                    "openssl",
                    "req",
                    "-x509",
                    *curve,
                    "-nodes",
                    "-days",
                    "30",
                    "-subj",
                    "/CN=bmc",
                    "-keyout",
                    key,
                    "-out",
                    certificate,
                ]
            )
        planes = self._lab.planes
        bridge = planes.bridge("management")
        run(
            ["ip", "-batch", "-"],
            stdin="".join(f"addr add {planes.bmc_address(i)}/32 dev {bridge}\n" for i in range(1, MAX_HOSTS + 1)),
        )
        lifeline = self._lab.lifeline
        argv = [sys.executable, "-m", "lab.bmc", str(self._lab.directory), str(-1 if lifeline is None else lifeline)]
        pid = spawn(argv, self.directory / "bmc.out", {"PYTHONPATH": str(TOP)})
        (self.directory / "pid").write_text(f"{pid} {started_at(pid)}")
        wait_for(lambda: _listens(planes.bmc_address(1)), 10, f"the fence device answers (see {self.directory}/bmc.out)")

    def stop(self) -> None:
        """Stop the devices and the guardian; called by the lab."""
        try:
            pid, start = (int(word) for word in (self.directory / "pid").read_text().split())
        except (OSError, ValueError):
            return
        end(pid, start)
        (self.directory / "pid").unlink()

    def _address(self, host: str, verb: str) -> None:
        planes = self._lab.planes
        run(["ip", "addr", verb, f"{self._lab.host(host).bmc_address}/32", "dev", planes.bridge("management")])


def _uri(host: str) -> str:
    return f"/redfish/v1/Systems/{host}"


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), 1).close()
    except OSError:
        return False
    return True


class _Bmc(BaseHTTPRequestHandler):
    """One request to one BMC. Which one, says the address that was called."""

    protocol_version = "HTTP/1.0"
    host: Host
    password: str

    def do_GET(self) -> None:
        """Service root, the collection of systems, a system."""
        if not self._may_answer():
            return
        uri = _uri(self.host.name)
        documents: dict[str, dict[str, object]] = {
            "/redfish/v1": {"@odata.id": "/redfish/v1", "Systems": {"@odata.id": "/redfish/v1/Systems"}},
            "/redfish/v1/Systems": {"@odata.id": "/redfish/v1/Systems", "Members": [{"@odata.id": uri}]},
            uri: {
                "@odata.id": uri,
                "Name": self.host.name,
                "PowerState": "On" if self.host.is_on() else "Off",
                "Actions": {"#ComputerSystem.Reset": {"target": f"{uri}/Actions/ComputerSystem.Reset"}},
            },
        }
        document = documents.get(self.path.rstrip("/"))
        self._say(200 if document else 404, document or {"error": {"message": f"no resource {self.path}"}})

    def do_POST(self) -> None:
        """Reset: answered when it is done."""
        if not self._may_answer():
            return
        length = min(int(self.headers.get("Content-Length") or 0), 65536)
        try:
            kind = json.loads(self.rfile.read(length))["ResetType"]
            if self._mode() != "stuck":
                self._reset(kind)
        except (ValueError, KeyError, TypeError, LabError) as error:
            self._say(400, {"error": {"message": str(error)}})
            return
        self._say(200, {})

    def _reset(self, kind: str) -> None:
        if kind in {"ForceOff", "ForceRestart"}:
            self.host.kill()
        if kind in {"On", "ForceOn", "ForceRestart"} and not self.host.is_on():
            self.host.on()

    def _mode(self) -> str:
        try:
            return (self.host.directory / "fence").read_text()
        except OSError:
            return ""

    def _may_answer(self) -> bool:
        until = time.monotonic() + HANG_S
        while self._mode() == "hang" and time.monotonic() < until:
            time.sleep(0.05)
        if self._mode() == "error":
            self._say(500, {"error": {"message": "the lab wants this device to fail"}})
            return False
        wanted = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Basic {wanted}"):
            self._say(401, {"error": {"message": "user or password is wrong"}})
            return False
        return True

    def _say(self, status: int, document: dict[str, object]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _handle(connection: socket.socket, peer: object, context: ssl.SSLContext, handler: type[_Bmc]) -> None:
    connection.settimeout(REQUEST_TIMEOUT_S)
    with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as tls:
        handler(tls, peer, None)  # type: ignore[arg-type]


def serve(lab: Lab, lifeline: int | None) -> None:
    """Answer until the lifeline ends."""
    directory = lab.directory / "fence"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    password = (directory / "password").read_text()
    with selectors.DefaultSelector() as selector:
        if lifeline is not None:
            selector.register(lifeline, selectors.EVENT_READ, None)
        for index in range(1, MAX_HOSTS + 1):
            handler = type("Bmc", (_Bmc,), {"host": lab.host(f"host{index}"), "password": password})
            selector.register(socket.create_server((lab.planes.bmc_address(index), PORT)), selectors.EVENT_READ, handler)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                assert isinstance(key.fileobj, socket.socket)
                connection, peer = key.fileobj.accept()
                threading.Thread(target=_handle, args=(connection, peer, context, key.data), daemon=True).start()


def main() -> None:
    """Arguments: the lab's directory, the lifeline's file descriptor or -1."""
    from lab.lab import Lab, take_down  # noqa: PLC0415 - the lab imports its fence device

    directory, lifeline = Path(sys.argv[1]), int(sys.argv[2])
    lab = Lab.attach(directory, lifeline if lifeline >= 0 else None)
    serve(lab, lifeline if lifeline >= 0 else None)
    take_down(directory)


if __name__ == "__main__":
    main()
