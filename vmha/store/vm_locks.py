"""The lock on a VM that is migrated or stopped: who may act on it, and where it is going (S27, R22)."""

from __future__ import annotations

import math

from vmha.store.records import VmRecord
from vmha.store.scripts import Scripts


class VmLocks:
    """The lock of one VM at a time. All methods may raise Unavailable("STORE_UNAVAILABLE").

    The holder is a drain, through the runner that holds its journal: a runner that was paused for long gets and keeps nothing
    (RUNNER_SUPERSEDED). The lock ends by itself; where the VM is going does not, for the migration may go on without its runner.
    """

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def take(
        self,
        cluster_id: str,
        drain_id: str,
        runner: str,
        vm: VmRecord,
        ttl_s: float,
        target: str = "",
        target_incarnation: int = 0,
    ) -> None:
        """Takes the VM for ttl_s, as long as its owner and epoch are those of `vm`. A repeat prolongs.

        Args:
            target: Where it is to be migrated; empty when it is to be stopped. Durable before libvirt is asked.

        Raises:
            NotFound: VM_UNKNOWN, EVACUATION_UNKNOWN.
            Unavailable: SAFE_MODE.
            Aborted: VM_LOCKED; VM_MIGRATING when another host has it, or may get it; STALE_VM_EPOCH when it is not its host's any
                more; STALE_INCARNATION when the registration of its host or of the target is not in force; CONFIG_UNCONFIRMED;
                RUNNER_SUPERSEDED; EVACUATION_ENDED.
        """
        await self._scripts.run(
            "vm_lock",
            cluster_id,
            drain_id,
            runner,
            vm.vm_id,
            _ms(ttl_s),
            vm.owner_host_id,
            vm.epoch,
            target,
            target_incarnation,
        )

    async def renew(self, cluster_id: str, drain_id: str, runner: str, vm_id: str, ttl_s: float) -> None:
        """Holds it for ttl_s from now.

        Raises:
            Aborted: VM_LOCKED when it is not this drain's any more; RUNNER_SUPERSEDED; EVACUATION_ENDED.
        """
        await self._scripts.run("vm_relock", cluster_id, drain_id, runner, vm_id, _ms(ttl_s))

    async def release(self, cluster_id: str, drain_id: str, runner: str, vm_id: str, *, looked: bool) -> None:
        """Lets it go. Nothing happens to one that is another's, or has arrived.

        Args:
            looked: Nothing was sent, or both hosts were looked at and nothing of the VM is on its way; else it stays known where
                it is going.

        Raises:
            Aborted: RUNNER_SUPERSEDED; EVACUATION_ENDED.
        """
        await self._scripts.run("vm_unlock", cluster_id, drain_id, runner, vm_id, int(looked))


def _ms(span_s: float) -> int:
    return max(1, math.ceil(span_s * 1000))
