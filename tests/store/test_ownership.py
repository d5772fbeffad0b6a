"""A VM never has two owners: random interleavings of all that may change its ownership, with repeats, against a model.

The model is a few lines that say who may win. The real scripts run on a real Redis; after each act the record is compared.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.store.ways import RUNNER, C
from tests.support.failures import cluster_of, confirm_down, own, running
from tests.support.redis import RedisHome
from vmha.errors import Aborted, VmhaError
from vmha.model import EvacuationState, ProofKind, VmState, VmStep
from vmha.store import Store
from vmha.store.records import VmEntry, VmRecord

VM = "vm-1"
HOSTS = ["h1", "h2", "h3"]


@dataclass
class Claim:
    """A start that an evacuation has in hand."""

    evacuation_id: str
    entry: VmEntry
    source: str
    incarnation: int
    admitted: bool = False


@dataclass
class World:
    """What the test knows: the truth of what runs where is derived from acts that the scripts allowed."""

    store: Store
    rng: random.Random
    records: list[VmRecord] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    boots: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOSTS, 1))
    done: list[str] = field(default_factory=list)

    async def record(self) -> VmRecord:
        return await self.store.vms.get(C, VM)

    async def crash(self) -> None:
        """A host is confirmed down; its evacuation is proven and plans what the host owns now."""
        host_id = self.rng.choice(HOSTS)
        host = await self.store.hosts.get(C, host_id)
        if host.incarnation_revoked or sum([(await self.store.hosts.get(C, h)).incarnation_revoked for h in HOSTS]) > 1:
            return
        incident = await confirm_down(self.store, C, host_id)
        try:
            await self.store.evacuations.start(C, incident.incident_id, host_id, incident.fence_epoch, incident.incarnation, 0)
        except Aborted as error:
            assert error.reason == "HOST_BUSY"
            return
        assert await self.store.evacuations.acquire(C, incident.incident_id, RUNNER, 60)
        await self.store.evacuations.advance(C, incident.incident_id, RUNNER, EvacuationState.PLANNING, proof=ProofKind.FENCE)
        for vm in await self.store.vms.list(C, host_id):
            target = self.rng.choice([h for h in HOSTS if h != host_id])
            entry = VmEntry(
                vm_id=VM,
                vm_name=vm.name,
                step=VmStep.PLANNED,
                target_host_id=target,
                target_incarnation=(await self.store.hosts.get(C, target)).incarnation,
                source_epoch=vm.epoch,
            )
            await self.store.evacuations.plan(C, incident.incident_id, RUNNER, [entry])
            self.claims.append(Claim(incident.incident_id, entry, host_id, incident.incarnation))

    async def claim(self) -> None:
        """An evacuator claims by a plan that may be old by now, or retargets a claim that was refused."""
        if not self.claims:
            return
        claim = self.rng.choice(self.claims)
        before = await self.record()
        if claim.entry.step is VmStep.PLANNED:
            legal = before.owner_host_id == claim.source and before.owner_incarnation <= claim.incarnation
            legal = legal and before.epoch == claim.entry.source_epoch
            make = partial(
                self.store.evacuations.claim, C, claim.evacuation_id, RUNNER, claim.entry, claim.source, claim.incarnation
            )
        else:
            target = self.rng.choice([h for h in HOSTS if h != claim.entry.target_host_id])
            incarnation = (await self.store.hosts.get(C, target)).incarnation
            legal = before.owner_host_id == claim.entry.target_host_id and before.epoch == claim.entry.epoch
            legal = legal and before.claim_id == claim.evacuation_id and before.state is not VmState.RUNNING
            make = partial(self.store.evacuations.reclaim, C, claim.evacuation_id, RUNNER, claim.entry, target, incarnation)
        try:
            entry = await make()
        except VmhaError as error:
            assert error.code == "ABORTED", error
            assert await self.record() == before, "a refusal changed something"
            return
        assert legal, f"a claim won that must not: {claim} on {before}"
        after = await self.record()
        assert (after.owner_host_id, after.epoch, after.claim_id) == (entry.target_host_id, entry.epoch, claim.evacuation_id)
        assert await make() == entry
        assert await self.record() == after, "a repeat changed something"
        claim.entry = entry

    async def register(self) -> None:
        """A host that is down comes back with a new boot: re-claims what it still owns, and nothing else."""
        host_id = self.rng.choice(HOSTS)
        host = await self.store.hosts.get(C, host_id)
        if not host.incarnation_revoked and self.rng.random() < 0.7:
            return
        before = await self.record()
        self.boots[host_id] += 1
        boot_id = f"boot-{host_id}-{self.boots[host_id]}"
        if host.incident_id:
            await self.store.incidents.close(C, host_id, host.incident_id)
        await self.store.hosts.hello(C, host_id, boot_id, True)
        incarnation = await self.store.hosts.offer(C, host_id, boot_id)
        assert incarnation == await self.store.hosts.offer(C, host_id, boot_id) > host.incarnation
        assert await self.record() == before, "an offer changed something"
        owned = await self.store.hosts.complete_registration(C, host_id, incarnation, boot_id)
        assert await self.store.hosts.complete_registration(C, host_id, incarnation, boot_id) == owned
        after = await self.record()
        if before.owner_host_id == host_id:
            assert owned == [after] and (after.owner_incarnation, after.epoch) == (incarnation, before.epoch + 1)
            with pytest.raises(Aborted):
                await self.store.hosts.complete_registration(C, host_id, host.incarnation, boot_id)
        else:
            assert owned == [] and after == before

    async def migrate(self) -> None:
        """An operator's live migration to a host whose registration is in force; reported by both, in either order."""
        before = await self.record()
        target = self.rng.choice([h for h in HOSTS if h != before.owner_host_id])
        source_host = await self.store.hosts.get(C, before.owner_host_id)
        target_host = await self.store.hosts.get(C, target)
        if source_host.incarnation_revoked or target_host.incarnation_revoked or before.claim_id:
            return
        words = [
            (
                before.owner_host_id,
                source_host.incarnation,
                running(VM, state=VmState.ABSENT, reason="migrated", epoch=before.epoch),
            ),
            (target, target_host.incarnation, running(VM)),
        ]
        self.rng.shuffle(words)
        for _ in range(self.rng.choice([1, 2])):
            for host_id, incarnation, word in words:
                await self.store.vms.observe(C, host_id, incarnation, [word], full=False, planned_shutdown=False)
        after = await self.record()
        assert (after.owner_host_id, after.epoch) == (target, before.epoch + 1)

    async def report(self) -> None:
        """The owner, or a host that must not matter, says what it sees."""
        before = await self.record()
        host_id = self.rng.choice(HOSTS)
        host = await self.store.hosts.get(C, host_id)
        mine = host_id == before.owner_host_id
        word = running(VM, epoch=before.epoch) if mine else running(VM, state=VmState.SHUTOFF, reason="unknown")
        try:
            await self.store.vms.observe(C, host_id, host.incarnation, [word], full=True, planned_shutdown=False)
        except Aborted as error:
            assert error.reason == "STALE_INCARNATION" and host.incarnation_revoked
        after = await self.record()
        assert (after.owner_host_id, after.epoch, after.owner_incarnation) == (
            before.owner_host_id,
            before.epoch,
            before.owner_incarnation,
        )

    async def check(self) -> None:
        """One owner, indexed once; its epoch only grows, and by one with each change of hands."""
        record = await self.record()
        holders = [h for h in HOSTS if any(vm.vm_id == VM for vm in await self.store.vms.list(C, h))]
        assert holders == [record.owner_host_id]
        if self.records:
            last = self.records[-1]
            changed = (last.owner_host_id, last.owner_incarnation) != (record.owner_host_id, record.owner_incarnation)
            assert record.epoch >= last.epoch + (1 if changed else 0)
        self.records.append(record)


@pytest.mark.parametrize("seed", range(20))
async def test_no_interleaving_gives_a_vm_two_owners(redis_home: RedisHome, store: Store, seed: int) -> None:
    """Whatever order claims, retargets, returns, migrations and reports come in: one owner, epochs that grow, repeats without
    effect, and no claim wins after a re-claim."""
    rng = random.Random(seed)
    await cluster_of(store, C, HOSTS)
    await own(store, C, "h1", [VM])
    world = World(store, rng)
    acts = [world.crash, world.claim, world.claim, world.register, world.migrate, world.report]
    for _ in range(60):
        act = rng.choice(acts)
        world.done.append(act.__name__)
        await act()
        await world.check()


async def test_concurrent_claims_of_one_vm_have_one_winner(redis_home: RedisHome, store: Store) -> None:
    """A host's return and the evacuator's claim at the same instant: exactly one of them wins, each of a hundred times."""
    winners = set()
    for round_number in range(100):
        client = redis_home.client()
        await client.flushall()
        await client.aclose()
        incarnations = await cluster_of(store, C, HOSTS)
        await own(store, C, "h1", [VM])
        incident = await confirm_down(store, C, "h1")
        await store.evacuations.start(C, incident.incident_id, "h1", incident.fence_epoch, incident.incarnation, 0)
        await store.evacuations.acquire(C, incident.incident_id, RUNNER, 60)
        await store.evacuations.advance(C, incident.incident_id, RUNNER, EvacuationState.PLANNING, proof=ProofKind.FENCE)
        entry = VmEntry(
            vm_id=VM, vm_name=VM, step=VmStep.PLANNED, target_host_id="h2", target_incarnation=incarnations["h2"], source_epoch=1
        )
        offered = await store.hosts.offer(C, "h1", "token-2")
        claim = store.evacuations.claim(C, incident.incident_id, RUNNER, entry, "h1", incident.incarnation)
        register = store.hosts.complete_registration(C, "h1", offered, "boot-2")
        acts = [claim, register] if round_number % 2 else [register, claim]
        outcomes = dict(
            zip(
                ["claim", "register"] if round_number % 2 else ["register", "claim"],
                await asyncio.gather(*acts, return_exceptions=True),
                strict=True,
            )
        )
        record = await store.vms.get(C, VM)
        if isinstance(outcomes["claim"], Aborted):
            assert outcomes["register"] == [record] and record.owner_host_id == "h1"
        else:
            assert outcomes["register"] == [] and record.owner_host_id == "h2"
        assert record.epoch == 2
        winners.add(record.owner_host_id)

    assert winners == {"h1", "h2"}
