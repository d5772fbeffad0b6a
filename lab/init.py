"""PID 1 of one lab host, inside its own network, mount, UTS, IPC and PID namespaces. Started by lab.host; stdlib only.

It mounts the host's own directories, waits for `boot`, starts the daemons, reaps, and does what its control socket says. SIGKILL
of this process from outside is the power loss of the whole host. End of file on the lifeline means that the lab's owner died:
power loss too.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    if LIBC.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def bind(source: str, target: str) -> None:
    """Show a file or directory at another place too."""
    mount(source, target, flags=MS_BIND | MS_REC)


def furnish(spec: dict[str, Any]) -> None:
    """Give the host its own /run, /sys, /etc/libvirt and /var, and its name."""
    socket.sethostname(spec["name"])
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    # The lab's directory may lie below /run, which is about to be covered.
    lab = spec["lab"]
    held = os.open(lab, os.O_PATH | os.O_DIRECTORY)
    mount("tmpfs", "/run", "tmpfs", options="mode=755")
    Path(lab).mkdir(parents=True, exist_ok=True)
    bind(f"/proc/self/fd/{held}", lab)
    os.close(held)
    mount("tmpfs", "/dev/shm", "tmpfs")
    LIBC.umount2(b"/sys", MNT_DETACH)
    mount("sysfs", "/sys", "sysfs")
    for path in ("/run/libvirt", "/run/lock"):
        Path(path).mkdir(exist_ok=True)
    for source, target in spec["binds"]:
        if Path(source).is_dir():
            Path(target).mkdir(parents=True, exist_ok=True)
        bind(source, target)
    Path(spec["boot_id_file"]).write_text(spec["boot_id"] + "\n")


class Init:
    """The daemons of one host."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.running: dict[str, int] = {}

    def boot(self) -> dict[str, Any]:
        """Network up, then the daemons."""
        subprocess.run(["ip", "-batch", "-"], input=self.spec["network"], text=True, check=True)
        return {name: self.start(name)["pid"] for name in self.spec["daemons"]}

    def start(self, name: str) -> dict[str, Any]:
        """Start a daemon that does not run."""
        self.reap()
        if name not in self.running:
            daemon = self.spec["daemons"][name]
            out = os.open(daemon["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
            command = daemon["command"]
            self.running[name] = os.posix_spawnp(
                command[0], command, os.environ, file_actions=actions, setsid=True, setsigmask=[]
            )
            os.close(out)
        return {"pid": self.running[name]}

    def signal(self, name: str, signum: int) -> dict[str, Any]:
        """Send a signal to a daemon; after SIGKILL it is gone when this returns."""
        self.reap()
        if name not in self.running:
            return {"error": f"{name} does not run on {self.spec['name']}"}
        os.kill(self.running[name], signum)
        if signum == signal.SIGKILL:
            os.waitpid(self.running.pop(name), 0)
        return {}

    def reap(self) -> None:
        """Collect the dead: our daemons, and QEMUs whose parent has gone."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.running = {name: p for name, p in self.running.items() if p != pid}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one command of the control socket."""
        try:
            match request["do"]:
                case "boot":
                    return self.boot()
                case "start":
                    return self.start(request["name"])
                case "signal":
                    return self.signal(request["name"], request["signum"])
                case "daemons":
                    self.reap()
                    return dict(self.running)
        except (OSError, KeyError, subprocess.SubprocessError) as error:
            return {"error": f"{request}: {error!r}"}
        return {"error": f"unknown command {request}"}


def serve(init: Init, control: socket.socket, lifeline: int | None) -> None:
    """Reap and obey until the lifeline ends."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watched: list[Any] = [control, woken, *([lifeline] if lifeline is not None else [])]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if lifeline in ready:
            return
        if woken in ready:
            os.read(woken, 4096)
            init.reap()
        if control in ready:
            peer, _ = control.accept()
            # A caller that gave up must not take PID 1, and so the whole host, with it; nor a silent one hold it.
            with suppress(OSError, ValueError), peer:
                peer.settimeout(1)
                peer.sendall(json.dumps(init.answer(json.loads(peer.recv(65536)))).encode() + b"\n")


def main() -> None:
    """Arguments: the host's specification (a JSON file), the lifeline's file descriptor or -1."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    control = socket.socket(socket.AF_UNIX)
    furnish(spec)
    # It appears under its name only when it listens.
    control.bind(spec["control"] + ".new")
    control.listen(16)
    Path(spec["control"] + ".new").rename(spec["control"])
    lifeline = int(sys.argv[2])
    if lifeline >= 0:
        os.set_inheritable(lifeline, False)
    serve(Init(spec), control, lifeline if lifeline >= 0 else None)


if __name__ == "__main__":
    main()
