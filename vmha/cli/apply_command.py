"""`vmha apply -f cluster.yaml`: makes the cluster what the file says, and tells what changed. The same again changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vmha.cli import exits, output
from vmha.cli.exits import Exit
from vmha.cli.session import Connection, Options, execute, pages
from vmha.errors import InvalidField, NotFound
from vmha.rpc import convert
from vmha.v1 import cluster_pb2
from vmha.v1 import cluster_service_pb2 as cs

if TYPE_CHECKING:
    from vmha.cli.cluster_file import ClusterFile

PAGE: Final = 500
FileOption = Annotated[Path, typer.Option("-f", "--file", help="The cluster file (YAML).", show_default=False)]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one item of the file."""

    kind: str
    name: str
    action: str
    fields: tuple[str, ...] = ()


def apply(context: typer.Context, file: FileOption) -> None:
    """Create or update a cluster, its hosts and groups; switch protection as the file says, last."""
    # pydantic takes longer to import than most commands take to run.
    from vmha.cli import cluster_file  # noqa: PLC0415

    try:
        wanted = cluster_file.read(file)
    except InvalidField as error:
        output.complain(error)
        raise typer.Exit(int(exits.of(error))) from None

    async def work(connection: Connection) -> Exit | None:
        await _Run(connection, wanted).everything()
        return None

    execute(context, work)


class _Run:
    """One run; reports each change as soon as it is made, so that a failure half way leaves no doubt."""

    def __init__(self, connection: Connection, wanted: ClusterFile) -> None:
        self._connection = connection
        self._wanted = wanted
        self._clusters = connection.clusters
        self._options: Options = connection.options

    async def everything(self) -> None:
        protection = await self._cluster()
        await self._hosts()
        await self._groups()
        await self._protection(protection)

    async def _cluster(self) -> int:
        wanted, ask = self._wanted, self._connection.ask
        settings = convert.cluster_config_to_proto(wanted.config)
        try:
            answer = await ask(self._clusters.GetCluster, cs.GetClusterRequest(cluster_id=wanted.cluster_id))
        except NotFound:
            request = cs.CreateClusterRequest(cluster_id=wanted.cluster_id, config=settings)
            created = await ask(self._clusters.CreateCluster, request)
            self._tell("cluster", wanted.cluster_id, "created")
            return created.cluster.protection_state
        present = answer.cluster
        changed = _changed(convert.cluster_config_from_proto(present.config), wanted.config)
        if changed:
            update = cs.UpdateClusterRequest(cluster_id=wanted.cluster_id, config=settings, etag=present.etag)
            await ask(self._clusters.UpdateCluster, update)
        self._tell("cluster", wanted.cluster_id, "updated" if changed else "unchanged", changed)
        return present.protection_state

    async def _hosts(self) -> None:
        cluster_id, ask = self._wanted.cluster_id, self._connection.ask
        listed = await self._listed(self._clusters.ListHosts, cs.ListHostsRequest, "hosts")
        present = {host.host_id: host for host in listed}
        for host_id, config in self._wanted.hosts.items():
            settings = convert.host_config_to_proto(config)
            if host_id not in present:
                create = cs.CreateHostRequest(cluster_id=cluster_id, host_id=host_id, config=settings)
                await ask(self._clusters.CreateHost, create)
                self._tell("host", host_id, "created")
                continue
            changed = _changed(convert.host_config_from_proto(present[host_id].config), config)
            if changed:
                etag = present[host_id].etag
                update = cs.UpdateHostRequest(cluster_id=cluster_id, host_id=host_id, config=settings, etag=etag)
                await ask(self._clusters.UpdateHost, update)
            self._tell("host", host_id, "updated" if changed else "unchanged", changed)
        for host_id in sorted(set(present) - set(self._wanted.hosts)):
            self._tell("host", host_id, "not in the file, left alone")

    async def _groups(self) -> None:
        cluster_id, ask = self._wanted.cluster_id, self._connection.ask
        listed = await self._listed(self._clusters.ListGroups, cs.ListGroupsRequest, "groups")
        present = {group.group_id: group for group in listed}
        for group_id, group in self._wanted.groups.items():
            message = convert.group_to_proto(group)
            if group_id not in present:
                await ask(self._clusters.CreateGroup, cs.CreateGroupRequest(cluster_id=cluster_id, group=message))
                self._tell("group", group_id, "created")
                continue
            changed = tuple(f for f in _changed(convert.group_from_proto(present[group_id]), group) if f != "etag")
            if changed:
                message.etag = present[group_id].etag
                await ask(self._clusters.UpdateGroup, cs.UpdateGroupRequest(cluster_id=cluster_id, group=message))
            self._tell("group", group_id, "updated" if changed else "unchanged", changed)
        for group_id in sorted(set(present) - set(self._wanted.groups)):
            self._tell("group", group_id, "not in the file, left alone")

    async def _protection(self, state: int) -> None:
        wanted, cluster_id = self._wanted.ha_enabled, self._wanted.cluster_id
        enabled = state not in {cluster_pb2.PROTECTION_STATE_DISABLED, cluster_pb2.PROTECTION_STATE_UNSPECIFIED}
        if wanted is None:
            return
        if wanted is enabled:
            self._tell("protection", cluster_id, "unchanged")
        elif wanted:
            request = cs.EnableClusterRequest(cluster_id=cluster_id)
            answer = await self._connection.ask(self._clusters.EnableCluster, request)
            self._tell("protection", cluster_id, "enabled")
            for type_, count in Counter(warning.type for warning in answer.warnings).items():
                self._tell("warning", type_, f"{count} found, see vmha doctor {cluster_id}")
        else:
            await self._connection.ask(self._clusters.DisableCluster, cs.DisableClusterRequest(cluster_id=cluster_id))
            self._tell("protection", cluster_id, "disabled")

    async def _listed(self, method: Callable[..., Any], request: Callable[..., object], field: str) -> list[Any]:
        cluster_id = self._wanted.cluster_id
        return await pages(
            self._connection, method, lambda token: request(cluster_id=cluster_id, page_size=PAGE, page_token=token), field
        )

    def _tell(self, kind: str, name: str, action: str, fields: tuple[str, ...] = ()) -> None:
        if self._options.json:
            output.json_record(asdict(Change(kind, name, action, fields)))
        else:
            output.line(f"{kind} {name}: {action}" + (f" ({', '.join(fields)})" if fields else ""))


def _changed(present: Any, wanted: Any) -> tuple[str, ...]:
    before, after = asdict(present), asdict(wanted)
    return tuple(sorted(_names(before, after)))


def _names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = []
    for name in after:
        if before.get(name) == after[name]:
            continue
        if name == "timers":
            names += [f"timers.{key}" for key in after[name] if before[name].get(key) != after[name][key]]
        elif name != "timer_overrides":
            names.append(name)
    # An override that says what the profile says anyway changes nothing that works, but is kept as it was written.
    if not names and before != after:
        names.append("timers")
    return names
