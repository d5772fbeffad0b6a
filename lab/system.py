"""The box that the lab stands on: programs it needs, commands it runs, processes it finds. Never a process by its name alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

COMMAND_TIMEOUT_S = 20.0
PACKAGES = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "prometheus-libvirt-exporter": "prometheus-libvirt-exporter",
    "fence_redfish": "fence-agents",
    "openssl": "openssl",
}
"""Program -> Debian 12 package that brings it."""
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LabError(Exception):
    """The lab cannot do what was asked; the text says why and what would help."""


def missing_for_a_lab() -> str | None:
    """What this machine lacks to run a lab, as one sentence; None when it has everything."""
    if os.geteuid() != 0:
        return f"the lab makes network namespaces and needs root; this is uid {os.geteuid()}"
    absent = [program for program in PACKAGES if shutil.which(program, path=SEARCH) is None]
    if absent:
        packages = " ".join(sorted({PACKAGES[program] for program in absent}))
        return f"missing {', '.join(absent)}: apt-get install {packages}"
    attempt = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, check=False
    )
    if attempt.returncode != 0:
        return f"namespaces are not permitted here: {attempt.stderr.strip()}"
    return None


def environment() -> dict[str, str]:
    """The caller's environment with the administrator's directories in PATH."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SEARCH}".lstrip(":")}


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True) -> str:
    """Run a command and return its standard output.

    Raises:
        LabError: It failed (with check) or did not end within timeout_s.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment(),
            stdin=None if stdin is not None else subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise LabError(f"no answer within {timeout_s:g} s: {' '.join(argv)}") from None
    except FileNotFoundError:
        raise LabError(f"no program {argv[0]}: apt-get install {PACKAGES.get(argv[0], argv[0])}") from None
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_for(fact: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.005) -> None:
    """Poll until fact() is true.

    Raises:
        LabError: It is not true within timeout_s.
    """
    until = time.monotonic() + timeout_s
    while not fact():
        if time.monotonic() > until:
            raise LabError(f"after {timeout_s:g} s it is not true that {what}")
        time.sleep(every_s)


def pids() -> Iterator[int]:
    """Every process of this box."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208 - hot loop


def started_at(pid: int) -> int:
    """A process's start in clock ticks since boot: with the pid it names one process for ever. 0 when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def command_of(pid: int) -> list[str]:
    """A process's arguments; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def children_of(pid: int) -> list[int]:
    """A process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def namespace_of(pid: int, kind: str) -> str:
    """Identity of a process's namespace; empty when the process is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def members(pid_namespace: str) -> list[int]:
    """Every process of a PID namespace, zombies left out."""
    return [pid for pid in pids() if pid_namespace and namespace_of(pid, "pid") == pid_namespace]


def send(pid: int, signum: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def end(pid: int, start: int, timeout_s: float = 5.0) -> None:
    """SIGKILL one process, known by pid and start, and wait until it is gone."""
    if start and started_at(pid) == start:
        send(pid, signal.SIGKILL)
        wait_for(lambda: started_at(pid) != start, timeout_s, f"process {pid} is gone", 0.001)
    with suppress(ChildProcessError):  # only a parent can reap
        os.waitpid(pid, os.WNOHANG)


def spawn(argv: Sequence[str], log: Path, extra: Mapping[str, str] | None = None) -> int:
    """Start a process that may outlive this one, in a session of its own; returns its pid."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    env = {**environment(), **(extra or {})}
    return os.posix_spawnp(argv[0], list(argv), env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=[signal.SIGPIPE])
