"""The lab leaves nothing behind, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, LabError
from lab.planes import links
from lab.system import command_of, pids, wait_for

TOP = Path(__file__).resolve().parents[2]
OWNER = """
import sys, time
from lab import Lab
with Lab(sys.argv[1]) as lab:
    lab.up(2)
    lab.mkvm("g")
    lab.host("host1").start_guest("g")
    print("up", flush=True)
    time.sleep(100)
"""


def left_of(directory: Path, prefix: str) -> list[str]:
    """Interfaces, namespaces, mounts and processes that are a lab's."""
    own = str(os.getpid())
    found = [name for name in links() if name.startswith((f"{prefix}b", f"{prefix}v"))]
    found += [str(path) for path in Path("/run/netns").glob(f"{prefix}*")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]
    for pid in pids():
        words = command_of(pid)
        if str(pid) != own and any(str(directory) in word for word in words) and OWNER not in words:
            found.append(f"{pid}: {words}")
    return found


def prefix_of(directory: Path) -> str:
    return str(json.loads((directory / "lab.json").read_text())["prefix"])


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a lab with two hosts and a guest."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "l")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TOP
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "up\n", first + process.stdout.read()
        yield process
        process.kill()


def test_down_leaves_nothing(tmp_path: Path) -> None:
    """Interfaces, mounts, namespaces and processes are the same before up and after down, and down can be repeated."""
    before = set(links())
    directory = tmp_path / "l"
    lab = Lab(directory)
    lab.up(2)
    lab.mkvm("g")
    lab.host("host1").start_guest("g")
    prefix = prefix_of(directory)
    assert left_of(directory, prefix) != []
    lab.down()
    lab.down()

    assert left_of(directory, prefix) == []
    assert {name for name in links() if name.startswith(prefix)} <= before
    assert (directory / "shared" / "g.qcow2").exists()
    lab.down(purge=True)
    assert not directory.exists()


def test_a_temporary_lab_removes_its_directory() -> None:
    """A lab without a directory of its own leaves no file either, and can come up again within its life."""
    with Lab() as lab:
        lab.up(1)
        directory = lab.directory
        lab.down(purge=False)
        lab.up(1)
        assert lab.host("host1").is_on()

    assert not directory.exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_owner_is_the_end_of_the_lab(owner: subprocess.Popen[str], tmp_path: Path, signum: int) -> None:
    """Ctrl-C, SIGTERM and even SIGKILL of the owner leave nothing behind, without anybody's `down`."""
    prefix = prefix_of(tmp_path / "l")
    owner.send_signal(signum)
    owner.wait(10)

    wait_for(lambda: left_of(tmp_path / "l", prefix) == [], 10, f"nothing is left of {left_of(tmp_path / 'l', prefix)}", 0.05)


def test_down_finds_what_owner_and_guardian_left(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    """When owner and guardian both die by SIGKILL, `down` of another process finds hosts and bridges."""
    directory = tmp_path / "l"
    prefix = prefix_of(directory)
    guardian = int((directory / "fence" / "pid").read_text().split()[0])
    os.kill(guardian, signal.SIGKILL)
    owner.kill()
    owner.wait(10)
    assert left_of(directory, prefix) != []
    Lab(directory, detached=True).down()

    assert left_of(directory, prefix) == []


def test_a_directory_has_one_owner(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    """A lab of a living process is not taken over; that of a dead one is taken down, and the directory used again."""
    with pytest.raises(LabError, match=f"belongs to process {owner.pid}"):
        Lab(tmp_path / "l")
    prefix = prefix_of(tmp_path / "l")
    guardian = int((tmp_path / "l" / "fence" / "pid").read_text().split()[0])
    os.kill(guardian, signal.SIGKILL)
    owner.kill()
    owner.wait(10)
    with Lab(tmp_path / "l") as lab:
        lab.up(1)
        assert lab.host("host1").is_on()
        assert not lab.host("host2").is_on()
    with pytest.raises(LabError, match="was left"):
        lab.host("host1")

    assert left_of(tmp_path / "l", prefix) == []


def test_labs_live_side_by_side() -> None:
    """Two labs get networks of their own, and a network that is taken is refused with advice."""
    with Lab() as one, Lab() as two:
        one.up(1)
        two.up(1)
        assert one.gateway != two.gateway
        one.host("host1").kill()
        assert two.host("host1").is_on()
        with Lab(net=one.planes.net, prefix="zz") as three, pytest.raises(LabError, match=r"is in use .another lab.*--net"):
            three.up(1)
        assert one.directory.exists()


def test_the_command_line_from_up_to_down(tmp_path: Path) -> None:
    """The command line's lab outlives its process, obeys it, and says in one line what is wrong."""

    def lab(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lab", "--directory", str(tmp_path / "l"), *words],
            capture_output=True, text=True, cwd=TOP, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == code, done
        return done.stdout + done.stderr

    assert "no lab is up" in lab("status", code=1)
    try:
        assert lab("up", "2").count(" on ") == 2
        prefix = prefix_of(tmp_path / "l")
        lab("mkvm", "g")
        lab("start-guest", "host1", "g")
        assert "guests: g" in lab("status")
        assert "boot 1, beat" in lab("beats")
        assert lab("exec", "host2", "hostname") == "host2\n"
        assert lab("exec", "host2", "false", code=1) == ""
        assert lab("virsh", "host1", "list", "--name").strip() == "g"
        lab("cut", "host2", "--plane", "management")
        assert "cut: management" in lab("status")
        lab("heal", "host2")
        assert "ON" in lab("fence", "host1", "status")
        lab("kill", "host1")
        assert "host1 is off" in lab("exec", "host1", "true", code=1)
        lab("on", "host1")
        assert "on already" in lab("on", "host1", code=1)
        assert "invalid choice" in lab("nonsense", code=2)
    finally:
        lab("down", "--purge")
    assert left_of(tmp_path / "l", prefix) == []
    assert not (tmp_path / "l").exists()
