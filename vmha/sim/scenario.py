"""A scenario: what the cluster is, and what happens to it (design section 9, docs/simulator.md).

scenario = load(Path("scenario.json"))      # InvalidField names everything that is wrong, each with its place
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vmha.cluster_config import MAX_OVERCOMMIT, MAX_PARALLEL, MAX_WATCHERS, TIMER_NAMES, Wishes, merge
from vmha.config import read_bounded
from vmha.domain_xml import WORD
from vmha.errors import FieldViolation, InvalidField
from vmha.model import ClusterConfig, Profile, ProofPolicy, SelfFencing
from vmha.sim.acts import ACTS
from vmha.sim.fields import OPTIONAL, Field, Kind, Known, Reader, listed, shown
from vmha.sim.storage import IMAGES

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_UNTIL_S: Final = 10_000_000.0
MAX_MANAGERS: Final = 100
ROLES: Final = ("hypervisor", "block-storage", "image-library")
IMAGE: Final = "debian-12"
"""The image of a VM with a local root disk that names no other."""
_LARGE: Final = 2**31 - 1
_VM_IDS: Final = uuid.UUID("6f2c3a52-97f0-4d0c-9c0f-0d8a6b1f7c11")

TOP: Final = (
    Field(name="name", kind=Kind.TEXT, default="scenario"),
    Field(name="seed", kind=Kind.INTEGER, default=1, low=0),
    Field(name="until", kind=Kind.NUMBER, above=0, high=MAX_UNTIL_S),
    Field(name="profile", kind=Kind.CHOICE, default="standard", choices=("standard", "fast")),
    Field(name="timers", kind=Kind.OBJECT, default={}),
    Field(name="managers", kind=Kind.INTEGER, default=1, low=1, high=MAX_MANAGERS),
    Field(name="start_s", kind=Kind.NUMBER, default=1.0, low=0, high=86_400),
    Field(name="migrate_s", kind=Kind.NUMBER, default=10.0, low=0, high=86_400),
    Field(name="cluster", kind=Kind.OBJECT, default={}),
    Field(name="hosts", kind=Kind.OBJECTS),
    Field(name="vms", kind=Kind.OBJECTS, default=()),
    Field(name="groups", kind=Kind.OBJECTS, default=()),
    Field(name="timeline", kind=Kind.OBJECTS, default=()),
)
CLUSTER: Final = (
    Field(name="id", kind=Kind.ID, default="c1"),
    Field(name="ha_enabled", kind=Kind.BOOLEAN, default=True),
    Field(name="fencing", kind=Kind.CHOICE, default="none", choices=("none", "always", "fails")),
    Field(name="proof", kind=Kind.CHOICE, default="ladder", choices=("ladder", "none")),
    Field(name="self_fencing", kind=Kind.CHOICE, default="destroy", choices=("destroy", "off")),
    Field(name="max_down_fraction", kind=Kind.NUMBER, default=0.0, low=0, high=1),
    Field(name="reserve_fraction", kind=Kind.NUMBER, default=0.0, low=0, high=0.95),
    Field(name="cpu_overcommit", kind=Kind.NUMBER, default=1.0, low=0, high=MAX_OVERCOMMIT),
    Field(name="parallel", kind=Kind.INTEGER, default=0, low=0, high=MAX_PARALLEL),
    Field(name="parallel_per_target", kind=Kind.INTEGER, default=0, low=0, high=MAX_PARALLEL),
    Field(name="watchers", kind=Kind.INTEGER, default=0, low=0, high=MAX_WATCHERS),
    Field(name="vtpm_state_shared", kind=Kind.BOOLEAN, default=False),
)
"""0 takes the profile's or the product's default."""
HOST: Final = (
    Field(name="id", kind=Kind.ID),
    Field(name="vcpus", kind=Kind.INTEGER, default=16, low=1, high=_LARGE),
    Field(name="memory_mib", kind=Kind.INTEGER, default=65_536, low=1, high=_LARGE),
    Field(name="rack", kind=Kind.TEXT, default="r1"),
    Field(name="aggregates", kind=Kind.TEXTS, default=()),
    Field(name="roles", kind=Kind.CHOICES, default=("hypervisor",), choices=ROLES),
    Field(name="os", kind=Kind.TEXT, default="debian-12"),
    Field(name="power", kind=Kind.SWITCH, default=True),
)
VM: Final = (
    Field(name="id", kind=Kind.ID),
    Field(name="host", kind=Kind.HOST),
    Field(name="vcpus", kind=Kind.INTEGER, default=1, low=1, high=_LARGE),
    Field(name="memory_mib", kind=Kind.INTEGER, default=1_024, low=1, high=_LARGE),
    Field(name="state", kind=Kind.CHOICE, default="running", choices=("running", "paused", "shutoff")),
    Field(name="ha", kind=Kind.BOOLEAN, default=True),
    Field(name="priority", kind=Kind.INTEGER, default=0, low=-1_000_000, high=1_000_000),
    Field(name="aggregates", kind=Kind.TEXTS, default=()),
    Field(name="root_disk", kind=Kind.CHOICE, default="volume", choices=("volume", "shared", "local")),
    Field(name="image", kind=Kind.TEXT, default=OPTIONAL),
    Field(name="volume_host", kind=Kind.HOST, default=OPTIONAL),
    Field(name="vtpm", kind=Kind.BOOLEAN, default=False),
    Field(name="gpu", kind=Kind.BOOLEAN, default=False),
    Field(name="resize_unconfirmed", kind=Kind.BOOLEAN, default=False),
)
GROUP: Final = (
    Field(name="id", kind=Kind.ID),
    Field(name="policy", kind=Kind.CHOICE, choices=("affinity", "anti-affinity")),
    Field(name="mode", kind=Kind.CHOICE, default="soft", choices=("hard", "soft")),
    Field(name="vms", kind=Kind.VMS),
)
STEP: Final = (Field(name="at", kind=Kind.NUMBER, low=0), Field(name="do", kind=Kind.CHOICE, choices=tuple(ACTS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """A host. `power`: it is on at the start."""

    id: str
    vcpus: int
    memory_mib: int
    rack: str
    aggregates: tuple[str, ...]
    roles: tuple[str, ...]
    os: str
    power: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSpec:
    """A VM, and where it is at the start.

    Attributes:
        image: That it was made from, and that a local root disk is made anew from; empty: none.
        volume_host: Who serves the volume that it boots from; empty: nobody that is known.
    """

    id: str
    host: str
    vcpus: int
    memory_mib: int
    state: str
    ha: bool
    priority: int
    aggregates: tuple[str, ...]
    root_disk: str
    vtpm: bool
    gpu: bool
    resize_unconfirmed: bool
    image: str = ""
    volume_host: str = ""

    @property
    def uuid(self) -> str:
        """Its vm_id in the contract, which wants UUIDs."""
        return vm_uuid(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """An affinity rule over VMs."""

    id: str
    policy: str
    mode: str
    vms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """The cluster. `config`: its complete settings, timers included."""

    id: str
    ha_enabled: bool
    fencing: str
    vtpm_state_shared: bool
    config: ClusterConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One entry of the timeline. `index`: its place in the file."""

    at: float
    do: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario; the timeline is in the order of time, and of the file within an instant."""

    name: str
    seed: int
    until: float
    managers: int
    start_s: float
    migrate_s: float
    cluster: ClusterSpec
    hosts: tuple[HostSpec, ...]
    vms: tuple[VmSpec, ...]
    groups: tuple[GroupSpec, ...]
    timeline: tuple[Act, ...]

    def host(self, host_id: str) -> HostSpec:
        """The host with an id; KeyError without one."""
        return next((host for host in self.hosts if host.id == host_id), None) or _missing(host_id)

    def vm(self, vm_id: str) -> VmSpec:
        """The VM with an id; KeyError without one."""
        return next((vm for vm in self.vms if vm.id == vm_id), None) or _missing(vm_id)


def _missing(name: str) -> Any:
    raise KeyError(name)


def vm_uuid(vm_id: str) -> str:
    """The UUID that stands for a scenario's VM in the contract."""
    return str(uuid.uuid5(_VM_IDS, vm_id))


def load(path: Path) -> Scenario:
    """The scenario in a file.

    Raises:
        InvalidField: It cannot be read, is no JSON, or names what is not there; everything wrong at once.
    """
    return parse(read_json(path))


def read_json(path: Path) -> Any:
    """A JSON file's content; repeated keys, NaN and Infinity are refused.

    Raises:
        InvalidField: It cannot be read or is no JSON; with line and column.
    """
    raw = read_bounded(path, MAX_FILE_BYTES)
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise InvalidField([FieldViolation(str(path), f"is not UTF-8 at byte {error.start}")]) from None
    except json.JSONDecodeError as error:
        where = f"{path}: line {error.lineno}, column {error.colno}"
        raise InvalidField([FieldViolation(where, f"is no JSON: {error.msg}")]) from None
    except RecursionError:
        raise InvalidField([FieldViolation(str(path), "is nested too deeply")]) from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise InvalidField([FieldViolation(key, "is given twice in one object")])
        content[key] = value
    return content


def _constant(name: str) -> Any:
    raise InvalidField([FieldViolation(name, "is no number of JSON")])


def parse(raw: object) -> Scenario:
    """A scenario from a file's content.

    Raises:
        InvalidField: Everything that is wrong, each with its place, as `timeline[3].host`.
    """
    reader = Reader()
    top = reader.read(raw, TOP, "")
    reader.known = Known(managers=top.get("managers", 1))
    hosts = _items(reader, top, "hosts", HOST)
    if top.get("hosts") is not None and not top["hosts"]:
        reader.refuse("hosts", "must name at least one host")
    reader.known.hosts = _ids(reader, hosts, "hosts")
    vms = _items(reader, top, "vms", VM)
    reader.known.vms = _ids(reader, vms, "vms")
    groups = _items(reader, top, "groups", GROUP)
    _ids(reader, groups, "groups")
    _check_start(reader, hosts, vms)
    config, cluster = _cluster(reader, top)
    acts = _timeline(reader, top.get("timeline", ()), top.get("until", math.inf))
    if reader.wrong:
        raise InvalidField(reader.wrong)
    return Scenario(
        **{name: top[name] for name in ("name", "seed", "until", "managers", "start_s", "migrate_s")},
        cluster=ClusterSpec(
            config=config, **{name: cluster[name] for name in ("id", "ha_enabled", "fencing", "vtpm_state_shared")}
        ),
        hosts=tuple(HostSpec(**host) for host in hosts),
        vms=tuple(VmSpec(**({"image": IMAGE if vm["root_disk"] == "local" else ""} | vm)) for vm in vms),
        groups=tuple(GroupSpec(**group) for group in groups),
        timeline=acts,
    )


def _items(reader: Reader, top: Mapping[str, Any], section: str, fields: Sequence[Field]) -> list[dict[str, Any]]:
    return [reader.read(raw, fields, f"{section}[{i}]") for i, raw in enumerate(top.get(section, ()))]


def _ids(reader: Reader, items: Sequence[Mapping[str, Any]], section: str) -> list[str]:
    found: dict[str, int] = {}
    for i, item in enumerate(items):
        name = item.get("id")
        if name is None:
            continue
        if name in found:
            reader.refuse(f"{section}[{i}].id", f"{shown(name)} is {section}[{found[name]}] already")
        found.setdefault(name, i)
    return list(found)


def _check_start(reader: Reader, hosts: Sequence[Mapping[str, Any]], vms: Sequence[Mapping[str, Any]]) -> None:
    off = {host.get("id") for host in hosts if host.get("power") is False}
    for i, vm in enumerate(vms):
        if vm.get("host") in off and vm.get("state") != "shutoff":
            reader.refuse(f"vms[{i}].state", f"must be shutoff: its host {shown(vm['host'])} has its power off")
        _check_disk(reader, vm, f"vms[{i}]")
    names = endpoint_like(host.get("id") for host in hosts)
    for i, host in enumerate(hosts):
        if host.get("id") in names:
            reader.refuse(f"hosts[{i}].id", f"{shown(host['id'])} is a part of the management plane")


def _check_disk(reader: Reader, vm: Mapping[str, Any], place: str) -> None:
    if vm.get("image") and WORD.match(vm["image"]) is None:
        reader.refuse(f"{place}.image", f"must be 1 to 128 of letters, digits and -_.:/, or empty, is {shown(vm['image'])}")
    if "volume_host" in vm and vm.get("root_disk", "volume") != "volume":
        reader.refuse(f"{place}.volume_host", f"only a volume is served by a host, the root disk is {vm['root_disk']}")


def endpoint_like(ids: Any) -> set[str]:
    """Those of the ids that mean a part of the management plane in `partition` and `link`."""
    return {name for name in ids if name in {"management", "evac", "store"}}


def _cluster(reader: Reader, top: Mapping[str, Any]) -> tuple[ClusterConfig, dict[str, Any]]:
    cluster = reader.read(top.get("cluster", {}), CLUSTER, "cluster")
    timers = {}
    for name, value in top.get("timers", {}).items():
        if name not in TIMER_NAMES:
            reader.refuse(f"timers.{name}", f"unknown timer; there {listed(TIMER_NAMES)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            reader.refuse(f"timers.{name}", f"must be a number, is {shown(value)}")
        else:
            timers[name] = value
    wishes = Wishes(
        profile=Profile(top.get("profile", "standard").upper()),
        timers=timers,
        proof=ProofPolicy(cluster.get("proof", "ladder").upper()),
        self_fencing=SelfFencing(cluster.get("self_fencing", "destroy").upper()),
        image_directory=IMAGES,
        **{
            name: cluster.get(name, 0)
            for name in (
                "max_down_fraction", "reserve_fraction", "cpu_overcommit", "parallel", "parallel_per_target", "watchers"
            )
        },
    )  # fmt: skip
    try:
        return merge(wishes, "cluster"), cluster
    except InvalidField as error:
        reader.wrong += [FieldViolation(w.field.replace("cluster.timers.", "timers."), w.description) for w in error.violations]
        return ClusterConfig(), cluster


def _timeline(reader: Reader, steps: Sequence[object], until: float) -> tuple[Act, ...]:
    acts = []
    for i, raw in enumerate(steps):
        place = f"timeline[{i}]"
        if not isinstance(raw, Mapping) or not isinstance(raw.get("do"), str) or raw["do"] not in ACTS:
            reader.read(raw, STEP, place, also=set(raw) - {"at", "do"} if isinstance(raw, Mapping) else ())
            continue
        values = reader.read(raw, (*STEP, *ACTS[raw["do"]]), place)
        at, do = values.pop("at", 0.0), values.pop("do", "")
        if at > until:
            reader.refuse(f"{place}.at", f"must not be after until ({until:g}), is {at:g}")
        _check_act(reader, do, values, place)
        acts.append(Act(at=at, do=do, arguments=values, index=i))
    return tuple(sorted(acts, key=lambda act: act.at))


def _check_act(reader: Reader, do: str, values: Mapping[str, Any], place: str) -> None:
    if do == "liar" and values.get("says") in {"up", "down"} and "of" not in values:
        reader.refuse(f"{place}.of", "is required unless it says truth")
    if do == "hot_add" and not {"vcpus", "memory_mib"} & set(values):
        reader.refuse(f"{place}.vcpus", "is required unless memory_mib is given")
    if do == "link" and values.get("from") is not None and values.get("from") == values.get("to"):
        reader.refuse(f"{place}.to", "must be another end than from")
