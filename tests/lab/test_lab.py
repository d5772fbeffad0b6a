"""The lab's own facts: what its faults look like from outside."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lab import Host, Lab, LabError
from lab.host import EXPORTER_PORT, LIBVIRT_PORT
from lab.system import wait_for

numbers = itertools.count(1)


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    """host1, whole again afterwards."""
    host = lab.host("host1")
    yield host
    lab.fence.heal("host1")
    host.kill()
    host.heal()
    host.on()


@pytest.fixture
def guest(lab: Lab, host: Host) -> Iterator[str]:
    """A guest that beats on host1."""
    name = f"g{next(numbers)}"
    lab.mkvm(name)
    since = time.monotonic()
    host.start_guest(name)
    lab.beats.wait_after([name], since, 10)
    yield name
    for each in lab.hosts:
        if each.is_on() and name in each.guests():
            # "domain is not running" is success too: a libvirtd that is re-adopting the guest loses the race with its own kill.
            with suppress(LabError):
                each.virsh("destroy", name)
            wait_for(lambda: name not in each.guests(), 5, f"{name} is gone")  # noqa: B023 - called here


def connects(address: str, port: int, timeout_s: float = 0.5) -> str:
    try:
        socket.create_connection((address, port), timeout_s).close()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return type(error).__name__
    return "ok"


def scrape(host: Host, timeout_s: float = 1.0) -> str:
    with urllib.request.urlopen(f"http://{host.peer_address}:{EXPORTER_PORT}/metrics", timeout=timeout_s) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return next(line for line in lines if line.startswith("libvirt_up"))


def peer_sees(lab: Lab, host: Host, timeout_s: float = 0.5) -> str:
    """What host2 gets when it connects to host1's exporter."""
    code = (
        "import socket\n"
        f"try: socket.create_connection(('{host.peer_address}', {EXPORTER_PORT}), {timeout_s}); print('ok')\n"
        "except TimeoutError: print('timeout')\n"
        "except OSError as error: print(type(error).__name__)"
    )
    return lab.host("host2").exec("python3", "-c", code).strip()


def test_a_host_is_a_machine_of_its_own(lab: Lab) -> None:
    """Each host has its own name, boot id, libvirt identity and process numbers, and resolves its neighbours."""
    first, second = lab.host("host1"), lab.host("host2")

    assert first.exec("hostname").strip() == "host1"
    assert first.exec("cat", lab.BOOT_ID_FILE).strip() == first.boot_id != second.boot_id
    assert f"<uuid>{(first.directory / 'uuid').read_text()}</uuid>" in first.virsh("capabilities")
    assert first.exec("getent", "hosts", "host2").split()[0] == second.address
    assert len(first.exec("ps", "-e", "--no-headers").splitlines()) < 20


def test_exporter_and_libvirt_answer_on_their_planes(lab: Lab) -> None:
    """libvirt answers on the management plane, the exporter on the peers' plane, to the root namespace and to peers."""
    host = lab.host("host3")

    wait_for(lambda: scrape(host) == "libvirt_up 1", 5, "the exporter sees libvirt")
    assert connects(host.address, LIBVIRT_PORT) == "ok"
    assert peer_sees(lab, host) == "ok"


def test_power_loss_is_silence(lab: Lab, host: Host) -> None:
    """After a power loss an open connection hears neither FIN nor RST, and new connections time out."""
    with socket.create_connection((host.address, LIBVIRT_PORT), 1) as connection:
        host.kill()
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)

    assert connects(host.address, LIBVIRT_PORT) == "timeout"
    assert peer_sees(lab, host) == "timeout"
    assert not host.is_on()


def test_power_loss_is_quick_and_can_be_repeated(host: Host) -> None:
    """Off within 0.2 s, on within 2 s, each on a new boot; killing what is off is no error, powering on what is on is one."""
    boots = {host.boot_id}
    for _ in range(3):
        started = time.monotonic()
        host.kill()
        off = time.monotonic() - started
        host.kill()
        host.on()
        boots.add(host.boot_id)
        assert off < 0.2
        assert time.monotonic() - started < 2.2

    assert len(boots) == 4
    with pytest.raises(LabError, match="host1 is on already"):
        host.on()


def test_power_loss_kills_guests_and_a_restart_elsewhere_goes_on(lab: Lab, host: Host, guest: str) -> None:
    """A guest of a dead host starts elsewhere at once as the next generation and finds the last beat on its disk."""
    cut_at = time.monotonic()
    host.kill()
    last = lab.beats.of(guest)[-1]
    assert host.guests() == []
    lab.host("host2").start_guest(guest)

    first = lab.beats.wait_after([guest], cut_at, 10)[guest]
    boot = [record for record in lab.beats.records(guest) if record.boot][-1]
    assert (first.gen, first.beat) == (last.gen + 1, 1)
    assert boot.beat in {last.beat, last.beat + 1}
    lab.beats.check([guest])


def test_the_shared_disk_is_locked_while_the_guest_runs(lab: Lab, guest: str) -> None:
    """A second start elsewhere fails on the image lock: an isolated host keeps its guests' locks."""
    with pytest.raises(LabError, match="lock"):
        lab.host("host2").start_guest(guest)


@pytest.mark.parametrize(
    ("plane", "libvirt", "probe"), [("all", "timeout", "timeout"), ("management", "timeout", "ok"), ("peers", "ok", "timeout")]
)
def test_cut_and_heal(lab: Lab, host: Host, guest: str, plane: str, libvirt: str, probe: str) -> None:
    """A cut plane is silent and the other one is not; guests run on; heal brings it back with the old connections."""
    host.cut(plane)  # type: ignore[arg-type]
    assert (connects(host.address, LIBVIRT_PORT), peer_sees(lab, host)) == (libvirt, probe)
    assert host.guests() == [guest]

    host.heal(plane)  # type: ignore[arg-type]
    wait_for(lambda: connects(host.address, LIBVIRT_PORT) == "ok" and peer_sees(lab, host) == "ok", 5, "host1 is reached again")


def test_a_cut_outlives_a_power_cycle(host: Host) -> None:
    """A cable that was pulled stays pulled when the host is powered on again."""
    host.cut("management")
    host.kill()
    host.on()

    assert connects(host.address, LIBVIRT_PORT) == "timeout"
    assert connects(host.peer_address, EXPORTER_PORT) == "ok"


def test_hung_libvirtd_connects_and_never_answers(host: Host) -> None:
    """A hung libvirtd lets the kernel connect and says nothing; afterwards it goes on."""
    host.hang()
    assert connects(host.address, LIBVIRT_PORT) == "ok"
    with pytest.raises(LabError, match="no answer"):
        host.virsh("list", timeout_s=0.7)
    host.unhang()

    assert host.virsh("list") == "\n" or host.virsh("list").strip() == ""


def test_libvirtd_killed_is_degraded_not_down(host: Host, guest: str) -> None:
    """With libvirtd dead its port refuses, the exporter answers 200 with libvirt_up 0, the guest runs on and is found again."""
    host.libvirtd_kill()

    assert connects(host.address, LIBVIRT_PORT) == "ConnectionRefusedError"
    wait_for(lambda: scrape(host) == "libvirt_up 0", 3, "the exporter notices")
    assert host.guests() == [guest]
    host.libvirtd_start()
    assert guest in host.virsh("list", "--name")


def test_exporter_killed_refuses(lab: Lab, host: Host) -> None:
    """With the exporter dead its port refuses, which proves that the kernel lives."""
    host.exporter_kill()
    assert peer_sees(lab, host) == "ConnectionRefusedError"
    host.exporter_start()

    wait_for(lambda: peer_sees(lab, host) == "ok", 3, "the exporter listens")


def test_a_frozen_host_answers_nothing_and_dies_when_its_power_is_cut(host: Host, guest: str) -> None:
    """A frozen host's guests stand still; thaw lets it go on; power loss works on a frozen one too."""
    host.freeze()
    with pytest.raises(TimeoutError):
        scrape(host, 0.5)
    with pytest.raises(LabError, match="frozen"):
        host.daemons()
    host.thaw()
    assert "libvirtd" in host.daemons()
    host.freeze()
    host.kill()

    assert host.guests() == []


def test_one_hung_guest_does_not_hang_libvirtd(lab: Lab, host: Host, guest: str) -> None:
    """A hung guest stops beating, libvirtd answers on, and the guest goes on afterwards."""
    host.hang_guest(guest)
    seen = len(lab.beats.of(guest))
    assert guest in host.virsh("list", "--name", timeout_s=3)
    host.unhang_guest(guest)

    wait_for(lambda: len(lab.beats.of(guest)) > seen, 3, "the guest beats again")
    lab.beats.check([guest])


def test_the_agent_runs_inside_and_crashes_alone(lab: Lab, host: Host) -> None:
    """The agent's command runs inside its host at power-on, its output goes to agent_log, it can be killed and started."""
    lab.agent_command = lambda name: ["sh", "-c", f"echo {name} is $(hostname); exec sleep 1000"]
    host.kill()
    host.agent_log.unlink(missing_ok=True)
    host.on()
    lab.agent_command = None
    wait_for(lambda: host.agent_log.read_text() == "host1 is host1\n", 2, "the agent speaks")

    host.agent_kill()
    assert "agent" not in host.daemons()
    with pytest.raises(LabError, match="agent does not run"):
        host.agent_kill()
    host.agent_start()
    assert "agent" in host.daemons()
    (host.directory / "agent.json").unlink()


def test_the_real_fence_agent_cuts_power(lab: Lab, host: Host, guest: str) -> None:
    """fence_redfish reads the status, cuts the power of a host with its guests, reads off, and switches on again."""
    assert lab.fence.call("host1", "status").returncode == 0
    started = time.monotonic()
    assert lab.fence.call("host1", "off").returncode == 0
    took = time.monotonic() - started

    assert not host.is_on()
    assert host.guests() == []
    assert lab.fence.call("host1", "status").returncode == 2
    assert lab.fence.call("host1", "on").returncode == 0
    assert host.is_on()
    assert took < 3


def test_the_fence_device_wants_its_password(lab: Lab, host: Host) -> None:
    """A wrong password gives no proof and cuts nothing; the password is in the file that secret_files names."""
    password = lab.fence.password_file.read_text()
    lab.fence.password_file.write_text("wrong")
    try:
        refused = lab.fence.call("host1", "off")
    finally:
        lab.fence.password_file.write_text(password)

    assert refused.returncode not in {0, 2}
    assert host.is_on()
    assert json.dumps(lab.fence.config("host1")).count(password) == 0


@pytest.mark.parametrize("mode", ["error", "unreachable", "stuck"])
def test_a_fence_device_that_fails_gives_no_proof(lab: Lab, host: Host, mode: str) -> None:
    """A device that fails never says off, and works again when healed."""
    lab.fence.fail("host1", mode)  # type: ignore[arg-type]
    failed = lab.fence.call("host1", "status")
    assert failed.returncode == (0 if mode == "stuck" else 1)
    lab.fence.heal("host1")

    assert lab.fence.call("host1", "status").returncode == 0
    assert host.is_on()


def test_a_fence_device_that_hangs(lab: Lab, host: Host) -> None:
    """A hanging device lets its caller wait until it is healed."""
    lab.fence.fail("host1", "hang")
    with pytest.raises(subprocess.TimeoutExpired):
        lab.fence.call("host1", "status", timeout_s=1)
    lab.fence.heal("host1")
    assert lab.fence.call("host1", "status").returncode == 0


def test_errors_name_the_mistake(lab: Lab) -> None:
    """Wrong names get one clear sentence."""
    with pytest.raises(LabError, match="host 'nonsense': host1 to host40 are possible"):
        lab.host("nonsense")
    with pytest.raises(LabError, match="41 hosts: 1 to 40"):
        lab.up(41)
    with pytest.raises(LabError, match="host39 is off"):
        lab.host("host39").exec("true")
    with pytest.raises(LabError, match="there is no guest nobody"):
        lab.guest("nobody")
    with pytest.raises(LabError, match="no guest nobody runs on host1"):
        lab.host("host1").hang_guest("nobody")
    with pytest.raises(LabError, match="letters"):
        lab.mkvm("../x")
