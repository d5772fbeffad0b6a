"""Tests of vmha.agent.prober: probes go straight to the peers' exporters, each for itself (S3)."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.agent.conftest import running
from tests.support.waiting import until
from vmha.agent.metrics import Metrics
from vmha.agent.probe_plan import Assigned, PeerTarget
from vmha.agent.prober import Prober
from vmha.clock import SystemClock
from vmha.model import PeerVerdict
from vmha.probe import HttpExporterProbe, ProbeResult


class LateClock:
    """A clock that jumps: the process stood still meanwhile."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return SystemClock().now() + self.ahead_s

    def wall(self) -> float:
        return SystemClock().wall()


class ScriptedProbe:
    """Answers by target; a target that hangs answers never."""

    def __init__(self, **verdicts: PeerVerdict) -> None:
        self.verdicts = verdicts
        self.asked: list[str] = []
        self.hang: set[str] = set()

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        self.asked.append(target)
        if target in self.hang:
            await asyncio.Event().wait()
        if target == "broken":
            raise RuntimeError("a fault of our own")
        return ProbeResult(verdict=self.verdicts[target], round_trip_s=0.001)


def assigned(*targets: str, version: str = "v1") -> Assigned:
    peers = tuple(PeerTarget(host_id=target, probe_target=target) for target in targets)
    return Assigned(version=version, peers=peers, probe_interval_s=0.05, probe_timeout_s=0.05, probe_misses=3)


def make(probe: ScriptedProbe | HttpExporterProbe) -> Prober:
    clock = SystemClock()
    return Prober(probe, clock, Metrics(clock))


def verdicts(prober: Prober) -> dict[str, PeerVerdict]:
    return {seen.host_id: seen.verdict for seen in prober.observations()}


async def test_one_peer_that_never_answers_delays_no_other() -> None:
    """While the probe of one peer hangs, the others are probed on and on."""
    probe = ScriptedProbe(h2=PeerVerdict.OK, h3=PeerVerdict.TIMEOUT)
    probe.hang.add("h4")
    prober = make(probe)
    changes: list[dict[str, PeerVerdict]] = []
    prober.listener = lambda: changes.append(verdicts(prober))
    prober.assign(assigned("h2", "h3", "h4"))
    async with running(prober.run()):
        await until(lambda: verdicts(prober) == {"h2": PeerVerdict.OK, "h3": PeerVerdict.TIMEOUT})
        await until(lambda: probe.asked.count("h2") >= 5)

    assert probe.asked.count("h4") == 1
    assert len(changes) == 2


async def test_a_fault_of_our_own_is_no_evidence_against_a_peer() -> None:
    """A probe that fails inside this process makes the peer DEGRADED, never TIMEOUT, and the prober lives on."""
    prober = make(ScriptedProbe())
    prober.assign(assigned("broken"))
    async with running(prober.run()):
        await until(lambda: verdicts(prober) == {"broken": PeerVerdict.DEGRADED})


async def test_scouts_need_three_timeouts_like_everybody() -> None:
    """A scout's TIMEOUT has three misses behind it; another answer says itself at once."""
    probe = ScriptedProbe(h8=PeerVerdict.TIMEOUT, h9=PeerVerdict.REFUSED)
    prober = make(probe)

    seen = await prober.scout([PeerTarget(host_id=host, probe_target=host) for host in ("h8", "h9")])

    assert [(one.host_id, one.verdict, one.consecutive_count) for one in seen] == [
        ("h8", PeerVerdict.TIMEOUT, 3),
        ("h9", PeerVerdict.REFUSED, 1),
    ]
    assert sorted(probe.asked) == ["h8", "h8", "h8", "h9"]


async def test_a_peer_that_left_the_drawing_is_probed_no_more() -> None:
    """After a new drawing only its peers are asked, and only they are in the report."""
    probe = ScriptedProbe(h2=PeerVerdict.OK, h3=PeerVerdict.OK)
    prober = make(probe)
    prober.assign(assigned("h2"))
    async with running(prober.run()):
        await until(lambda: verdicts(prober))
        prober.assign(assigned("h3", version="v2"))
        await until(lambda: verdicts(prober) == {"h3": PeerVerdict.OK})
        before = probe.asked.count("h2")
        await until(lambda: probe.asked.count("h3") > 3)

    assert probe.asked.count("h2") == before
    assert prober.version == "v2"


@pytest.mark.parametrize(("up", "verdict"), [("libvirt_up 1", PeerVerdict.OK), ("libvirt_up 0", PeerVerdict.DEGRADED)])
async def test_s03_a_real_exporter_is_asked_directly(up: str, verdict: PeerVerdict) -> None:
    """The agent itself does HTTP GET /metrics at the peer's exporter; there is nobody in between."""
    application = web.Application()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=f"{up}\n")

    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    probe = HttpExporterProbe()
    prober = make(probe)
    target = PeerTarget(host_id="h2", probe_target=f"{host}:{port}")
    prober.assign(Assigned(version="v1", peers=(target,), probe_interval_s=0.05, probe_timeout_s=1.0, probe_misses=3))
    try:
        async with running(prober.run()):
            await until(lambda: verdicts(prober) == {"h2": verdict})
    finally:
        await probe.close()
        await runner.cleanup()


async def test_a_process_that_stood_still_accuses_nobody() -> None:
    """Timeouts that are noticed much too late are no misses: neither the plan's nor a scout's."""
    clock, probe = LateClock(), ScriptedProbe(h2=PeerVerdict.TIMEOUT)
    prober = Prober(probe, clock, Metrics(clock))
    ask = probe.probe

    async def late(target: str, timeout_s: float) -> ProbeResult:
        clock.ahead_s += 10.0
        return await ask(target, timeout_s)

    probe.probe = late  # type: ignore[method-assign]
    assert await prober.scout([PeerTarget(host_id="h2", probe_target="h2")]) == []
    prober.assign(assigned("h2"))
    async with running(prober.run()):
        await until(lambda: probe.asked.count("h2") > 12)

    assert verdicts(prober) == {}
