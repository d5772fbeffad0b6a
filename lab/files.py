"""The configuration files of a stack, as an operator would write them: one for each service and host, and the cluster's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab import Lab
from lab.config import TPM_STATE_DIRECTORY
from lab.paper import PaperLab
from lab.watchdog import pipe_of

if TYPE_CHECKING:
    from lab.stack import Stack

CLUSTER = "lab"
WATCHDOG_TIMEOUT_S, WATCHDOG_RESET_S = 2, 0.5
"""With 0.5 s for a busy box they fit into T_kill of the fast profile, 4 s."""


def write(stack: Stack) -> None:
    """Write them all."""
    common = {"log_level": stack.log_level, "log_format": "json"}
    for name, target in zip(stack.manager_names, stack.manager_targets, strict=True):
        manager = {"manager_id": name, "listen": target, "evac_target": stack.evac_target, "discovery_interval_s": 0.5}
        _write(stack, name, manager | {"redis_url": stack.redis_url} | common)
    # libvirt takes the lab's shared storage for a disk of its own.
    evac = {"listen": stack.evac_target, "runner_ttl_s": 3, "pending_retry_s": 1, "migrate_unsafe": True}
    _write(stack, "evac", evac | {"redis_url": stack.redis_url} | common)
    for host_id in stack.host_ids:
        _write(stack, f"agent-{host_id}", _agent(stack, host_id) | common)
    write_cluster(stack)


def write_cluster(stack: Stack) -> None:
    """Write the cluster file, for `vmha apply`."""
    cluster: dict[str, object] = {
        "id": CLUSTER,
        "profile": stack.profile,
        "proof": stack.proof,
        "timers": dict(stack.timers),
        # Each host of a lab has this box's few processors, and its guests hardly use any.
        "cpu_overcommit": 32,
        "ha_enabled": True,
    }
    if isinstance(stack.lab, Lab):
        cluster["image_directory"] = str(stack.lab.images)
    hosts = [_host(stack, host_id) for host_id in stack.host_ids]
    _write(stack, "cluster", {"cluster": cluster, "hosts": hosts, "groups": list(stack.groups)})


def _host(stack: Stack, host_id: str) -> dict[str, object]:
    host = stack.lab.host(host_id)
    entry: dict[str, object] = {
        "id": host_id,
        "probe_target": f"{host.peer_address}:9177",
        "agent_target": f"{host.peer_address}:7401",
        "libvirt_uri": host.libvirt_uri,
    }
    if host_id in stack.aggregates:
        entry["aggregates"] = list(stack.aggregates[host_id])
    if stack.fence:
        entry["fence"] = stack.lab.fence.config(host_id)
    return entry


def _agent(stack: Stack, host_id: str) -> dict[str, object]:
    settings: dict[str, object] = {
        "host_id": host_id,
        "managers": stack.manager_targets,
        "listen": f"{stack.lab.host(host_id).peer_address}:7401",
        "boot_id_file": stack.lab.BOOT_ID_FILE.format(host=host_id),
        "marker_dir": str(stack.lab.host(host_id).directory / "vmha"),
    }
    if stack.watchdog:
        settings |= {
            "watchdog_device": str(pipe_of(stack.lab.host(host_id).directory)),
            "watchdog_timeout_s": WATCHDOG_TIMEOUT_S,
            "watchdog_reset_s": WATCHDOG_RESET_S,
        }
    if isinstance(stack.lab, Lab):
        settings["shared_directories"] = [str(stack.lab.shared), TPM_STATE_DIRECTORY]
    if isinstance(stack.lab, PaperLab):
        settings |= {"state_dir": stack.lab.STATE_DIR.format(host=host_id), "libvirt_uri": stack.lab.host(host_id).libvirt_uri}
    return settings


def _write(stack: Stack, name: str, content: object) -> None:
    # JSON is YAML.
    (stack.directory / f"{name}.yaml").write_text(json.dumps(content, indent=1))
