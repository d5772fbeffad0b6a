"""`python -m lab`: see docs/lab.md.

Exit 0: done; 1: the lab could not, one line says why; 2: wrong arguments; exec and virsh: the command's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab.beats import BeatError, check, parse
from lab.bmc import FAIL_MODES
from lab.config import BASE
from lab.host import Host
from lab.lab import Lab
from lab.planes import PLANES
from lab.system import LabError, environment

SIMPLE: dict[str, tuple[str, Callable[[Host], None]]] = {
    "kill": ("power loss", Host.kill),
    "on": ("power on", Host.on),
    "hang": ("libvirtd stops answering", Host.hang),
    "unhang": ("libvirtd goes on", Host.unhang),
    "freeze": ("the whole host stands still", Host.freeze),
    "thaw": ("the host goes on", Host.thaw),
    "libvirtd-kill": ("libvirtd crashes; guests run on", Host.libvirtd_kill),
    "libvirtd-start": ("start libvirtd again", Host.libvirtd_start),
    "exporter-kill": ("the exporter crashes", Host.exporter_kill),
    "exporter-start": ("start the exporter again", Host.exporter_start),
    "agent-kill": ("the agent crashes", Host.agent_kill),
    "agent-start": ("start the agent again", Host.agent_start),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m lab", description="Real libvirt/QEMU hosts in namespaces of this box (root).")
    top.add_argument(
        "--directory",
        default=os.environ.get("VMHA_LAB_DIR", str(BASE / "default")),
        help="state; default: $VMHA_LAB_DIR or %(default)s",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    up = verbs.add_parser("up", help="power on host1 .. hostN")
    up.add_argument("count", type=int, nargs="?", default=3, metavar="N")
    up.add_argument("--net", help="management plane's first three octets; default: the first free of 10.99.0, 10.99.2, ...")
    up.add_argument("--prefix", help="begins the names of this lab's interfaces")
    verbs.add_parser("down", help="take everything down").add_argument(
        "--purge", action="store_true", help="disks, logs and configuration too"
    )
    for verb, (text, _) in SIMPLE.items():
        verbs.add_parser(verb, help=text).add_argument("host")
    _host_verbs(verbs)
    fence = verbs.add_parser("fence", help="status, off, on by the real fence agent; or make the device fail, or heal it")
    fence.add_argument("host")
    fence.add_argument("action", choices=("status", "off", "on", "heal", "config", *FAIL_MODES))
    mkvm = verbs.add_parser("mkvm", help="make a guest on the shared storage")
    mkvm.add_argument("name")
    mkvm.add_argument("--memory-mib", type=int, default=16)
    verbs.add_parser("beats", help="what each guest said last, and whether one ran twice")
    verbs.add_parser("status", help="hosts, addresses, guests")
    return top


def _host_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for verb, text in (("cut", "cut cables; guests run on"), ("heal", "undo cut")):
        plane = verbs.add_parser(verb, help=text)
        plane.add_argument("host")
        plane.add_argument("--plane", choices=("all", *PLANES), default="all")
    for verb, text in (
        ("hang-guest", "one guest's QEMU stands still"),
        ("unhang-guest", "it goes on"),
        ("start-guest", "define and start"),
    ):
        guest = verbs.add_parser(verb, help=text)
        guest.add_argument("host")
        guest.add_argument("guest")
    for verb, text in (("exec", "run a command inside"), ("virsh", "run virsh against a host")):
        command = verbs.add_parser(verb, help=text)
        command.add_argument("host")
        command.add_argument("command", nargs=argparse.REMAINDER)


def main() -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args()
    try:
        return dispatch(arguments, Path(arguments.directory))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; `down` takes down what there is", file=sys.stderr)
        return 130


def dispatch(arguments: argparse.Namespace, directory: Path) -> int:
    """Do what the arguments say."""
    verb = arguments.verb
    if verb == "up":
        lab = Lab(directory, net=arguments.net, prefix=arguments.prefix, detached=True)
        lab.up(arguments.count)
        return status(lab)
    if verb == "down":
        Lab(directory, detached=True).down(purge=arguments.purge)
        return 0
    lab = Lab.attach(directory)
    match verb:
        case "status":
            code = status(lab)
        case "beats":
            code = beats(lab)
        case "fence":
            code = fence(lab, arguments.host, arguments.action)
        case "mkvm":
            code = 0
            print(lab.mkvm(arguments.name, memory_mib=arguments.memory_mib).xml)
        case _:
            code = on_host(lab.host(arguments.host), arguments)
    return code


def on_host(host: Host, arguments: argparse.Namespace) -> int:
    """Commands that concern one host."""
    verb = arguments.verb
    if verb in SIMPLE:
        SIMPLE[verb][1](host)
    elif verb in {"cut", "heal"}:
        (host.cut if verb == "cut" else host.heal)(arguments.plane)
    elif verb == "exec":
        return subprocess.run(host.enter(*arguments.command), env=environment(), check=False).returncode
    elif verb == "virsh":
        return subprocess.run(
            ["virsh", "-q", "-c", host.libvirt_uri, *arguments.command], env=environment(), check=False
        ).returncode
    else:
        {"hang-guest": host.hang_guest, "unhang-guest": host.unhang_guest, "start-guest": host.start_guest}[verb](arguments.guest)
    return 0


def fence(lab: Lab, host: str, action: str) -> int:
    """The fence device, through the agent that the product uses."""
    if action == "config":
        print(json.dumps(lab.fence.config(host), indent=1))
    elif action == "heal":
        lab.fence.heal(host)
    elif action in FAIL_MODES:
        lab.fence.fail(host, action)
    else:
        done = lab.fence.call(host, action)
        print((done.stdout or done.stderr).strip())
        return 0 if action == "status" and done.returncode == 2 else done.returncode
    return 0


def status(lab: Lab) -> int:
    """A line for each host."""
    print(f"{lab.directory}: manager's side {lab.gateway} and {lab.peer_gateway}")
    for host in lab.hosts:
        if not host.is_on():
            print(f"{host.name:<8}{host.address:<15}{host.peer_address:<15}off")
            continue
        cut = f"  cut: {' '.join(sorted(host.cuts()))}" if host.cuts() else ""
        print(f"{host.name:<8}{host.address:<15}{host.peer_address:<15}on{cut}  guests: {' '.join(host.guests()) or '-'}")
    return 0


def beats(lab: Lab) -> int:
    """A line for each guest; exit 1 when one ran twice."""
    wrong = 0
    for log in sorted((lab.shared / "log").glob("*.log")):
        records = parse(log.read_bytes())
        last = records[-1] if records else None
        print(f"{log.stem:<12}" + (f"boot {last.gen}, beat {last.beat}" if last else "nothing yet"))
        try:
            check(log.stem, records)
        except BeatError as error:
            wrong = 1
            print(f"lab: {error}", file=sys.stderr)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
