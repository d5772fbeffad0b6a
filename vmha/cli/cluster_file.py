"""The cluster file of `vmha apply`: one cluster, its hosts, its groups.

Every mistake of the file is named at once, each with its path as `hosts[1].fence.agent`. docs/cli.md shows the whole format.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vmha.cluster_config import Wishes, merge
from vmha.config import read_mapping, violations
from vmha.errors import FieldViolation, InvalidField
from vmha.model import (
    ClusterConfig,
    FenceConfig,
    Group,
    GroupMode,
    GroupPolicy,
    HostConfig,
    Profile,
    ProofPolicy,
    SelfFencing,
)
from vmha.rpc import convert, validate
from vmha.v1 import cluster_service_pb2 as cs

_SECTIONS: Final = ("cluster", "hosts", "groups")
_SOME_CLUSTER: Final = "c"

M = TypeVar("M", bound=BaseModel)


def _word(value: object) -> object:
    # YAML reads a bare `off` as false.
    if value is False:
        return "OFF"
    return value.strip().upper().replace("-", "_") if isinstance(value, str) else value


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, int | float) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Cluster(_Section):
    id: str
    profile: Annotated[Profile, BeforeValidator(_word)] = Profile.STANDARD
    timers: dict[str, float] = Field(default_factory=dict)
    proof: Annotated[ProofPolicy, BeforeValidator(_word)] = ProofPolicy.LADDER
    self_fencing: Annotated[SelfFencing, BeforeValidator(_word)] = SelfFencing.DESTROY
    max_down_fraction: float = 0
    reserve_fraction: float = 0
    cpu_overcommit: float = 0
    parallel: int = 0
    parallel_per_target: int = 0
    watchers: int = 0
    image_directory: str = ""
    ha_enabled: bool | None = None


class _Fence(_Section):
    agent: str
    parameters: dict[str, Annotated[str, BeforeValidator(_text)]] = Field(default_factory=dict)
    secret_files: dict[str, str] = Field(default_factory=dict)


class _Host(_Section):
    id: str
    probe_target: str
    agent_target: str
    libvirt_uri: str
    rack: Annotated[str, BeforeValidator(_text)] = ""
    aggregates: list[str] = Field(default_factory=list)
    roles: list[str] = Field(default_factory=list)
    fence: _Fence | None = None


class _Group(_Section):
    id: str
    policy: Annotated[GroupPolicy, BeforeValidator(_word)]
    mode: Annotated[GroupMode, BeforeValidator(_word)] = GroupMode.SOFT
    vms: list[str] = Field(default_factory=list)


_STAND_INS: Final[Mapping[type[BaseModel], Mapping[str, str]]] = {
    _Cluster: {"id": "x"},
    _Host: {"id": "x", "probe_target": "x:1", "agent_target": "x:1", "libvirt_uri": "x:///"},
    _Group: {"id": "x", "policy": "AFFINITY"},
}
"""Required fields, for looking at the rest of a section that lacks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFile:
    """A cluster as an operator wants it.

    Attributes:
        ha_enabled: None leaves protection as it is.
    """

    cluster_id: str
    config: ClusterConfig
    ha_enabled: bool | None
    hosts: Mapping[str, HostConfig]
    groups: Mapping[str, Group]


def read(path: Path) -> ClusterFile:
    """The cluster file at `path`.

    Raises:
        InvalidField: Names every mistake in it.
    """
    return parse(read_mapping(path))


def parse(content: Mapping[str, Any]) -> ClusterFile:
    """A cluster file's content.

    Raises:
        InvalidField: Names every mistake in it.
    """
    wrong = [FieldViolation(key, f"unknown key; there are {', '.join(_SECTIONS)}") for key in content if key not in _SECTIONS]
    section = _checked(_Cluster, content.get("cluster"), "cluster", wrong, _check_cluster)
    raw_hosts, raw_groups = _items(content, "hosts", wrong), _items(content, "groups", wrong)
    hosts = [_checked(_Host, raw, f"hosts[{i}]", wrong, _check_host) for i, raw in enumerate(raw_hosts)]
    groups = [_checked(_Group, raw, f"groups[{i}]", wrong, _check_group) for i, raw in enumerate(raw_groups)]
    wrong += _repeated("hosts", raw_hosts)
    wrong += _repeated("groups", raw_groups)
    if wrong or section is None:
        raise InvalidField(wrong)
    return ClusterFile(
        cluster_id=section.id,
        config=_config(section),
        ha_enabled=section.ha_enabled,
        hosts={host.id: _host_config(host) for host in hosts if host},
        groups={group.id: _group(group) for group in groups if group},
    )


def _checked(
    model: type[M], raw: object, path: str, wrong: list[FieldViolation], check: Callable[[M], Iterable[FieldViolation]]
) -> M | None:
    if raw is None:
        wrong.append(FieldViolation(path, "is required"))
        return None
    try:
        section = model.model_validate(raw)
    except ValidationError as error:
        wrong += violations(error, path)
        rest = _without_mistakes(model, raw, error)
        if rest is not None:
            wrong += _under(path, check(rest))
        return None
    wrong += _under(path, check(section))
    return section


def _without_mistakes(model: type[M], raw: object, error: ValidationError) -> M | None:
    """The section with every mistake of form cut out, so that one of them does not hide a mistake of content beside it."""
    if not isinstance(raw, dict):
        return None
    rest = copy.deepcopy(raw)
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        where = item["loc"][:1] if item["type"] == "missing" else item["loc"]
        _cut(rest, where)
    try:
        return model.model_validate({**_STAND_INS[model], **rest})
    except ValidationError:
        return None


def _cut(content: Any, where: tuple[int | str, ...]) -> None:
    for step in where[:-1]:
        if not isinstance(content, dict) or step not in content:
            return
        content = content[step]
    if isinstance(content, dict):
        content.pop(where[-1], None)


def _under(path: str, found: Iterable[FieldViolation]) -> list[FieldViolation]:
    return [FieldViolation(f"{path}.{v.field}", v.description) for v in found]


def _items(content: Mapping[str, Any], key: str, wrong: list[FieldViolation]) -> list[object]:
    raw = content.get(key) or []
    if not isinstance(raw, list):
        wrong.append(FieldViolation(key, "must be a list"))
        return []
    return raw


def _repeated(section: str, items: Iterable[object]) -> list[FieldViolation]:
    first: dict[str, int] = {}
    wrong = []
    for number, item in enumerate(items):
        name = item.get("id") if isinstance(item, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            wrong.append(FieldViolation(f"{section}[{number}].id", f"{name} is {section}[{first[name]}] already"))
        first.setdefault(name, number)
    return wrong


def _config(section: _Cluster) -> ClusterConfig:
    return merge(Wishes(**section.model_dump(exclude={"id", "ha_enabled"})), "cluster")


def _host_config(host: _Host) -> HostConfig:
    fence = (
        None
        if host.fence is None
        else FenceConfig(agent=host.fence.agent, parameters=host.fence.parameters, secret_files=host.fence.secret_files)
    )
    return HostConfig(
        probe_target=host.probe_target,
        agent_target=host.agent_target,
        libvirt_uri=host.libvirt_uri,
        rack=host.rack,
        aggregates=tuple(sorted(set(host.aggregates))),
        roles=tuple(sorted(set(host.roles))) or ("hypervisor",),
        fence=fence,
    )


def _group(group: _Group) -> Group:
    return Group(group_id=group.id, policy=group.policy, mode=group.mode, vm_ids=tuple(sorted(set(group.vms))))


def _check_cluster(section: _Cluster) -> Iterable[FieldViolation]:
    """The rules of the contract's own validation, so that there is one set of them."""
    found = _found(lambda: validate.names_cluster(cs.GetClusterRequest(cluster_id=section.id)), cluster_id="id")
    found += _found(lambda: _config(section))
    return [FieldViolation(v.field.removeprefix("cluster."), v.description) for v in found]


def _check_host(host: _Host) -> Iterable[FieldViolation]:
    config = convert.host_config_to_proto(_host_config(host))
    request = cs.CreateHostRequest(cluster_id=_SOME_CLUSTER, host_id=host.id, config=config)
    found = _found(lambda: validate.host_settings(request), host_id="id")
    return [FieldViolation(v.field.removeprefix("config."), v.description) for v in found]


def _check_group(group: _Group) -> Iterable[FieldViolation]:
    request = cs.CreateGroupRequest(cluster_id=_SOME_CLUSTER, group=convert.group_to_proto(_group(group)))
    found = _found(lambda: validate.group_settings(request))
    names = {"group.group_id": "id", "group.policy": "policy", "group.mode": "mode"}
    return [FieldViolation(names.get(v.field, v.field.replace("group.vm_ids", "vms")), v.description) for v in found]


def _found(check: Callable[[], object], **renamed: str) -> list[FieldViolation]:
    try:
        check()
    except InvalidField as error:
        return [FieldViolation(renamed.get(v.field, v.field), v.description) for v in error.violations]
    return []
