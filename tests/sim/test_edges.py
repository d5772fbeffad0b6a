"""The other simulated edges: probes, fence devices, randomness, and silence."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import structlog

from vmha.evac.fencing import FenceFailed, Power
from vmha.model import PeerVerdict
from vmha.sim.clock import SimClock
from vmha.sim.entropy import Entropy
from vmha.sim.exporter import Lie, SimProbe
from vmha.sim.fence import SimFence, config_of
from vmha.sim.network import Network
from vmha.sim.process import Machine, Process
from vmha.sim.quiet import Silence
from vmha.sim.timeloop import VirtualLoop


@dataclass
class Host:
    """As probes and fence devices find one."""

    powered: bool = True
    exporter_up: bool = True
    libvirt_answers: bool = True


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.shut_down()


@pytest.fixture
def network() -> Network:
    return Network(["h1", "h2"], 1, random.Random(1))


def test_a_probe_tells_silence_from_refusal_and_trouble(loop: VirtualLoop, network: Network) -> None:
    """OK and REFUSED come at once, TIMEOUT and DEGRADED after the timeout."""
    host = Host()
    probe = SimProbe("h2", network, {"h1": host}, lambda: True)

    def ask() -> tuple[PeerVerdict, float]:
        began = loop.time()
        return loop.run_until(probe.probe("h1:9177", 0.4)).verdict, round(loop.time() - began, 6)

    assert ask() == (PeerVerdict.OK, 0.0)
    host.libvirt_answers = False
    assert ask() == (PeerVerdict.DEGRADED, 0.4)
    host.exporter_up = False
    assert ask() == (PeerVerdict.REFUSED, 0.0)
    network.isolate(["h1"], "peers")
    assert ask() == (PeerVerdict.TIMEOUT, 0.4)
    network.heal_all()
    host.powered = False
    assert ask() == (PeerVerdict.TIMEOUT, 0.4)


def test_a_liar_says_what_it_is_told(loop: VirtualLoop, network: Network) -> None:
    """Of those that it was told to lie about; of others it says what it saw."""
    hosts = {"h1": Host(), "h3": Host()}
    probe = SimProbe("h2", network, hosts, lambda: True, lambda: Lie("down", frozenset({"h1"})))

    assert loop.run_until(probe.probe("h1:9177", 0.4)).verdict is PeerVerdict.TIMEOUT
    assert loop.run_until(probe.probe("h3:9177", 0.4)).verdict is PeerVerdict.OK


def test_a_fence_device_reads_and_cuts_the_power(loop: VirtualLoop, network: Network) -> None:
    """As long as the evacuator reaches the device, whatever cuts the host itself; a failing one proves nothing."""
    host, failing = Host(), set[str]()
    process = Process(loop, Machine("evac", SimClock(loop)), "evac")
    device = SimFence(process, network, {"h1": host}, failing, lambda _: setattr(host, "powered", False))
    network.isolate(["h1"])
    config = config_of("h1")

    assert loop.run_until(device.read(config, 5.0)) is Power.ON
    loop.run_until(device.order_off(config, 5.0))
    assert loop.run_until(device.read(config, 5.0)) is Power.OFF

    failing.add("h1")
    with pytest.raises(FenceFailed):
        loop.run_until(device.read(config, 5.0))
    failing.clear()
    network.partition([["evac"], ["fence"]])
    with pytest.raises(FenceFailed) as caught:
        loop.run_until(device.read(config, 5.0))
    assert caught.value.reason == "FENCE_TIMEOUT"


def _drawn() -> list[object]:
    return [os.urandom(8), secrets.token_hex(8), secrets.token_urlsafe(8), uuid.uuid4(), random.random(), random.uniform(0, 9)]


def test_all_randomness_comes_from_the_seed() -> None:
    """The same seed gives the same draws, another one others; afterwards the real sources are back."""
    real = (os.urandom, secrets.token_hex, uuid.uuid4)
    drawn = []
    for seed in (1, 1, 2):
        entropy = Entropy(seed)
        entropy.take_over()
        try:
            drawn.append(_drawn())
        finally:
            entropy.give_back()

    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))
    assert real == (os.urandom, secrets.token_hex, uuid.uuid4)


def test_only_one_simulation_draws_at_a_time() -> None:
    """A second one is refused, or neither could be repeated."""
    first = Entropy(1)
    first.take_over()
    try:
        with pytest.raises(RuntimeError, match="close its World first"):
            Entropy(2).take_over()
    finally:
        first.give_back()


def test_logs_are_silent_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    """And speak again afterwards."""
    log = structlog.get_logger("vmha.test")
    silence = Silence()
    silence.begin()
    log.error("not seen")
    log.critical("not seen either")
    silence.end()
    log.error("seen")

    said = capsys.readouterr()
    assert "not seen" not in said.out + said.err
    assert "seen" in said.out + said.err


def test_exceptions_in_the_log_are_heard_meanwhile() -> None:
    """Both ways of logging one; what is no exception is not heard."""
    heard: list[tuple[str, str]] = []
    silence = Silence(lambda text, error: heard.append((text, repr(error))))
    silence.begin()
    try:
        log = structlog.get_logger("vmha.test").bind(host_id="h1")
        log.error("no exception")
        log.error("by hand", exc_info=KeyError("a"))
        try:
            raise ValueError("b")
        except ValueError:
            log.exception("caught")
    finally:
        silence.end()
    assert heard == [("by hand", "KeyError('a')"), ("caught", "ValueError('b')")]


def test_a_killed_process_does_nothing_more(loop: VirtualLoop) -> None:
    """Its tasks and timers end; those of others go on."""
    machine = Machine("h1", SimClock(loop))
    done: list[str] = []

    async def work(name: str) -> None:
        await asyncio.sleep(1.0)
        done.append(name)

    killed, other = (Process(loop, machine, name) for name in ("killed", "other"))
    for process in (killed, other):
        process.start(work(process.name), "work")
        process.within(lambda process=process: loop.call_later(1.0, done.append, f"timer of {process.name}"))  # type: ignore[misc]
    killed.kill()
    loop.run_for(2.0)

    assert sorted(done) == ["other", "timer of other"]
    assert machine.processes == [other]
