"""One lab host: its power, its cables, its daemons, its guests.

Everything is known from files below the lab's directory and from the kernel, so that any process (the command line, the fence
device, a test) can act on a host that another one powered on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lab import config
from lab.planes import PLANES, Plane, Planes
from lab.system import LabError, children_of, command_of, end, members, namespace_of, run, send, spawn, started_at, wait_for

BOOT_ID_FILE = "/run/vmha-lab-boot-id"
"""Inside each host; a new UUID at each power-on (all hosts share the box's kernel, and so its own boot id)."""
LOCAL_DISKS = Path("/var/lib/libvirt/images")
"""Inside each host; its own, and gone with it."""
INIT = Path(__file__).with_name("init.py")
LIBVIRT_PORT, EXPORTER_PORT = 16509, 9177
POWER_ON_TIMEOUT_S = 20.0
CONTROL_TIMEOUT_S = 5.0

Daemon = Literal["libvirtd", "exporter", "agent"]


class Host:
    """A host of a lab; made by `Lab.host`."""

    def __init__(
        self,
        lab_directory: Path,
        planes: Planes,
        index: int,
        lifeline: int | None,
        agent: Callable[[str], list[str] | None] = lambda _: None,
    ) -> None:
        self.index = index
        self.name = f"host{index}"
        self.directory = lab_directory / "hosts" / self.name
        self.shared = lab_directory / "shared"
        self.address = planes.address("management", index)
        self.peer_address = planes.address("peers", index)
        self.bmc_address = planes.bmc_address(index)
        self.libvirt_uri = f"qemu+tcp://{self.address}/system"
        self.agent_log = self.directory / "agent.out"
        self._planes = planes
        self._lifeline = lifeline
        self._agent = agent
        self._lab_directory = lab_directory

    # Power

    def on(self, *, wait: bool = True) -> None:
        """Power on; returns when libvirtd answers. The agent is the lab's `agent_command`, or else the one of the last power-on.

        Args:
            wait: False returns before libvirtd answers; see `wait_ready`.

        Raises:
            LabError: It is on already, or does not come up.
        """
        with self._power_switch():
            if self.is_on():
                raise LabError(f"{self.name} is on already")
            self.directory.mkdir(parents=True, exist_ok=True)
            if (agent := self._agent(self.name)) is not None:
                (self.directory / "agent.json").write_text(json.dumps(agent))
            config.furnish(self.directory, self.index, self._planes)
            self._planes.unplug(self.index)
            self._boot()
        if wait:
            self.wait_ready()

    def kill(self) -> None:
        """Power loss: silence on both planes first, then everything inside dies at once. Nothing to do when it is off."""
        with self._power_switch():
            # Links before processes: the kernel's FIN and RST would make detection unrealistically quick.
            self._planes.switch(self.index, up=False)
            self._end_processes()

    def is_on(self) -> bool:
        """Whether it has power."""
        power = self._power()
        return bool(power) and started_at(power["init"]) == power["init_start"]

    def wait_ready(self, timeout_s: float = POWER_ON_TIMEOUT_S) -> None:
        """Wait until libvirtd accepts connections."""
        wait_for(
            lambda: self._accepts(LIBVIRT_PORT), timeout_s, f"libvirtd of {self.name} answers (see {self.directory}/libvirtd.out)"
        )

    @property
    def boot_id(self) -> str:
        """The identity of the boot in force, as the file BOOT_ID_FILE inside says."""
        return str(self._power().get("boot_id", ""))

    # Faults

    def cut(self, plane: Plane | Literal["all"] = "all") -> None:
        """Switch the host's cable of a plane off; guests run on. A cut outlives power cycles until `heal`."""
        planes = _planes_of(plane)
        self._remember_cuts(self.cuts() | set(planes))
        self._planes.switch(self.index, up=False, planes=planes)

    def heal(self, plane: Plane | Literal["all"] = "all") -> None:
        """Undo `cut`."""
        planes = _planes_of(plane)
        self._remember_cuts(self.cuts() - set(planes))
        if self.is_on():
            self._planes.switch(self.index, up=True, planes=planes)

    def cuts(self) -> set[Plane]:
        """The planes that are cut."""
        try:
            names = (self.directory / "cut").read_text().split()
        except OSError:
            return set()
        return {plane for plane in PLANES if plane in names}

    def hang(self) -> None:
        """libvirtd stops answering (SIGSTOP)."""
        self.signal("libvirtd", signal.SIGSTOP)

    def unhang(self) -> None:
        """libvirtd goes on."""
        self.signal("libvirtd", signal.SIGCONT)

    def freeze(self) -> None:
        """The whole host stands still, guests too.

        Its TCP still connects, since the kernel is the box's own, and nothing is answered.
        """
        stopped: set[int] = set()
        while found := set(self._members()) - stopped:
            for pid in found:
                send(pid, signal.SIGSTOP)
            stopped |= found

    def thaw(self) -> None:
        """Undo `freeze`."""
        for pid in self._members():
            send(pid, signal.SIGCONT)

    def hang_guest(self, name: str) -> None:
        """One guest's QEMU stands still; libvirtd is fine."""
        send(self.guest_pid(name), signal.SIGSTOP)

    def unhang_guest(self, name: str) -> None:
        """The guest's QEMU goes on."""
        send(self.guest_pid(name), signal.SIGCONT)

    def libvirtd_kill(self) -> None:
        """libvirtd crashes; guests run on."""
        self.signal("libvirtd", signal.SIGKILL)

    def libvirtd_start(self) -> None:
        """Start libvirtd again; it finds its guests."""
        self.start("libvirtd")
        self.wait_ready()

    def exporter_kill(self) -> None:
        """The exporter crashes."""
        self.signal("exporter", signal.SIGKILL)

    def exporter_start(self) -> None:
        """Start the exporter again."""
        self.start("exporter")

    def agent_kill(self) -> None:
        """The product's agent crashes."""
        self.signal("agent", signal.SIGKILL)

    def agent_start(self) -> None:
        """Start the product's agent again."""
        self.start("agent")

    # Daemons and guests

    def start(self, name: Daemon) -> int:
        """Start a daemon where it does not run; returns its pid inside."""
        return int(self._control(do="start", name=name)["pid"])

    def signal(self, name: Daemon, signum: int) -> None:
        """Send a signal to a daemon; after SIGKILL it is gone."""
        self._control(do="signal", name=name, signum=int(signum))

    def daemons(self) -> dict[str, int]:
        """Daemons that run, with their pid inside."""
        return {name: int(pid) for name, pid in self._control(do="daemons").items()}

    def exec(self, *command: str, timeout_s: float = 60.0) -> str:
        """Run a command inside and return its output. LabError when it fails."""
        return run(self.enter(*command), timeout_s=timeout_s)

    def enter(self, *command: str) -> list[str]:
        """The command line that runs a command inside."""
        if not self.is_on():
            raise LabError(f"{self.name} is off")
        return ["nsenter", "-t", str(self._power()["init"]), "-m", "-u", "-i", "-n", "-p", "--", *command]

    def virsh(self, *arguments: str, timeout_s: float = 30.0) -> str:
        """Run virsh against this host from the manager's side."""
        command = ["virsh", "-q", "-c", self.libvirt_uri, *arguments]
        try:
            return run(command, timeout_s=timeout_s)
        except LabError as error:
            # Seen once in hundreds of labs, of a host that had just answered; nothing was sent, so once more is the first time.
            if "No route to host" not in str(error) or not self.is_on():
                raise
            self.wait_ready()
            return run(command, timeout_s=timeout_s)

    def start_guest(self, name: str) -> None:
        """Define a guest of `Lab.mkvm` here and start it."""
        self.virsh(f"define {self.shared}/{name}.xml ; start {name}")

    def give_local_disk(self, name: str) -> None:
        """Put a copy of a guest's disk where this host's libvirt keeps disks of its own: LOCAL_DISKS."""
        local = self.directory / "lib" / "images"
        local.mkdir(exist_ok=True)
        shutil.copy(self.shared / f"{name}.qcow2", local / f"{name}.qcow2")

    def guests(self) -> list[str]:
        """Names of the guests that have a QEMU process here, asked of the kernel and not of libvirt."""
        return sorted(name for pid in self._members() if (name := _guest_of(pid)))

    def guest_pid(self, name: str) -> int:
        """A guest's QEMU process, as the root namespace counts.

        Raises:
            LabError: It does not run here.
        """
        for pid in self._members():
            if _guest_of(pid) == name:
                return pid
        raise LabError(f"no guest {name} runs on {self.name}")

    # Within

    @contextmanager
    def _power_switch(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _boot(self) -> None:
        boot_id = str(uuid.uuid4())
        spec = config.specification(self._lab_directory, self.directory, self.index, self._planes, boot_id, BOOT_ID_FILE)
        spec_path = self.directory / "spec.json"
        spec_path.write_text(json.dumps(spec))
        wrapper = self._spawn(spec_path)
        try:
            own = namespace_of(os.getpid(), "net")
            wait_for(lambda: namespace_of(wrapper, "net") not in {"", own}, 5, f"{self.name} has its namespaces", 0.001)
            self._planes.plug(self.index, wrapper, self.cuts())
            wait_for(
                lambda: children_of(wrapper) != [] and (self.directory / "control").exists(),
                5,
                f"init of {self.name} runs",
                0.001,
            )
            init = children_of(wrapper)[0]
            power = {
                "wrapper": wrapper,
                "wrapper_start": started_at(wrapper),
                "init": init,
                "init_start": started_at(init),
                "boot_id": boot_id,
            }
            (self.directory / "power.json").write_text(json.dumps(power))
            self._control(do="boot")
        except (LabError, OSError, IndexError):
            end(wrapper, started_at(wrapper))
            raise

    def _spawn(self, spec: Path) -> int:
        lifeline = -1 if self._lifeline is None else self._lifeline
        python = sys.executable
        argv = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
        argv += [python, "-I", "-S", str(INIT), str(spec), str(lifeline)]
        for name in ("control", "control.new"):
            (self.directory / name).unlink(missing_ok=True)
        return spawn(argv, self.directory / "init.out")

    def _end_processes(self) -> None:
        power = self._power()
        if not power:
            return
        end(power["init"], power["init_start"])
        wrapper, start = power["wrapper"], power["wrapper_start"]
        wait_for(lambda: started_at(wrapper) != start, 5, f"{self.name} is gone", 0.001)
        end(wrapper, 0)
        (self.directory / "power.json").unlink(missing_ok=True)

    def _power(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory / "power.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def _control(self, **request: object) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(CONTROL_TIMEOUT_S)
                control.connect(str(self.directory / "control"))
                control.sendall(json.dumps(request).encode())
                with control.makefile() as lines:
                    answer: dict[str, Any] = json.loads(lines.readline())
        except (OSError, ValueError) as error:
            raise LabError(f"{self.name} is {'frozen' if self.is_on() else 'off'}: {error}") from None
        if "error" in answer:
            raise LabError(str(answer["error"]))
        return answer

    def _members(self) -> list[int]:
        power = self._power()
        return members(namespace_of(power["init"], "pid")) if self.is_on() else []

    def _accepts(self, port: int) -> bool:
        # From inside: a cut must not look like a libvirtd that is down.
        namespace = Path(f"/proc/{self._power().get('init', 0)}/net/tcp")
        try:
            table = namespace.read_text()
        except OSError:
            raise LabError(f"{self.name} lost power while it came up (see {self.directory}/init.out)") from None
        return f":{port:04X} 00000000:0000 0A" in table

    def _remember_cuts(self, planes: set[Plane]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "cut").write_text(" ".join(sorted(planes)))


def _planes_of(plane: Plane | Literal["all"]) -> tuple[Plane, ...]:
    if plane == "all":
        return PLANES
    if plane not in PLANES:
        raise LabError(f"plane {plane!r}: all, {', '.join(PLANES)}")
    return (plane,)


def _guest_of(pid: int) -> str:
    """The guest that a QEMU process runs; empty for other processes."""
    command = command_of(pid)
    if not command or "qemu" not in command[0]:
        return ""
    return next((word.removeprefix("guest=").split(",")[0] for word in command if word.startswith("guest=")), "")
