"""A lab: hosts, two networks, shared storage, a fence device. As a context manager it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from lab import config, guests
from lab.beats import Beats
from lab.bmc import Fence
from lab.config import BASE
from lab.host import BOOT_ID_FILE, INIT, Host
from lab.planes import MAX_HOSTS, Planes, claim
from lab.system import LabError, command_of, end, missing_for_a_lab, pids, started_at

AgentCommand = Callable[[str], Sequence[str]]


class Lab:
    """Hosts on this box.

    A lab belongs to the process that made it: when that one ends, however it ends, the lab's hosts lose power and its guardian
    takes the rest down. `detached` labs stay until `down` (the command line's `up`).

    Attributes:
        agent_command: Host name -> command of the agent that runs inside each host that is powered on from now on.
    """

    BOOT_ID_FILE = BOOT_ID_FILE

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        net: str | None = None,
        prefix: str | None = None,
        agent_command: AgentCommand | None = None,
        detached: bool = False,
    ) -> None:
        """Args as the class says; without directory a temporary one, without net and prefix the first free ones.

        Raises:
            LabError: This machine cannot run a lab.
        """
        if missing := missing_for_a_lab():
            raise LabError(missing)
        sweep()
        self._temporary = directory is None
        if directory is None:
            BASE.mkdir(parents=True, exist_ok=True)
            directory = tempfile.mkdtemp(prefix="lab-", dir=BASE)
        self.directory = Path(directory).resolve()
        self.agent_command = agent_command
        self.beats = Beats(self.directory / "shared" / "log")
        self._detached = detached
        self._wanted = (net, prefix)
        self._planes: Planes | None = None
        self._lifeline: tuple[int, int] | None = None
        self._handlers: dict[int, Any] = {}
        self.fence = Fence(self)
        self._left = False
        if detached:
            self._attach()
        else:
            self._inherit()

    @classmethod
    def attach(cls, directory: Path | str, lifeline: int | None = None) -> Lab:
        """A lab that another process made.

        Raises:
            LabError: There is none in that directory.
        """
        lab = cls(directory, detached=True)
        if lab._planes is None:
            raise LabError(f"no lab is up in {directory}: `up N` makes one")
        if lifeline is not None:
            os.set_inheritable(lifeline, True)
            lab._lifeline = (lifeline, -1)
        return lab

    # Life

    def __enter__(self) -> Lab:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(signum) is signal.SIG_DFL:
                    self._handlers[signum] = signal.signal(signum, _leave)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.down()
        finally:
            self._left = True
            for signum, handler in self._handlers.items():
                signal.signal(signum, handler)
            self._handlers.clear()

    def up(self, count: int = 3) -> None:
        """Power on host1 .. hostN, as far as they are off, and return when every libvirtd answers.

        Raises:
            LabError: The network is taken, or a host does not come up. Then, and on Ctrl-C, everything is down again, unless a
                detached lab was up before.
        """
        if not 1 <= count <= MAX_HOSTS:
            raise LabError(f"{count} hosts: 1 to {MAX_HOSTS} are possible")
        found = self._detached and self._attach()
        try:
            self._open()
            first = [] if config.capability_cache().exists() else [self._probe_capabilities()]
            off = [host for i in range(1, count + 1) if not (host := self._host(i)).is_on()]
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(lambda host: host.on(wait=False), off))
            for host in [*first, *off]:
                host.wait_ready()
        except BaseException:
            if not (self._detached and found):
                self.down(purge=False)
            raise

    def down(self, *, purge: bool | None = None) -> None:
        """Take everything down; can be repeated, and finds what a crash left behind.

        Args:
            purge: Remove disks, logs and configuration too. Default: only of a temporary lab.
        """
        self.beats.stop()
        self.fence.stop()
        for host in self.hosts:
            host.kill()
        end_strays(self.directory)
        if self._planes is not None:
            self._planes.destroy()
        (self.directory / "lab.json").unlink(missing_ok=True)
        self._planes = None
        if self._lifeline is not None:
            for end_of_pipe in self._lifeline:
                if end_of_pipe >= 0:
                    os.close(end_of_pipe)
            self._lifeline = None
        if self._temporary if purge is None else purge:
            shutil.rmtree(self.directory, ignore_errors=True)

    # Parts

    @property
    def planes(self) -> Planes:
        """Addresses and names of the networks.

        Raises:
            LabError: The lab is down.
        """
        if self._planes is None:
            raise LabError("the lab is down: `up` makes its networks")
        return self._planes

    @property
    def gateway(self) -> str:
        """The root namespace's address on the management plane: manager and evacuator listen there."""
        self._open()
        return self.planes.address("management", 0)

    @property
    def peer_gateway(self) -> str:
        """The root namespace's address on the peers' plane."""
        self._open()
        return self.planes.address("peers", 0)

    def host(self, name: str) -> Host:
        """A host by its name, on or off.

        Raises:
            LabError: No such name.
        """
        number = name.removeprefix("host")
        if not (number.isdigit() and 1 <= int(number) <= MAX_HOSTS):
            raise LabError(f"host {name!r}: host1 to host{MAX_HOSTS} are possible")
        self._open()
        return self._host(int(number))

    @property
    def hosts(self) -> list[Host]:
        """Every host that was ever on."""
        if self._planes is None:
            return []
        numbers = sorted(int(path.name.removeprefix("host")) for path in (self.directory / "hosts").glob("host*"))
        return [self._host(number) for number in numbers]

    def mkvm(self, name: str, **wishes: Any) -> guests.Guest:
        """Make a guest on the shared storage; see lab.guests.make."""
        self._open()
        return guests.make(self.shared, name, **wishes)

    def guest(self, name: str) -> guests.Guest:
        """A guest that was made."""
        return guests.existing(self.shared, name)

    def make_image(self, name: str) -> None:
        """Put a guest's disk as it is before its first boot into the image library, as NAME.qcow2."""
        self.images.mkdir(exist_ok=True)
        guests.make_disk(self.images / f"{name}.qcow2")

    @property
    def images(self) -> Path:
        """The image library, on the shared storage."""
        return self.shared / "images"

    @property
    def shared(self) -> Path:
        """The storage that all hosts share: disks, definitions, log/NAME.log."""
        return self.directory / "shared"

    @property
    def lifeline(self) -> int | None:
        """The end of the pipe that tells hosts and guardian of the owner's death."""
        return self._lifeline[0] if self._lifeline else None

    # Within

    def _host(self, index: int) -> Host:
        return Host(self.directory, self.planes, index, self.lifeline, self._agent_of)

    def _agent_of(self, name: str) -> list[str] | None:
        return list(self.agent_command(name)) if self.agent_command else None

    def _open(self) -> None:
        """Make networks and fence device, or find those that another process made."""
        if self._planes is not None or (self._detached and self._attach()):
            return
        if self._left:
            raise LabError("the lab was left: make another one")
        for part in ("hosts", "shared/log", f"shared/{config.TPM_STATES}"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        self._planes = claim(*self._wanted)
        if not self._detached:
            self._lifeline = os.pipe()
            os.set_inheritable(self._lifeline[0], True)
        owner = None if self._detached else [os.getpid(), started_at(os.getpid())]
        state = {"net": self._planes.net, "prefix": self._planes.prefix, "owner": owner, "temporary": self._temporary}
        (self.directory / "lab.json").write_text(json.dumps(state))
        self.fence.start()
        self.beats.start()

    def _inherit(self) -> None:
        """Take down what a dead owner left in this directory."""
        state = read_state(self.directory)
        if state is None:
            return
        owner = state["owner"]
        if owner is None or started_at(owner[0]) == owner[1]:
            whose = f"belongs to process {owner[0]}" if owner else "was brought up by `python -m lab up`"
            raise LabError(f"the lab in {self.directory} {whose}: take another directory, or `down` it")
        take_down(self.directory)

    def _attach(self) -> bool:
        state = read_state(self.directory)
        if state is None:
            return False
        self._planes = Planes(state["net"], state["prefix"])
        self._temporary = state["temporary"]
        return True

    def _probe_capabilities(self) -> Host:
        """libvirt probes QEMU once, on the first host; the others get a copy of what it found."""
        host = self._host(1)
        if not host.is_on():
            host.on()
        host.virsh("domcapabilities")
        cache = config.capability_cache()
        shutil.copytree(
            host.directory / "cache" / "qemu", half := cache.with_name(f"{cache.name}.{os.getpid()}"), dirs_exist_ok=True
        )
        try:
            half.rename(cache)
        except OSError:  # another lab was first
            shutil.rmtree(half)
        return host


def read_state(directory: Path) -> dict[str, Any] | None:
    """What a lab wrote about itself; None when there is none."""
    try:
        state: dict[str, Any] = json.loads((directory / "lab.json").read_text())
    except (OSError, ValueError):
        return None
    return state


def sweep() -> None:
    """Take down the labs below BASE whose owner died and whose guardian did too."""
    for path in BASE.glob("*/lab.json"):
        state = read_state(path.parent)
        if state and state["owner"] and started_at(state["owner"][0]) != state["owner"][1]:
            with suppress(LabError):
                take_down(path.parent)


def take_down(directory: Path) -> None:
    """Take down a lab of another process. Hosts first, through its files; then whatever still names its directory."""
    state = read_state(directory)
    if state is None:
        return
    planes = Planes(state["net"], state["prefix"])
    end_strays(directory)
    planes.destroy()
    (directory / "lab.json").unlink(missing_ok=True)
    if state["temporary"]:
        shutil.rmtree(directory, ignore_errors=True)


def end_strays(directory: Path) -> None:
    """End the host inits and fence devices that name this lab's directory in their arguments, known to its files or not."""
    for pid in pids():
        command = command_of(pid)
        ours = str(INIT) in command or "lab.bmc" in command
        if ours and pid != os.getpid() and any(word == str(directory) or word.startswith(f"{directory}/") for word in command):
            end(pid, started_at(pid))


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
