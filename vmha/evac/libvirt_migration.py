"""What a drain asks of its host's libvirt, as blocking functions of a connection. They raise libvirtError."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import libvirt

from vmha.evac.hypervisor import Busy, Refused, TargetNotReached
from vmha.libvirt_domains import find_domain

FLAGS: Final = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
)
"""Peer to peer: the hosts end it among themselves when the evacuator dies. Never post-copy: a guest whose pages lie on two hosts
is lost with either."""
MOVES: Final = frozenset({libvirt.VIR_DOMAIN_JOB_UNBOUNDED, libvirt.VIR_DOMAIN_JOB_BOUNDED})
BUSY: Final = ("has active job", "cannot acquire state change lock", "is being migrated", "another migration job")
"""libvirt has one code for all that it calls invalid or late; its words tell whose fault it is."""
NO_CONNECTION: Final = "unable to connect to server at"
"""libvirt's word for a target's libvirtd that it does not reach, before anything else."""


def migrate(connection: Any, vm_id: str, target_uri: str, *, unsafe: bool) -> None:
    """See `RemoteHypervisor.migrate`."""
    domain = find_domain(connection, vm_id)
    if domain is None:
        raise Refused("there is no such domain")
    flags = FLAGS | (libvirt.VIR_MIGRATE_UNSAFE if unsafe else 0)
    try:
        domain.migrateToURI3(target_uri, parameters(target_uri), flags)
    except libvirt.libvirtError as error:
        message = (error.get_error_message() or str(error))[:500]
        if any(words in message for words in BUSY):
            raise Busy(message) from error
        if not connection.isAlive():
            raise
        raise (TargetNotReached if NO_CONNECTION in message else Refused)(message) from error


def parameters(target_uri: str) -> dict[str, str]:
    """The way of the memory: by the address that the target's URI names, for its own idea of its name may lead nowhere."""
    host = urlsplit(target_uri).hostname
    if not host:
        return {}
    return {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://[{host}]" if ":" in host else f"tcp://{host}"}


def is_migrating(connection: Any, vm_id: str) -> bool:
    """See `RemoteHypervisor.is_migrating`."""
    domain = find_domain(connection, vm_id)
    if domain is None:
        return False
    try:
        return domain.jobInfo()[0] in MOVES
    except libvirt.libvirtError as error:
        # A driver without jobs, and a domain that has just stopped.
        if error.get_error_code() in {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN}:
            return False
        raise


def abort(connection: Any, vm_id: str) -> None:
    """See `RemoteHypervisor.abort_migration`."""
    domain = find_domain(connection, vm_id)
    if domain is not None and is_migrating(connection, vm_id):
        unless(domain.abortJob, libvirt.VIR_ERR_OPERATION_INVALID)


def is_incoming(domain: Any) -> bool:
    """Whether its memory is still coming in. It is paused at its source, too, for the switch-over: there libvirt has figures."""
    state, reason = domain.state()
    if (state, reason) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION):
        return False
    try:
        domain.jobStats()
    except libvirt.libvirtError as error:
        # "migration statistics are available only on the source host"
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return True
        raise
    return False


def shut_down(connection: Any, vm_id: str) -> None:
    """See `RemoteHypervisor.shut_down`."""
    domain = find_domain(connection, vm_id)
    if domain is not None and domain.isActive():
        unless(domain.shutdown, libvirt.VIR_ERR_OPERATION_INVALID)


def stop(connection: Any, vm_id: str) -> None:
    """See `RemoteHypervisor.stop`."""
    domain = find_domain(connection, vm_id)
    if domain is not None and domain.isActive():
        unless(domain.destroy, libvirt.VIR_ERR_OPERATION_INVALID)


def unless(act: Any, done_code: int) -> None:
    """Does it, unless libvirt says that it is done already."""
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in {done_code, libvirt.VIR_ERR_NO_DOMAIN}:
            raise
