"""What libvirt's numbers mean, for agent and evacuator alike."""

from __future__ import annotations

from typing import Any, Final

import libvirt

from vmha.model import VmState

_STATES: Final = {
    libvirt.VIR_DOMAIN_NOSTATE: VmState.RUNNING,
    libvirt.VIR_DOMAIN_RUNNING: VmState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: VmState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: VmState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: VmState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: VmState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: VmState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: VmState.CRASHED,
}

_FORGET: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
)


def vm_state(number: int) -> VmState:
    """The state that a virDomainState stands for. One that is not known may execute, and so counts as RUNNING."""
    return _STATES.get(number, VmState.RUNNING)


def find_domain(connection: Any, vm_id: str) -> Any:
    """A domain by its UUID; None where libvirt says that there is none. Raises libvirtError when it says anything else."""
    try:
        return connection.lookupByUUIDString(vm_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def undefine(domain: Any) -> None:
    """Forgets a persistent domain, with its managed save; NVRAM and TPM state stay: the VM's present host may use them.

    Raises:
        libvirt.libvirtError: libvirt could not do it.
    """
    for flags in (_FORGET | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM, _FORGET):
        try:
            domain.undefineFlags(flags)
            return
        except libvirt.libvirtError as error:
            # A libvirt or a driver that does not know a flag has nothing of what the flag is for.
            if error.get_error_code() not in {libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT}:
                raise
    domain.undefine()
