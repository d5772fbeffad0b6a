"""The two networks of a lab, each a bridge in the root namespace with one virtual cable per host.

management: sessions with the manager, libvirt's TCP, the fence devices.  peers: exporters and agents among themselves, and the
manager's own probes. The root namespace (manager, evacuator) has the first address of both, so that losing one plane leaves the
other.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from lab.system import LabError, run

Plane = Literal["management", "peers"]
PLANES: tuple[Plane, ...] = ("management", "peers")
DEFAULT_NET, DEFAULT_PREFIX = "10.99.0", "l2"
MAX_HOSTS = 40


@dataclass(frozen=True, slots=True)
class Planes:
    """Names and addresses.

    Attributes:
        net: First three octets of the management plane; the peers' plane has the next third octet.
        prefix: Begins the name of every interface of this lab in the root namespace.
    """

    net: str
    prefix: str

    def __post_init__(self) -> None:
        octets = self.net.split(".")
        if not (len(octets) == 3 and all(o.isdigit() and int(o) < 256 for o in octets) and int(octets[2]) < 255):
            raise LabError(f"net {self.net!r}: three octets are wanted, the third below 255, as 10.99.0")
        if not re.fullmatch(r"[a-z][a-z0-9]{0,6}", self.prefix):
            raise LabError(f"prefix {self.prefix!r}: a letter, then at most six letters or digits")

    def subnet(self, plane: Plane) -> str:
        """First three octets of a plane."""
        if plane == "management":
            return self.net
        first, second, third = self.net.split(".")
        return f"{first}.{second}.{int(third) + 1}"

    def address(self, plane: Plane, index: int) -> str:
        """A host's address; index 0 is the root namespace's own."""
        return f"{self.subnet(plane)}.{10 + index if index else 1}"

    def bmc_address(self, index: int) -> str:
        """The address of a host's fence device, on the management plane's bridge."""
        return f"{self.net}.{110 + index}"

    def bridge(self, plane: Plane) -> str:
        """A plane's bridge."""
        return f"{self.prefix}b{plane[0]}"

    def cable(self, plane: Plane, index: int) -> str:
        """The root namespace's end of a host's cable."""
        return f"{self.prefix}v{index}{plane[0]}"

    def create(self) -> bool:
        """Make both bridges. False when this lab's names or networks are in use; then nothing was made."""
        taken = addresses()
        if any(ipaddress.ip_address(a) in ipaddress.ip_network(f"{self.subnet(p)}.0/24") for a in taken for p in PLANES):
            return False
        made: list[Plane] = []
        for number, plane in enumerate(PLANES):
            # A bridge without a fixed MAC takes the lowest of its ports and changes it when a host is power-cycled: stale ARP
            # stalled fencing for 3 to 11 s.
            bridge, mac = self.bridge(plane), f"02:99:00:00:0{number}:01"
            try:
                run(["ip", "link", "add", bridge, "address", mac, "type", "bridge"])
                made.append(plane)
                run(["ip", "-batch", "-"], stdin=f"addr add {self.address(plane, 0)}/24 dev {bridge}\nlink set {bridge} up\n")
            except LabError:
                for done in made:
                    run(["ip", "link", "del", self.bridge(done)], check=False)
                return False
        return True

    def destroy(self) -> None:
        """Remove every bridge and cable of this lab, known or not."""
        pattern = re.compile(rf"{self.prefix}(b[mp]|v\d+[mp])")
        for name in links():
            if pattern.fullmatch(name):
                run(["ip", "link", "del", name], check=False)

    def plug(self, index: int, pid: int, cut: Collection[Plane] = ()) -> None:
        """Lay a host's cables from the bridges into the network namespace of a process; those of cut planes stay switched off."""
        lines = []
        for number, plane in enumerate(PLANES):
            cable = self.cable(plane, index)
            lines.append(
                f"link add {cable} address 02:99:00:1{number}:00:{index:02x} type veth "
                f"peer name eth{number} address 02:99:00:2{number}:00:{index:02x} netns {pid}"
            )
            lines.append(f"link set {cable} master {self.bridge(plane)} {'down' if plane in cut else 'up'}")
        run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")

    def unplug(self, index: int) -> None:
        """Remove a host's cables, where there are any."""
        present = links()
        for plane in PLANES:
            if (cable := self.cable(plane, index)) in present:
                run(["ip", "link", "del", cable], check=False)

    def inside(self, index: int) -> str:
        """What a host does to bring its ends of the cables up, as input of `ip -batch`."""
        lines = ["link set lo up"]
        for number, plane in enumerate(PLANES):
            lines.append(f"addr add {self.address(plane, index)}/24 dev eth{number}")
            lines.append(f"link set eth{number} up")
        lines.append(f"route add default via {self.address('management', 0)}")
        return "\n".join(lines) + "\n"

    def switch(self, index: int, up: bool, planes: tuple[Plane, ...] = PLANES) -> None:
        """Switch the root namespace's ends of a host's cables on or off. A cable that is gone is off."""
        lines = [f"link set {self.cable(plane, index)} {'up' if up else 'down'}\n" for plane in planes]
        run(["ip", "-force", "-batch", "-"], stdin="".join(lines), check=up)

    def is_up(self, plane: Plane, index: int) -> bool:
        """Whether a host's cable is switched on."""
        return "UP" in links().get(self.cable(plane, index), [])


def claim(net: str | None, prefix: str | None) -> Planes:
    """Make the bridges of the given lab, or of the first free one when neither is given.

    Raises:
        LabError: It is in use, or no network is free.
    """
    if net is not None or prefix is not None:
        wanted = Planes(net or DEFAULT_NET, prefix or DEFAULT_PREFIX)
        if wanted.create():
            return wanted
        raise LabError(
            f"network {wanted.net}.0/24, {wanted.subnet('peers')}.0/24 or bridge {wanted.bridge('management')} is in use "
            "(another lab?): take another --net and --prefix, or `down` that lab"
        )
    for third in range(0, 254, 2):
        candidate = Planes(f"10.99.{third}", f"l{third + 2}")
        if candidate.create():
            return candidate
    raise LabError("no free network among 10.99.0.0/24 .. 10.99.253.0/24")


def links() -> dict[str, list[str]]:
    """Interfaces of the root namespace with their flags."""
    return {link["ifname"]: link["flags"] for link in json.loads(run(["ip", "-json", "link"]) or "[]")}


def addresses() -> list[str]:
    """IPv4 addresses of the root namespace."""
    shown = json.loads(run(["ip", "-json", "-4", "addr"]) or "[]")
    return [address["local"] for link in shown for address in link.get("addr_info", [])]
