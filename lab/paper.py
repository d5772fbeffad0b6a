"""A lab on paper, for machines without root or QEMU: hosts are loopback addresses, guests are domains of libvirt's `test` driver.

Everything else is real: a libvirtd and an exporter for each host, Redis, manager, evacuator, agents, one of Debian's fence agents
(fence_dummy, whose "device" is a file). Power loss kills a host's daemons and leaves a black hole on its ports: its peers meet
silence. A domain of the test driver executes nothing and cannot beat; libvirt's word that it runs takes the place of beats.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import libvirt

from lab.beats import Beat, BeatError
from lab.system import SEARCH, LabError, environment, wait_for

LIBVIRT_PORT, EXPORTER_PORT, AGENT_PORT = 16509, 9177, 7401
POLL_S = 0.05
SAMPLE = "test"
"""The driver's own domain: there from the start, with the same UUID on every host."""
NEEDED = {
    "libvirtd": "libvirt-daemon",
    "prometheus-libvirt-exporter": "prometheus-libvirt-exporter",
    "redis-server": "redis-server",
    "fence_dummy": "fence-agents",
}

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "{port}"
auth_tcp = "none"
unix_sock_dir = "{directory}"
"""
DOMAIN = """\
<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os></domain>
"""


def missing_for_paper() -> str | None:
    """What this machine lacks even for a lab on paper; None when it has everything."""
    absent = {package for program, package in NEEDED.items() if shutil.which(program, path=SEARCH) is None}
    return f"these Debian packages are missing: {' '.join(sorted(absent))}" if absent else None


@dataclass(eq=False)
class PaperHost:
    """One host: an address, a libvirtd with the test driver, an exporter, an agent."""

    name: str
    directory: Path
    address: str
    agent: Sequence[str] | None = None
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    silence: list[socket.socket] = field(default_factory=list)
    keeper: libvirt.virConnect | None = None
    """The driver forgets everything when its last connection closes."""

    @property
    def peer_address(self) -> str:
        """There is one plane only."""
        return self.address

    @property
    def libvirt_uri(self) -> str:
        """Where agent and evacuator find its libvirt."""
        return f"test+tcp://{self.address}:{LIBVIRT_PORT}/default"

    @property
    def agent_log(self) -> Path:
        """What its agent prints."""
        return self.directory / "agent.out"

    @property
    def power_file(self) -> Path:
        """What fence_dummy reads."""
        return self.directory / "power"

    def on(self) -> None:
        """Power on."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "boot_id").write_text(str(uuid.uuid4()))
        self.power_file.write_text("on")
        conf = LIBVIRTD_CONF.format(address=self.address, port=LIBVIRT_PORT, directory=self.directory)
        (self.directory / "libvirtd.conf").write_text(conf)
        self._start(
            "libvirtd", ["libvirtd", "--listen", "-f", str(self.directory / "libvirtd.conf"), "-p", str(self.directory / "pid")]
        )
        wait_for(lambda: _listens(self.address, LIBVIRT_PORT), 10, f"libvirtd of {self.name} answers")
        self._start(
            "exporter",
            [
                "prometheus-libvirt-exporter",
                f"--web.listen-address={self.address}:{EXPORTER_PORT}",
                f"--libvirt.uri={self.libvirt_uri}",
            ],
        )
        self.keeper = libvirt.open(self.libvirt_uri)
        self.virsh(f"destroy {SAMPLE} ; undefine {SAMPLE}")
        if self.agent:
            self._start("agent", self.agent)

    def kill(self) -> None:
        """Power loss: the daemons are gone, and nothing answers on their ports."""
        for process in self.daemons.values():
            process.send_signal(signal.SIGKILL)
            process.wait(5)
        self.daemons.clear()
        self.keeper = None
        self.power_file.write_text("off")
        for port in (EXPORTER_PORT, AGENT_PORT, LIBVIRT_PORT):
            self.silence += _black_hole(self.address, port)

    def virsh(self, *arguments: str) -> str:
        """Run virsh against this host."""
        done = subprocess.run(
            ["virsh", "-q", "-c", self.libvirt_uri, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=environment(),
        )
        if done.returncode != 0:
            raise LabError(f"{self.name}: virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def start_guest(self, name: str) -> None:
        """Define and start a guest of `PaperLab.mkvm`."""
        self.virsh(f"define {self.directory.parent}/{name}.xml ; start {name}")

    def _start(self, name: str, command: Sequence[str]) -> None:
        own = {**environment(), "XDG_RUNTIME_DIR": str(self.directory), "HOME": str(self.directory)}
        with (self.directory / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=own, start_new_session=True
            )


class PaperBeats:
    """Asks every libvirtd which guests run, all the time; a guest that begins to run somewhere begins a new "boot"."""

    def __init__(self, hosts: dict[str, PaperHost]) -> None:
        self._hosts = hosts
        self._seen: dict[str, list[tuple[str, Beat]]] = {}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to watch."""
        for host in self._hosts.values():
            thread = threading.Thread(target=self._watch, args=(host,), name=f"beats-{host.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End watching."""
        self._ended.set()
        for thread in self._threads:
            thread.join(3)

    def of(self, name: str) -> list[Beat]:
        """A guest's sightings."""
        return [beat for _, beat in self._seen.get(name, [])]

    def before(self, name: str, at: float) -> Beat | None:
        """The last sighting before an instant."""
        return next((beat for beat in reversed(self.of(name)) if beat.at <= at), None)

    def after(self, name: str, at: float) -> Beat | None:
        """The first sighting of a later boot."""
        last = self.before(name, at)
        return next((beat for beat in self.of(name) if beat.at > at and beat.gen > (last.gen if last else 0)), None)

    def check(self, names: Iterable[str] | None = None) -> None:
        """Prove that no guest ran on a host after it began to run on another.

        Raises:
            BeatError: It did.
        """
        for name in self._seen if names is None else names:
            places: list[str] = []
            for host, _ in self._seen[name]:
                if not places or places[-1] != host:
                    if host in places:
                        raise BeatError(f"guest {name} ran on {places[-1]} and again on {host}")
                    places.append(host)

    def _watch(self, host: PaperHost) -> None:
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        with suppress(libvirt.libvirtError):
            connection = libvirt.open(host.libvirt_uri)
            while not self._ended.wait(POLL_S):
                for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING):
                    if domain.name() != SAMPLE:
                        self._see(domain.name(), host.name)

    def _see(self, name: str, host: str) -> None:
        seen = self._seen.setdefault(name, [])
        gen = seen[-1][1].gen + (seen[-1][0] != host) if seen else 1
        beat = seen[-1][1].beat + 1 if seen and seen[-1][0] == host else 1
        seen.append((host, Beat(gen, beat, time.monotonic())))


@dataclass(eq=False)
class PaperFence:
    """Debian's fence_dummy, with a file for a device."""

    hosts: dict[str, PaperHost]

    def config(self, host: str) -> dict[str, object]:
        """How to fence a host, as vmha's host configuration has it."""
        return {"agent": "fence_dummy", "parameters": {"type": "file", "status_file": str(self.hosts[host].power_file)}}


class PaperLab:
    """As `lab.Lab`, as far as the demo needs it."""

    gateway = "127.0.0.1"

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vmha-paper-"))
        self.agent_command: Callable[[str], Sequence[str]] | None = None
        self._hosts: dict[str, PaperHost] = {}
        self.beats = PaperBeats(self._hosts)
        self.fence = PaperFence(self._hosts)
        self.BOOT_ID_FILE = f"{self.directory}/{{host}}/boot_id"
        self.STATE_DIR = f"{self.directory}/{{host}}/state"

    def __enter__(self) -> PaperLab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.down()

    def host(self, name: str) -> PaperHost:
        """A host by its name."""
        number = int(name.removeprefix("host"))
        return self._hosts.setdefault(name, PaperHost(name, self.directory / name, f"127.99.0.{10 + number}"))

    def up(self, count: int) -> None:
        """Power on host1 .. hostN."""
        for number in range(1, count + 1):
            host = self.host(f"host{number}")
            host.agent = self.agent_command(host.name) if self.agent_command else None
            host.on()
        self.beats.start()

    def mkvm(self, name: str) -> None:
        """Write a guest's definition."""
        (self.directory / f"{name}.xml").write_text(DOMAIN.format(name=name, uuid=uuid.uuid4()))

    def down(self) -> None:
        """End everything."""
        self.beats.stop()
        for host in self._hosts.values():
            if host.daemons:
                host.kill()
            for hole in host.silence:
                hole.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 0.5).close()
    except OSError:
        return False
    return True


def _black_hole(address: str, port: int) -> list[socket.socket]:
    """A port whose queue of connections is full: the kernel drops further SYNs, as a dead host would."""
    hole = socket.socket()
    hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    hole.bind((address, port))
    hole.listen(0)
    held = [hole]
    for _ in range(2):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((address, port))
        held.append(filler)
    return held
