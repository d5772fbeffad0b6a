"""What a lab host has on its disk, kept over power cycles: configuration of libvirtd and QEMU, its neighbours, its identity."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from lab.planes import MAX_HOSTS, Planes
from lab.system import SEARCH

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 1
listen_addr = "0.0.0.0"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
host_uuid = "{host_uuid}"
log_level = 3
"""

# remember_owner and dynamic_ownership: else extended attributes of a dead host stay on the images.
# stdio_handler: no virtlogd here.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
dynamic_ownership = 0
"""

OWN_DIRECTORIES = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt"}
TPM_STATES, TPM_STATE_DIRECTORY = "tpm", "/var/lib/libvirt/swtpm"
"""The state of emulated TPMs lies on the shared storage, where all hosts find it."""

BASE = Path("/run/vmha-lab")
"""Labs without a directory of their own live here, and what they share."""


def capability_cache() -> Path:
    """Where the QEMU capabilities that libvirt probed once (0.5 s) are kept for every later host of these programs."""
    programs = [Path(found).stat() for name in ("libvirtd", "qemu-system-x86_64") if (found := shutil.which(name, path=SEARCH))]
    return BASE / "capabilities" / "-".join(f"{program.st_mtime_ns:x}" for program in programs)


def furnish(directory: Path, index: int, planes: Planes) -> None:
    """Write a host's disk, as far as it is not there."""
    for own in OWN_DIRECTORIES:
        (directory / own).mkdir(exist_ok=True)
    identity = directory / "uuid"
    if not identity.exists():
        identity.write_text(str(uuid.uuid4()))
    (directory / "etc" / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(host_uuid=identity.read_text()))
    (directory / "etc" / "qemu.conf").write_text(QEMU_CONF)
    # Migration needs every host's name; the management plane is where they meet.
    neighbours = [f"{planes.address('management', i)} host{i}" for i in range(1, MAX_HOSTS + 1)]
    # No DNS: nobody would answer, and a failed look-up would take ten seconds.
    (directory / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (directory / "hosts").write_text("\n".join(["127.0.0.1 localhost", *neighbours, ""]))
    probed, cache = capability_cache(), directory / "cache" / "qemu"
    if probed.is_dir() and not cache.exists():
        shutil.copytree(probed, cache)


def specification(
    lab_directory: Path, directory: Path, index: int, planes: Planes, boot_id: str, boot_id_file: str
) -> dict[str, object]:
    """What lab/init.py is told."""
    commands = {
        "libvirtd": ["libvirtd", "--listen", "-f", "/etc/libvirt/libvirtd.conf", "-p", "/run/libvirtd.pid"],
        "exporter": ["prometheus-libvirt-exporter", "--web.listen-address=0.0.0.0:9177", "--libvirt.uri=qemu:///system"],
    }
    if (agent := directory / "agent.json").exists():
        commands["agent"] = json.loads(agent.read_text())
    binds = [[str(directory / own), place] for own, place in OWN_DIRECTORIES.items()]
    binds += [[str(directory / name), f"/etc/{name}"] for name in ("hosts", "nsswitch.conf")]
    binds.append([str(lab_directory / "shared" / TPM_STATES), TPM_STATE_DIRECTORY])
    return {
        "name": f"host{index}",
        "lab": str(lab_directory),
        "binds": binds,
        "boot_id": boot_id,
        "boot_id_file": boot_id_file,
        "control": str(directory / "control"),
        "network": planes.inside(index),
        "daemons": {name: {"command": command, "log": str(directory / f"{name}.out")} for name, command in commands.items()},
    }
