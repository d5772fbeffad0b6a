"""Each command, as an operator or a program runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.cli.conftest import Vmha
from tests.cli.plane import EVACUATION, T0, VM, Plane, serve
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import event_service_pb2 as es
from vmha.v1 import host_pb2


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


async def test_cluster_list_as_table(vmha: Vmha) -> None:
    """People get columns."""
    vmha.plane.settle()

    done = await vmha("cluster", "list")

    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["CLUSTER", "PROTECTION", "HOSTS", "PROFILE", "NOTE"]
    assert done.out.splitlines()[1].split()[:3] == ["c1", "ACTIVE", "3"]


async def test_lists_as_json_hold_all_pages(vmha: Vmha) -> None:
    """Programs get one document with every item, fields named as in the contract; -o may follow the command."""
    vmha.plane.settle()

    done = await vmha("host", "list", "-o", "json")

    hosts = json.loads(done.out)["hosts"]
    assert [host["host_id"] for host in hosts] == ["h1", "h2", "h3"]
    assert hosts[0]["state"] == "HOST_STATE_HEALTHY"
    assert hosts[0]["in_maintenance"] is False


async def test_the_cluster_may_be_left_out_when_there_is_one(vmha: Vmha) -> None:
    """With several the command names them and ends with 2; with none it says what to do and ends with 3."""
    none = await vmha("host", "list")
    vmha.plane.settle()
    vmha.plane.clusters["c2"] = vmha.plane.clusters["c1"]
    vmha.plane.clusters["c2"].cluster_id = "c1"
    several = await vmha("host", "list")
    named = await vmha("host", "list", VMHA_CLUSTER="c1")

    assert (none.code, several.code, named.code) == (3, 2, 0)
    assert "vmha apply" in none.err
    assert "--cluster: is required" in several.err


async def test_show_host(vmha: Vmha) -> None:
    """One host with its facts."""
    vmha.plane.settle()

    done = await vmha("host", "show", "h2")

    assert done.code == 0
    assert "HEALTHY" in done.out and "fence epoch" in done.out


async def test_explain_host(vmha: Vmha) -> None:
    """Evidence with what does not count, and why."""
    vmha.plane.settle()

    done = await vmha("host", "explain", "h1")

    assert done.out.startswith("h1 is HEALTHY: its stream is fresh")
    assert "VOTE_STALE" in done.out and "10:00 HEALTHY" in done.out


async def test_maintenance(vmha: Vmha) -> None:
    """On with a reason, off again."""
    vmha.plane.settle()

    on = await vmha("host", "maintenance", "on", "h1", "--reason", "new disks")
    off = await vmha("host", "maintenance", "off", "h1", "-o", "json")

    assert (on.code, off.code) == (0, 0)
    assert on.out == "h1: maintenance is on\n"
    assert json.loads(off.out)["in_maintenance"] is False
    assert vmha.plane.calls == ["StartHostMaintenance h1 new disks", "EndHostMaintenance h1"]


async def test_confirm_off_takes_the_epoch_that_the_host_shows(vmha: Vmha) -> None:
    """Who says so and for which failure is recorded."""
    vmha.plane.settle()
    vmha.plane.hosts["h1"].agent_connected = False

    done = await vmha("host", "confirm-off", "h1", "--yes", "--operator", "night shift")

    assert done.code == 0
    assert vmha.plane.calls == ["ConfirmHostOff h1 7 night shift"]


async def test_confirm_off_of_a_living_host_is_refused(vmha: Vmha) -> None:
    """A refusal is one line with its reason, and exit code 1."""
    vmha.plane.settle()

    done = await vmha("host", "confirm-off", "h1", "--yes")

    assert (done.code, done.err) == (1, "vmha: HOST_ALIVE: h1 sent a heartbeat 0.3 s ago\n")


async def test_confirm_off_never_assumes_a_yes(vmha: Vmha) -> None:
    """Without a terminal nobody can be asked: --yes is required, nothing is called."""
    vmha.plane.settle()

    done = await vmha("host", "confirm-off", "h1")

    assert done.code == 2
    assert vmha.plane.calls == []


async def test_vms(vmha: Vmha) -> None:
    """All, and those of one host."""
    vmha.plane.settle()

    every = await vmha("vm", "list")
    one = await vmha("vm", "list", "--host", "h2", "-o", "json")

    assert [row.split()[0] for row in every.out.splitlines()[1:]] == ["web-1", "web-2", "web-3"]
    assert [vm["name"] for vm in json.loads(one.out)["vms"]] == ["web-2"]


async def test_vm_explain_takes_a_name_or_a_uuid(vmha: Vmha) -> None:
    """People know names."""
    vmha.plane.settle()

    by_name = await vmha("vm", "explain", "web-2")
    by_id = await vmha("vm", "explain", f"{VM}2")
    unknown = await vmha("vm", "explain", "web-9")

    assert by_name.out == by_id.out
    assert "it runs where it belongs" in by_name.out
    assert (unknown.code, unknown.err) == (3, "vmha: VM_UNKNOWN: no VM is called web-9\n")


async def test_enable_and_disable(vmha: Vmha) -> None:
    """Said in one word of S12."""
    vmha.plane.settle()

    off = await vmha("cluster", "disable")
    on = await vmha("cluster", "enable", "c1")

    assert (off.out, on.out) == ("c1: protection is DISABLED\n", "c1: protection is ACTIVE\n")


async def test_a_refused_enablement_names_each_rule_on_its_own_line(vmha: Vmha) -> None:
    """With the sentence that the server gave."""
    vmha.plane.settle()
    vmha.plane.refuse_enable = True

    done = await vmha("cluster", "enable")

    assert done.code == 1
    assert done.err.splitlines() == [
        "vmha: ENABLEMENT_REFUSED",
        "  MIN_HOSTS (clusters/c1): At least two hosts are required to enable VM HA.",
        "  AGGREGATES (clusters/c1): VM HA cannot be enabled because of aggregates.",
    ]


async def test_an_unknown_host_ends_with_3(vmha: Vmha) -> None:
    """One line, no traceback."""
    vmha.plane.settle()

    done = await vmha("host", "show", "h9")

    assert (done.code, done.out, done.err) == (3, "", "vmha: HOST_UNKNOWN: no host h9\n")


async def test_an_unreachable_manager_ends_with_4(vmha: Vmha) -> None:
    """And says which it tried."""
    done = await vmha("cluster", "list", "--manager", "127.0.0.1:1")

    assert done.code == 4
    assert done.err.startswith("vmha: PEER_UNREACHABLE: ") and "127.0.0.1:1" in done.err


async def test_a_server_that_hangs_ends_with_4(vmha: Vmha) -> None:
    """--timeout bounds each call."""
    vmha.plane.hang = True

    done = await vmha("cluster", "list", "--timeout", "0.3")

    assert (done.code, done.err) == (4, "vmha: DEADLINE_EXCEEDED: no answer within 0.3 s\n")


async def test_a_lost_store_ends_with_4(vmha: Vmha) -> None:
    """The server answers, but cannot work."""
    vmha.plane.store_away = True

    assert (await vmha("cluster", "list")).code == 4


@pytest.mark.parametrize(
    "arguments",
    [("host", "burn", "h1"), ("-o", "xml", "cluster", "list"), ("host", "show"), ("--tls-cert", "/a", "cluster", "list")],
    ids=" ".join,
)
async def test_a_wrong_command_line_ends_with_2(vmha: Vmha, arguments: tuple[str, ...]) -> None:
    """Usage goes to standard error."""
    done = await vmha(*arguments)

    assert done.code == 2
    assert done.out == "" and done.err != ""


async def test_events_end_at_the_newest(vmha: Vmha) -> None:
    """Without --follow the command shows what is kept, and ends; --after skips."""
    vmha.plane.settle()
    for number in (1, 2, 3):
        change = es.HostStateChange(
            host_id=f"h{number}", old_state=host_pb2.HOST_STATE_HEALTHY, new_state=host_pb2.HOST_STATE_SUSPECT, reason="QUORUM"
        )
        vmha.plane.events.append(es.Event(event_time=Timestamp(seconds=T0), actor="manager", host_state_change=change))

    people = await vmha("events")
    programs = await vmha("events", "--after", "2", "-o", "json")
    nothing = await vmha("events", "--after", "3")

    assert len(people.out.splitlines()) == 3
    assert "manager: host h1: HEALTHY -> SUSPECT: QUORUM" in people.out
    assert [(e["revision"], e["event"]["host_state_change"]["host_id"]) for e in lines(programs.out)] == [("3", "h3")]
    assert (nothing.code, nothing.out) == (0, "")


async def test_events_follow(vmha: Vmha) -> None:
    """With --follow events appear as they happen; Ctrl-C ends with 130."""
    vmha.plane.settle()
    process = await vmha.start("events", "--follow", "--after", "-1", "-o", "json")
    assert process.stdout is not None
    alarm = es.Event(alarm=es.Alarm(reason="FENCE_PENDING", host_id="h1"))
    reading = asyncio.create_task(process.stdout.readline())
    while not reading.done():
        vmha.plane.events.append(alarm)
        await asyncio.wait({reading}, timeout=0.2)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), 20)

    assert json.loads(await reading)["event"]["alarm"]["reason"] == "FENCE_PENDING"
    assert process.returncode == 130


async def test_a_terminals_control_characters_are_not_passed_on(vmha: Vmha) -> None:
    """A VM's name is somebody else's text."""
    vmha.plane.settle()
    vmha.plane.vms[0].name = "evil\x1b[2Jname"

    done = await vmha("vm", "list")

    assert "\x1b" not in done.out
    assert "evil?[2Jname" in done.out


async def test_evacuation_list_and_show(vmha: Vmha) -> None:
    """The newest first; show takes the newest when none is named."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_SUCCEEDED)

    listed = await vmha("evacuation", "list")
    shown = await vmha("evacuation", "show")
    programs = await vmha("evacuation", "show", EVACUATION, "-o", "json")

    assert "SUCCEEDED" in listed.out and EVACUATION in listed.out
    assert "web-1" in shown.out and "MOVED" in shown.out and "fence" in shown.out
    assert [vm["outcome"] for vm in json.loads(programs.out)["vms"]] == ["VM_OUTCOME_MOVED"] * 2


async def test_watch_ends_with_the_evacuation(vmha: Vmha) -> None:
    """A pipe gets a line for each step, then how it ended."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_SUCCEEDED)

    done = await vmha("evacuation", "watch")

    rows = done.out.splitlines()
    assert done.code == 0
    assert len(rows) == 6
    assert "web-1: h1 -> h2" in rows[1] and "MOVED" in rows[1]
    assert rows[-1] == "h1: SUCCEEDED; 2 VMs: 2 moved"


async def test_watch_of_a_failed_evacuation_ends_with_5(vmha: Vmha) -> None:
    """A script can tell that somebody must look."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_PARTIALLY_FAILED, failed=1)

    done = await vmha("evacuation", "watch", "-o", "json")

    assert done.code == 5
    assert lines(done.out)[-1]["evacuation"]["state"] == "EVACUATION_STATE_PARTIALLY_FAILED"


async def test_watch_resumes_where_it_was_cut(vmha: Vmha) -> None:
    """An evacuator that goes away and comes back costs no event, and shows none twice."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_SUCCEEDED)
    vmha.plane.cut_watch_after = 3

    done = await vmha("evacuation", "watch", "-o", "json")

    assert done.code == 0
    assert [event["sequence"] for event in lines(done.out)] == ["1", "2", "3", "4", "5"]
    assert "trying again" in done.err


async def test_watch_without_an_evacuation_ends_with_3(vmha: Vmha) -> None:
    """There is nothing to watch."""
    vmha.plane.settle()

    assert (await vmha("evacuation", "watch")).code == 3


async def test_plan_writes_nothing(vmha: Vmha) -> None:
    """Where each VM would go."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_SUCCEEDED)

    done = await vmha("evacuation", "plan", "h1")

    assert [row.split()[:3] for row in done.out.splitlines()] == [
        ["VM", "FROM", "TO"],
        ["web-1", "h1", "h2"],
        ["web-2", "h1", "h2"],
    ]
    assert vmha.plane.calls == []


async def test_cancel(vmha: Vmha) -> None:
    """With a reason."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_RUNNING)

    done = await vmha("evacuation", "cancel", EVACUATION, "--reason", "wrong host")

    assert done.code == 0
    assert vmha.plane.calls == [f"CancelEvacuation {EVACUATION} wrong host"]


async def test_what_only_the_leader_does_is_asked_of_it(vmha: Vmha) -> None:
    """NOT_LEADER names the leader: the command goes there, once. Where nobody leads, that is what it tells."""
    leader = Plane()
    leader.settle()
    server = serve(leader)
    vmha.plane.settle()
    vmha.plane.leader = f"127.0.0.1:{await server.start()}"
    found = await vmha("host", "explain", "h1")
    vmha.plane.leader = ""
    nobody = await vmha("host", "explain", "h1")
    vmha.plane.leader = vmha.target
    in_circles = await vmha("host", "explain", "h1")
    await server.stop(0)

    assert (found.code, "its stream is fresh" in found.out) == (0, True)
    assert (nobody.code, "does not lead" in nobody.err) == (1, True)
    assert (in_circles.code, "does not lead" in in_circles.err) == (1, True)


async def test_s14_a_drain_is_followed_to_its_end(vmha: Vmha) -> None:
    """Progress, then a table of all VMs; the host is empty: 0."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_SUCCEEDED)

    done = await vmha("host", "drain", "h1")

    assert done.code == 0
    assert vmha.plane.calls == ["StartHostDrain h1 False"]
    assert "h1: SUCCEEDED; 2 VMs: 2 moved" in done.out
    assert [line.split()[0] for line in done.out.splitlines()[-3:]] == ["VM", "web-1", "web-2"]


async def test_s14_a_drain_that_leaves_a_vm_ends_with_5(vmha: Vmha) -> None:
    """The same in JSON: one object for each step; and for a drain that was cancelled."""
    vmha.plane.settle()
    vmha.plane.evacuated(ev.EVACUATION_STATE_PARTIALLY_FAILED, failed=1)
    left = await vmha("host", "drain", "h1", "--stop", "-o", "json")
    vmha.plane.evacuations[0].state = vmha.plane.evacuation_events[-1].evacuation.state = ev.EVACUATION_STATE_CANCELLED
    cancelled = await vmha("host", "drain", "h1")

    assert (left.code, cancelled.code) == (5, 5)
    assert lines(left.out)[-1]["evacuation"]["failed_count"] == 1
    assert vmha.plane.calls[0] == "StartHostDrain h1 True"


async def test_s14_a_drain_may_go_on_alone_and_be_ended(vmha: Vmha) -> None:
    """--no-wait names the command that follows it; --cancel ends it; both at once with --stop make no sense."""
    vmha.plane.settle()
    alone = await vmha("host", "drain", "h1", "--no-wait")
    ended = await vmha("host", "drain", "h1", "--cancel")
    none = await vmha("host", "drain", "h2", "--cancel")
    both = await vmha("host", "drain", "h1", "--cancel", "--stop")

    assert [each.code for each in (alone, ended, none, both)] == [0, 0, 0, 2]
    assert f"vmha evacuation watch {EVACUATION}" in alone.out
    assert "its drain is being ended" in ended.out
    assert "no drain is under way" in none.out
    assert vmha.plane.calls == ["StartHostDrain h1 False", "CancelHostDrain h1", "CancelHostDrain h2"]
