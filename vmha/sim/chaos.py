"""Random scenarios: each a function of a seed and a number alone, built of faults that overlap as they like.

A scenario is an adversary within the assumptions of docs/safety.md: clocks stay within rho, an operator confirms only hosts that
are off, nobody starts a second copy by hand, and where hosts are cut off an agent that dies is up again within QUICK_S: without a
watchdog (R10) nobody else would stop the VMs. Everything else may happen at any time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vmha.safety import RHO

Raw = dict[str, Any]
LAST_FAULT_S: Final = 70.0
"""Episodes begin before this; what follows them may be later."""
SETTLING_S: Final = 36.0
"""Left after the last act, so that what it leads to is seen."""
QUICK_S: Final = 1.0
"""An agent that comes back so soon enforces its guard in time: well within kill_timeout_s."""
CUTS: Final = frozenset(
    {"isolation", "flapping_cut", "partition", "one_way", "staged_cut", "restart_in_the_dark", "deaf_majority"}
)
"""Episodes in which a host may lose every way to say that its agent died."""
COMMITTEE_HOSTS: Final = (17, 20)
"""Above 16 hosts a committee votes."""
_LENGTHS: Final = (0.3, 1.0, 2.5, 5.0, 9.0, 14.0, 25.0, 45.0)


def generate(seed: int, number: int) -> Raw:
    """Scenario `number` of a seed."""
    return _Maker(random.Random(f"vmha-chaos/{seed}/{number}"), f"chaos {seed}/{number}").make()


@dataclass(slots=True)
class _Maker:
    rng: random.Random
    name: str
    hosts: list[str] = field(default_factory=list)
    vms: dict[str, str] = field(default_factory=dict)
    managers: int = 1
    timeline: list[Raw] = field(default_factory=list)
    cuts: bool = True
    """Hosts may be cut off in this scenario; else agents may stay away for long."""

    def make(self) -> Raw:
        rng = self.rng
        self.hosts = [f"h{i}" for i in range(1, self._size() + 1)]
        self.managers = rng.choice((1, 1, 2, 3))
        hosts = [self._host(name) for name in self.hosts]
        vms = self._vms(hosts)
        self.vms = {vm["id"]: vm["host"] for vm in vms}
        for name in self.hosts:
            if rng.random() < 0.5:
                self._add(0.0, "clock_rate", host=name, rate=round(1 + rng.uniform(-RHO, RHO) * 0.99, 6))
        self.cuts = rng.random() < 0.8
        for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 5, 7))):
            self._episode()
        self.timeline.sort(key=lambda step: float(step["at"]))
        self.timeline = [step for step in self.timeline if step["do"] != "confirm_off" or self._is_off(step)]
        last = max((float(step["at"]) for step in self.timeline), default=0.0)
        return {
            "name": self.name,
            "seed": rng.randrange(2**31),
            "until": round(last + SETTLING_S, 3),
            "profile": "fast",
            "managers": self.managers,
            "start_s": rng.choice((0.0, 0.2, 1.0, 1.0, 3.0)),
            "migrate_s": rng.choice((0.5, 3.0, 10.0)),
            "cluster": self._cluster(),
            "hosts": hosts,
            "vms": vms,
            "timeline": self.timeline,
        }

    # What there is

    def _size(self) -> int:
        if self.rng.random() < 0.012:
            return self.rng.randint(*COMMITTEE_HOSTS)
        return self.rng.choice((2, 3, 3, 3, 4, 4, 5, 5, 6, 7))

    def _host(self, name: str) -> Raw:
        return {"id": name, "memory_mib": self.rng.choice((4096, 8192, 16384)), "vcpus": 16, "rack": f"r{self.rng.randint(1, 3)}"}

    def _vms(self, hosts: list[Raw]) -> list[Raw]:
        rng, free = self.rng, {host["id"]: int(host["memory_mib"]) for host in hosts}
        vms: list[Raw] = []
        for i in range(1, rng.randint(1, 6) + 1):
            memory = rng.choice((512, 1024, 2048))
            room = [name for name, left in free.items() if left >= memory]
            if not room:
                break
            host = rng.choice(room)
            free[host] -= memory
            state = rng.choices(("running", "paused", "shutoff"), (10, 1, 1))[0]
            vms.append({"id": f"vm{i}", "host": host, "memory_mib": memory, "state": state, "ha": rng.random() < 0.95})
        return vms

    def _cluster(self) -> Raw:
        rng = self.rng
        return {
            "fencing": rng.choices(("none", "always", "fails"), (6, 3, 2))[0],
            "self_fencing": "off" if rng.random() < 0.05 else "destroy",
            "max_down_fraction": rng.choice((0.0, 0.0, 0.5, 1.0)),
        }

    # What happens

    def _is_off(self, step: Raw) -> bool:
        """Whether a host is off for certain when an operator says so: crashed, and not booted since by any episode."""
        off = False
        for other in self.timeline:
            if other["at"] > step["at"] or other.get("host") != step["host"]:
                continue
            if other["do"] == "crash":
                off = True
            elif other["do"] in {"boot", "reboot"}:
                return False
        return off

    def _add(self, at: float, do: str, **arguments: Any) -> None:
        self.timeline.append({"at": round(at, 3), "do": do, **arguments})

    def _begin(self) -> float:
        return self.rng.uniform(0.5, LAST_FAULT_S)

    def _length(self) -> float:
        return self.rng.choice(_LENGTHS) * self.rng.uniform(0.5, 1.5)

    def _some(self) -> list[str]:
        count = self.rng.choice((1, 1, 1, 2, max(1, len(self.hosts) // 2), len(self.hosts)))
        return sorted(self.rng.sample(self.hosts, min(count, len(self.hosts))))

    def _host_name(self) -> str:
        return self.rng.choice(self.hosts)

    def _episode(self) -> None:
        kinds = [kind for kind in _EPISODES if self.cuts or kind not in CUTS]
        kind = self.rng.choices(kinds, [_EPISODES[each][0] for each in kinds])[0]
        _EPISODES[kind][1](self, self._begin())

    def power_loss(self, at: float) -> None:
        for name in self._some()[: self.rng.choice((1, 1, 1, 3))]:
            when = at + self.rng.choice((0.0, 0.0, self.rng.uniform(0, 15)))
            self._add(when, "crash", host=name)
            # An operator says so only of a host that is off, and stays off for a while.
            confirmed = self.rng.random() < 0.15
            if confirmed:
                self._add(when + self.rng.uniform(3, 25), "confirm_off", host=name)
            if self.rng.random() < 0.6:
                self._add(when + (30 if confirmed else 0) + self._length(), "boot", host=name)

    def reboot(self, at: float) -> None:
        self._add(at, "reboot", host=self._host_name(), down_s=round(self._length(), 3))

    def isolation(self, at: float) -> None:
        hosts, plane = self._some(), self.rng.choice(("all", "all", "management", "peers"))
        self._add(at, "isolate", hosts=hosts, plane=plane)
        if self.rng.random() < 0.75:
            self._add(at + self._length(), "heal", hosts=hosts, plane=plane)

    def flapping_cut(self, at: float) -> None:
        hosts, plane = self._some(), self.rng.choice(("all", "management"))
        for _ in range(self.rng.randint(2, 6)):
            self._add(at, "isolate", hosts=hosts, plane=plane)
            at += self.rng.uniform(0.3, 9.0)
            self._add(at, "heal", hosts=hosts, plane=plane)
            at += self.rng.uniform(0.1, 4.0)

    def staged_cut(self, at: float) -> None:
        """A host that comes back to its peers before it comes back to its manager, or the other way round."""
        hosts, first = [self._host_name()], self.rng.choice(("peers", "peers", "management"))
        self._add(at, "isolate", hosts=hosts, plane="all")
        self._add(at + self.rng.uniform(1.5, 12), "heal", hosts=hosts, plane=first)
        self._add(at + self.rng.uniform(12, 35), "heal", hosts=hosts, plane="all")

    def restart_in_the_dark(self, at: float) -> None:
        """An agent that restarts while its host is cut off has only its record to go by (R9)."""
        host = self._host_name()
        self._add(at, "isolate", hosts=[host], plane="all")
        stop = at + self.rng.uniform(0.2, 7.0)
        self._add(stop, "agent_stop", host=host)
        self._add(stop + self.rng.uniform(0.02, QUICK_S), "agent_start", host=host)
        self._add(at + self.rng.uniform(14, 40), "heal", hosts=[host], plane="all")

    def deaf_majority(self, at: float) -> None:
        """Acks are lost on the way to most hosts, whose heartbeats arrive; another host is cut off from the manager (R5)."""
        deaf = self.rng.sample(self.hosts, len(self.hosts) // 2 + 1)
        others = [host for host in self.hosts if host not in deaf]
        end = at + self.rng.uniform(12, 40)
        for host in deaf:
            self._add(at, "link", **{"from": "management", "to": host, "loss": 1.0})
            self._add(end, "link", **{"from": "management", "to": host, "loss": 0.0})
        if others:
            cut = [self.rng.choice(others)]
            self._add(at + self.rng.uniform(0, 3), "isolate", hosts=cut, plane="management")
            self._add(end + self.rng.uniform(0, 3), "heal", hosts=cut, plane="management")

    def partition(self, at: float) -> None:
        apart = [*(f"manager/{i}" for i in range(self.managers)), "evac", "store"]
        ends = [*self.hosts, *self.rng.choice((["management"], apart))]
        self.rng.shuffle(ends)
        cut = self.rng.randint(1, len(ends) - 1)
        named = ends if self.rng.random() < 0.8 else ends[: max(cut + 1, len(ends) - 1)]
        self._add(at, "partition", sides=[sorted(named[:cut]), sorted(named[cut:])])
        if self.rng.random() < 0.85:
            self._add(at + self._length(), "heal_all")

    def one_way(self, at: float) -> None:
        ends = [*self.hosts, "management", "management", f"manager/{self.rng.randrange(self.managers)}", "store", "evac"]
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            a, b = self.rng.choice(self.hosts), self.rng.choice(ends)
            if a == b:
                continue
            if self.rng.random() < 0.5:
                a, b = b, a
            self._add(at, "link", **{"from": a, "to": b, "loss": self.rng.choice((1.0, 1.0, 1.0, 0.5, 0.9))})
            if self.rng.random() < 0.7:
                self._add(at + self._length(), "link", **{"from": a, "to": b, "loss": 0.0})

    def agent_outage(self, at: float) -> None:
        for name in self._some():
            self._add(at, "agent_stop", host=name)
            if self.cuts:
                self._add(at + self.rng.uniform(0.02, QUICK_S), "agent_start", host=name)
            elif self.rng.random() < 0.85:
                self._add(at + self._length(), "agent_start", host=name)

    def manager_outage(self, at: float) -> None:
        which: Raw = self.rng.choice(({}, {"i": "all"}, {"i": self.rng.randrange(self.managers)}))
        self._add(at, "manager_crash", **which)
        if self.rng.random() < 0.9:
            self._add(at + self._length(), "manager_start", **({} if which.get("i") != "all" else {"i": "all"}))

    def manager_flapping(self, at: float) -> None:
        for _ in range(self.rng.randint(2, 5)):
            self._add(at, "manager_crash", i="all")
            at += self.rng.uniform(0.5, 8.0)
            self._add(at, "manager_start", i="all")
            at += self.rng.uniform(0.5, 14.0)

    def evac_outage(self, at: float) -> None:
        self._add(at, "evac_crash")
        self._add(at + self._length(), "evac_start")

    def store_outage(self, at: float) -> None:
        self._add(at, "store_down")
        self._add(at + self._length(), "store_up")

    def store_loss(self, at: float) -> None:
        if self.rng.random() < 0.4:
            self._add(at - 0.2, "store_down")
            self._add(at + self.rng.uniform(0.1, 5.0), "store_up")
        self._add(at, "store_flush")

    def hang(self, at: float) -> None:
        name = self._host_name()
        self._add(at, "hypervisor_hang", host=name)
        if self.rng.random() < 0.85:
            self._add(at + self._length(), "hypervisor_resume", host=name)

    def exporter(self, at: float) -> None:
        name = self._host_name()
        self._add(at, "exporter_stop", host=name)
        self._add(at + self._length(), "exporter_start", host=name)

    def planned(self, at: float) -> None:
        name = self._host_name()
        self._add(at, "goodbye", host=name)
        self._add(at + self.rng.uniform(0.1, 4.0), *self.rng.choice((("crash",), ("reboot",))), host=name)

    def fence_device(self, at: float) -> None:
        name = self._host_name()
        self._add(at, "fence_fail", host=name)
        self._add(at + self._length(), "fence_heal", host=name)

    def lie(self, at: float) -> None:
        name = self._host_name()
        others = [host for host in self.hosts if host != name]
        self._add(at, "liar", host=name, says=self.rng.choice(("down", "up")), of=sorted(self.rng.sample(others, 1)))
        self._add(at + self._length(), "liar", host=name, says="truth")

    def guest(self, at: float) -> None:
        if not self.vms:
            return
        vm = self.rng.choice(sorted(self.vms))
        match self.rng.choice(("pause", "stop", "migrate", "migrate", "migrate", "ha", "delete")):
            case "pause":
                self._add(at, "vm_pause", vm=vm)
                self._add(at + self._length(), "vm_resume", vm=vm)
            case "stop":
                self._add(at, "vm_stop", vm=vm)
            case "migrate":
                self._add(at, "vm_migrate", vm=vm, host=self._host_name())
            case "ha":
                self._add(at, "vm_ha", vm=vm, ha="off")
                self._add(at + self._length(), "vm_ha", vm=vm, ha="on")
            case "delete":
                self._add(at, "vm_delete", vm=vm)

    def failures(self, at: float) -> None:
        self._add(at, "fail_starts", host=self._host_name(), count=self.rng.randint(1, 3))
        if self.rng.random() < 0.4:
            self._add(at, "fail_migrations", host=self._host_name(), count=1)

    def protection(self, at: float) -> None:
        self._add(at, "ha_disable")
        self._add(at + self._length(), "ha_enable")

    def maintenance(self, at: float) -> None:
        name = self._host_name()
        self._add(at, "maintenance_on", host=name)
        if self.rng.random() < 0.7:
            self._add(at + self._length(), "maintenance_off", host=name)

    def drain(self, at: float) -> None:
        """A host is emptied, and something happens to it or to where its VMs go."""
        name = self._host_name()
        self._add(at, "drain", host=name)
        match self.rng.choice(("none", "none", "cancel", "power", "other", "migrate", "isolate")):
            case "cancel":
                self._add(at + self._length(), "maintenance_off", host=name)
            case "power":
                self._add(at + self.rng.uniform(1.5, 12), "crash", host=name)
                self._add(at + self.rng.uniform(13, 45), "boot", host=name)
            case "other":
                self._add(at + self.rng.uniform(1.5, 12), "crash", host=self._host_name())
            case "migrate" if self.vms:
                vm = self.rng.choice(sorted(self.vms))
                self._add(at + self.rng.uniform(-2, 4) if at > 3 else at, "vm_migrate", vm=vm, host=self._host_name())
            case "isolate" if self.cuts:
                self._add(at + self.rng.uniform(1.5, 8), "isolate", hosts=[name], plane=self.rng.choice(("all", "management")))
                self._add(at + self.rng.uniform(10, 40), "heal", hosts=[name], plane="all")


_EPISODES: Final[Mapping[str, tuple[float, Callable[[_Maker, float], None]]]] = {
    "power_loss": (5, _Maker.power_loss),
    "reboot": (1.5, _Maker.reboot),
    "isolation": (6, _Maker.isolation),
    "flapping_cut": (1.5, _Maker.flapping_cut),
    "staged_cut": (1, _Maker.staged_cut),
    "restart_in_the_dark": (0.7, _Maker.restart_in_the_dark),
    "deaf_majority": (0.7, _Maker.deaf_majority),
    "partition": (3, _Maker.partition),
    "one_way": (2.5, _Maker.one_way),
    "agent_outage": (2, _Maker.agent_outage),
    "manager_outage": (3.5, _Maker.manager_outage),
    "manager_flapping": (1, _Maker.manager_flapping),
    "evac_outage": (1, _Maker.evac_outage),
    "store_outage": (1.2, _Maker.store_outage),
    "store_loss": (0.8, _Maker.store_loss),
    "hang": (0.8, _Maker.hang),
    "exporter": (0.5, _Maker.exporter),
    "planned": (0.8, _Maker.planned),
    "fence_device": (0.4, _Maker.fence_device),
    "lie": (0.5, _Maker.lie),
    "guest": (1.5, _Maker.guest),
    "failures": (0.7, _Maker.failures),
    "protection": (0.3, _Maker.protection),
    "maintenance": (0.4, _Maker.maintenance),
    "drain": (2.0, _Maker.drain),
}
"""Episodes and how likely each is."""
EPISODES: Final = tuple(_EPISODES)
