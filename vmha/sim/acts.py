"""Every `do` of a timeline with its arguments (design section 9). docs/simulator.md shows the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vmha.sim.fields import OPTIONAL, Field, Kind

DOWN_S: Final = 30.0
"""How long a reboot takes unless the scenario says so."""
MAX_COUNT: Final = 1_000_000

_HOST: Final = Field(name="host", kind=Kind.HOST)
_HOSTS: Final = Field(name="hosts", kind=Kind.HOSTS)
_VM: Final = Field(name="vm", kind=Kind.VM)
_PLANE: Final = Field(name="plane", kind=Kind.CHOICE, default="all", choices=("all", "management", "peers"))
_COUNT: Final = Field(name="count", kind=Kind.INTEGER, low=0, high=MAX_COUNT)
_SOME_VM: Final = Field(name="vm", kind=Kind.VM, default=OPTIONAL)
_MANAGER: Final = Field(name="i", kind=Kind.MANAGER, default=OPTIONAL)

ACTS: Final[Mapping[str, tuple[Field, ...]]] = {
    "crash": (_HOST,),
    "boot": (_HOST,),
    "reboot": (_HOST, Field(name="down_s", kind=Kind.NUMBER, default=DOWN_S, low=0)),
    "isolate": (_HOSTS, _PLANE),
    "heal": (_HOSTS, _PLANE),
    "partition": (Field(name="sides", kind=Kind.SIDES),),
    "heal_all": (),
    "link": (
        Field(name="from", kind=Kind.ENDPOINT),
        Field(name="to", kind=Kind.ENDPOINT),
        Field(name="loss", kind=Kind.NUMBER, low=0, high=1),
    ),
    "agent_stop": (_HOST,),
    "agent_start": (_HOST,),
    "exporter_stop": (_HOST,),
    "exporter_start": (_HOST,),
    "hypervisor_hang": (_HOST,),
    "hypervisor_resume": (_HOST,),
    "goodbye": (_HOST,),
    "manager_crash": (_MANAGER,),
    "manager_start": (_MANAGER,),
    "evac_crash": (),
    "evac_start": (),
    "store_down": (),
    "store_up": (),
    "store_flush": (),
    "ha_enable": (),
    "ha_disable": (),
    "maintenance_on": (_HOST,),
    "maintenance_off": (_HOST,),
    "drain": (_HOST,),
    "vm_pause": (_VM,),
    "vm_resume": (_VM,),
    "vm_stop": (_VM,),
    "vm_start": (_VM, _HOST),
    "vm_migrate": (_VM, _HOST),
    "vm_ha": (_VM, Field(name="ha", kind=Kind.SWITCH, aliases=("on", "state", "to", "says", "value", "enabled"))),
    "vm_delete": (_VM,),
    "hot_add": (
        _VM,
        Field(name="vcpus", kind=Kind.INTEGER, default=OPTIONAL, low=1, high=MAX_COUNT),
        Field(name="memory_mib", kind=Kind.INTEGER, default=OPTIONAL, low=1, high=MAX_COUNT),
    ),
    "fail_starts": (_HOST, _COUNT, _SOME_VM),
    "fail_migrations": (_HOST, _COUNT, _SOME_VM),
    "fence_fail": (_HOST,),
    "fence_heal": (_HOST,),
    "confirm_off": (_HOST,),
    "liar": (
        _HOST,
        Field(name="says", kind=Kind.CHOICE, choices=("down", "up", "truth")),
        Field(name="of", kind=Kind.HOSTS, default=OPTIONAL),
    ),
    "clock_rate": (_HOST, Field(name="rate", kind=Kind.NUMBER, above=0, high=100)),
}
