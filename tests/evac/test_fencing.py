"""Fencing with the real programs of the fence-agents package, and with programs that misbehave."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evac.doubles import FakeDevice
from vmha.clock import SystemClock
from vmha.evac.events import ProofDenied, ProofGiven
from vmha.evac.fencing import FenceAgents, FenceFailed, Power
from vmha.evac.proof import Case, prove
from vmha.evac.reasons import ProofReason
from vmha.model import FAST_TIMERS, ClusterConfig, FenceConfig, HostConfig, ProofKind, ProofPolicy
from vmha.store.records import HostRecord

DUMMY = "/usr/sbin/fence_dummy"
needs_fence_agents = pytest.mark.skipif(not Path(DUMMY).exists(), reason="package fence-agents is not installed")


def host(fence: FenceConfig | None, **fields: object) -> HostRecord:
    config = HostConfig(probe_target="h1:1", agent_target="h1:2", libvirt_uri="test:///default", fence=fence)
    record = HostRecord(host_id="h1", cluster_id="c1", config=config, version=1)
    return replace(record, **fields)  # type: ignore[arg-type]


def case(fence: FenceConfig | None, device: FenceAgents | FakeDevice, **fields: object) -> Case:
    timers = replace(FAST_TIMERS, fence_confirm_s=0.01, fence_timeout_s=2.0)
    return Case(config=ClusterConfig(timers=timers), host=host(fence, **fields), fence_epoch=7, device=device)


def dummy(power: Path) -> FenceConfig:
    return FenceConfig(agent="fence_dummy", parameters={"type": "file", "status_file": str(power)})


def script(folder: Path, body: str, name: str = "fence_test") -> FenceConfig:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return FenceConfig(agent=name)


@needs_fence_agents
async def test_a_host_that_is_on_is_switched_off_and_read_twice(tmp_path: Path) -> None:
    """fence_dummy: on, ordered off, off twice: a proof; and the device was really switched."""
    power = tmp_path / "power"
    power.write_text("on")

    answer = await prove(case(dummy(power), FenceAgents()))

    assert isinstance(answer, ProofGiven)
    assert answer.kind is ProofKind.FENCE
    assert power.read_text() == "off"


@needs_fence_agents
async def test_a_host_that_is_off_already_needs_no_order(tmp_path: Path) -> None:
    """fence_dummy on a file that says off, and that nobody may write: status alone proves."""
    power = tmp_path / "power"
    power.write_text("off")

    answer = await prove(case(dummy(power), FenceAgents()))

    assert isinstance(answer, ProofGiven)


@needs_fence_agents
async def test_readings_of_the_real_library() -> None:
    """Exit code 0 is on; an unreadable status is no answer."""
    config = FenceConfig(agent="fence_dummy", parameters={"type": "file", "status_file": "/etc/hostname"})

    with pytest.raises(FenceFailed) as caught:
        await FenceAgents().read(config, 5.0)

    assert caught.value.reason is ProofReason.FENCE_FAILED


async def test_the_agent_gets_lines_on_stdin_and_nothing_else(tmp_path: Path) -> None:
    """Parameters, secrets and the action arrive as key=value lines; the argument list is empty."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    config = script(tmp_path, f'cat > {tmp_path}/lines; echo "$#" > {tmp_path}/count')
    config = replace(config, parameters={"ip": "10.0.0.1"}, secret_files={"password": str(secret)})

    assert await FenceAgents(str(tmp_path)).read(config, 5.0) is Power.ON

    assert sorted((tmp_path / "lines").read_text().split()) == ["action=status", "ip=10.0.0.1", "password=hunter2"]
    assert (tmp_path / "count").read_text().strip() == "0"


async def test_exit_code_2_alone_is_not_off(tmp_path: Path) -> None:
    """An interpreter that does not find its script exits with 2 as well: without the printed status it is no answer."""
    with pytest.raises(FenceFailed) as caught:
        await FenceAgents(str(tmp_path)).read(script(tmp_path, "exit 2"), 5.0)

    assert caught.value.reason is ProofReason.FENCE_FAILED


@pytest.mark.parametrize(
    "body", ["exit 1", "echo garbage; exit 7", "echo 'Status: OFF'; exit 1", "kill -9 $$", "yes | head -c 9000000; exit 3"]
)
async def test_whatever_is_not_a_clear_off_is_no_proof(tmp_path: Path, body: str) -> None:
    """Failure, garbage, a contradiction, a signal, megabytes of output: denied, never a proof, never a hang."""
    answer = await prove(case(script(tmp_path, body), FenceAgents(str(tmp_path) + ":/usr/bin:/bin")))

    assert isinstance(answer, ProofDenied)


async def test_an_agent_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """At the time-out the whole process group is gone, and the answer says FENCE_TIMEOUT."""
    config = script(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait")
    began = SystemClock().now()

    with pytest.raises(FenceFailed) as caught:
        await FenceAgents(str(tmp_path)).read(config, 0.5)

    assert caught.value.reason is ProofReason.FENCE_TIMEOUT
    assert SystemClock().now() - began < 5.0
    for name in ("child", "self"):
        await gone(int((tmp_path / name).read_text()))


async def gone(pid: int) -> None:
    """The process has ended; a zombie that its new parent has not collected yet counts as ended."""
    async with asyncio.timeout(5):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                return
            if state == "Z":
                return
            await asyncio.sleep(0.01)


async def test_a_child_that_keeps_the_pipes_is_no_answer(tmp_path: Path) -> None:
    """The agent has ended, but a daemon that it left behind holds its output open: time-out, and the daemon is killed."""
    config = script(tmp_path, f"echo 'Status: OFF'; sleep 300 & echo $! > {tmp_path}/child; exit 2")

    with pytest.raises(FenceFailed) as caught:
        await FenceAgents(str(tmp_path)).read(config, 0.5)

    assert caught.value.reason is ProofReason.FENCE_TIMEOUT
    await gone(int((tmp_path / "child").read_text()))


async def test_secrets_are_in_no_message(tmp_path: Path) -> None:
    """An agent that prints its password in its error: the message holds stars."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    config = script(tmp_path, "cat >&2; exit 1")
    config = replace(config, parameters={"password_old": "swordfish"}, secret_files={"password": str(secret)})

    with pytest.raises(FenceFailed) as caught:
        await FenceAgents(str(tmp_path) + os.pathsep + "/bin").read(config, 5.0)

    assert "hunter2" not in str(caught.value)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (FenceConfig(agent="../bin/sh"), ProofReason.FENCE_AGENT_UNKNOWN),
        (FenceConfig(agent="/bin/sh"), ProofReason.FENCE_AGENT_UNKNOWN),
        (FenceConfig(agent="fence_that_is_not_there"), ProofReason.FENCE_AGENT_UNKNOWN),
        (FenceConfig(agent="fence_test", parameters={"ip": "a\naction=on"}), ProofReason.FENCE_PARAMETERS_WRONG),
        (FenceConfig(agent="fence_test", parameters={"action": "on"}), ProofReason.FENCE_PARAMETERS_WRONG),
        (FenceConfig(agent="fence_test", secret_files={"password": "/nowhere"}), ProofReason.FENCE_SECRET_UNREADABLE),
    ],
)
async def test_wrong_settings_are_named(tmp_path: Path, config: FenceConfig, reason: ProofReason) -> None:
    """A name that is no fence agent, a smuggled line, an unreadable secret: each with its reason, and no program runs."""
    script(tmp_path, f"touch {tmp_path}/ran")

    with pytest.raises(FenceFailed) as caught:
        await FenceAgents(str(tmp_path)).read(config, 5.0)

    assert caught.value.reason is reason
    assert not (tmp_path / "ran").exists()


async def test_a_device_that_refuses_off_but_reads_off_is_a_proof() -> None:
    """The status counts, not the return code of "off"."""
    device = FakeDevice(answers=[Power.ON, Power.OFF, Power.OFF], works=False)

    assert isinstance(await prove(case(FenceConfig(agent="fence_x"), device)), ProofGiven)


async def test_a_host_that_reads_on_again_is_not_proven() -> None:
    """Off and then on within the second: somebody switches it; no proof."""
    device = FakeDevice(answers=[Power.OFF, Power.ON])

    answer = await prove(case(FenceConfig(agent="fence_x"), device))

    assert isinstance(answer, ProofDenied)
    assert answer.reason == ProofReason.FENCE_STILL_ON
    assert device.orders == 0


async def test_the_operators_word_counts_for_its_failure_only() -> None:
    """ConfirmHostOff of this fence epoch proves; one of an older failure does not."""
    now = case(None, FakeDevice(), confirmed_off_by="ann", confirmed_off_epoch=7)
    old = case(None, FakeDevice(), confirmed_off_by="ann", confirmed_off_epoch=6)

    assert isinstance(await prove(now), ProofGiven)
    denied = await prove(old)
    assert isinstance(denied, ProofDenied)
    assert denied.reason == ProofReason.FENCE_NOT_CONFIGURED


async def test_proof_none_asks_nobody() -> None:
    """A cluster that relies on storage locks fences nothing, and the record says so."""
    device = FakeDevice()
    wanted = case(FenceConfig(agent="fence_x"), device)
    answer = await prove(replace(wanted, config=ClusterConfig(proof=ProofPolicy.NONE)))

    assert isinstance(answer, ProofGiven)
    assert answer.kind is ProofKind.NONE
    assert device.reads == device.orders == 0


async def test_the_two_readings_are_the_configured_time_apart() -> None:
    """The second reading begins fence_confirm_s after the first has ended."""
    wanted = case(FenceConfig(agent="fence_x"), FakeDevice(power=Power.OFF))
    timers = replace(FAST_TIMERS, fence_confirm_s=0.3)
    began = SystemClock().now()

    await prove(replace(wanted, config=ClusterConfig(timers=timers)))

    assert 0.3 <= SystemClock().now() - began < 0.45
