"""The restart floor: what libvirt and QEMU alone need to bring the guests of a dead host up elsewhere.

No detection, proof, journal or placement: the host's power is cut and in the same instant createXML is called on the other hosts,
over connections that are open already, several at a time per host. Nothing that restarts guests through libvirt can be quicker.

    python -m bench.floor [--rounds 5] [--guests 1,10] [--threads 1,4]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import libvirt

from lab import Lab

VICTIM = "host1"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds from the moment at which the host was dead to the first and to the last guest's first beat."""

    first_s: float
    last_s: float


def restart_floor(lab: Lab, names: Sequence[str], *, victim: str = VICTIM, threads_per_host: int = 4) -> Floor:
    """Run the guests on the victim, cut its power, create them on the other hosts at once.

    Afterwards the guests are gone and the victim is on.

    The lab must be up without agents: an agent would adopt these guests. Guests are made where they do not exist yet.

    Raises:
        LabError: A guest does not beat within TIMEOUT_S.
        libvirt.libvirtError: libvirt refuses one.
    """
    definitions = {name: _definition(lab, name) for name in names}
    others = [host for host in lab.hosts if host.name != victim and host.is_on()]
    with ExitStack() as open_connections:
        connections = [libvirt.open(host.libvirt_uri) for host in others]
        for connection in connections:
            open_connections.callback(connection.close)
        start = time.monotonic()
        source = libvirt.open(lab.host(victim).libvirt_uri)
        _create([source], definitions, threads_per_host)
        lab.beats.wait_after(names, start, TIMEOUT_S)
        source.close()
        cut_at = time.monotonic()
        lab.host(victim).kill()
        dead_at = time.monotonic()
        _create(connections, definitions, threads_per_host)
        firsts = lab.beats.wait_after(names, cut_at, TIMEOUT_S)
        for connection in connections:
            _destroy(connection, names)
    lab.beats.check(names)
    lab.host(victim).on()
    seconds = sorted(beat.at - dead_at for beat in firsts.values())
    return Floor(seconds[0], seconds[-1])


def measure(guests: int, rounds: int, *, hosts: int = 3, threads_per_host: int = 4) -> list[Floor]:
    """Take the floor several times in a lab of its own."""
    names = [f"floor{number}" for number in range(guests)]
    with Lab() as lab:
        lab.up(hosts)
        return [restart_floor(lab, names, threads_per_host=threads_per_host) for _ in range(rounds)]


def _definition(lab: Lab, name: str) -> str:
    known = (lab.shared / f"{name}.xml").exists()
    return (lab.guest(name) if known else lab.mkvm(name)).definition


def _create(connections: Sequence[libvirt.virConnect], definitions: dict[str, str], threads_per_host: int) -> None:
    """createXML everything, dealt out in turn, with so many calls at a time on each connection."""
    with ExitStack() as pools:
        workers = [pools.enter_context(ThreadPoolExecutor(max_workers=threads_per_host)) for _ in connections]
        calls = [
            workers[number % len(workers)].submit(connections[number % len(workers)].createXML, xml, 0)
            for number, xml in enumerate(definitions.values())
        ]
        for call in calls:
            call.result()


def _destroy(connection: libvirt.virConnect, names: Sequence[str]) -> None:
    for domain in connection.listAllDomains(0):
        if domain.name() in names:
            with suppress(libvirt.libvirtError):
                domain.destroy()


def main() -> None:
    """Print the floor for each number of guests and threads."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--guests", default="1,10", help="numbers of guests, comma separated (default %(default)s)")
    parser.add_argument("--threads", default="1,4", help="calls at a time on each host (default %(default)s)")
    arguments = parser.parse_args()
    print("guests threads  first beat min/median/max s   last beat min/median/max s")
    for guests in (int(number) for number in arguments.guests.split(",")):
        for threads in (int(number) for number in arguments.threads.split(",")):
            floors = measure(guests, arguments.rounds, threads_per_host=threads)
            first, last = [f.first_s for f in floors], [f.last_s for f in floors]
            print(f"{guests:6} {threads:7}  {_spread(first):>28}   {_spread(last):>27}", flush=True)


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f}"


if __name__ == "__main__":
    main()
