"""Scenario files: what is taken, and how what is wrong is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sim.scenes import raw
from vmha.cluster_config import TIMER_NAMES
from vmha.errors import InvalidField
from vmha.model import FAST_TIMERS, STANDARD_TIMERS
from vmha.sim import scenario
from vmha.sim.acts import ACTS
from vmha.sim.fields import Kind


def wrong(**changes: Any) -> dict[str, str]:
    """What is told about the small scenario with changes: place -> text."""
    with pytest.raises(InvalidField) as caught:
        scenario.parse(raw(**changes))
    return {violation.field: violation.description for violation in caught.value.violations}


def step(do: str, **arguments: Any) -> dict[str, Any]:
    return {"timeline": [{"at": 1, "do": do, **arguments}]}


def test_the_least_scenario_gets_every_default() -> None:
    """Hosts and an end are enough; everything else has the default that the design names."""
    made = scenario.parse({"until": 10, "hosts": [{"id": "h1"}], "vms": [{"id": "v", "host": "h1"}]})

    assert (made.managers, made.start_s, made.migrate_s) == (1, 1.0, 10.0)
    assert (made.cluster.id, made.cluster.ha_enabled, made.cluster.fencing) == ("c1", True, "none")
    assert made.cluster.config.timers == STANDARD_TIMERS
    assert (made.cluster.config.reserve_fraction, made.cluster.config.cpu_overcommit) == (0.0, 1.0)
    assert made.hosts[0].roles == ("hypervisor",)
    assert made.hosts[0].power
    assert (made.vms[0].state, made.vms[0].root_disk, made.vms[0].ha, made.vms[0].priority) == ("running", "volume", True, 0)


def test_the_designs_example_is_taken() -> None:
    """The example of design section 9 with all its fields is a scenario."""
    made = scenario.parse(
        {
            "name": "two hosts lost", "seed": 1, "until": 2000, "profile": "standard", "timers": {"cooldown_s": 140},
            "managers": 1,
            "cluster": {"id": "c1", "ha_enabled": True, "fencing": "always", "proof": "ladder", "self_fencing": "off",
                        "max_down_fraction": 0.5, "reserve_fraction": 0.1, "cpu_overcommit": 2.0, "parallel": 3,
                        "vtpm_state_shared": True},
            "start_s": 2.0, "migrate_s": 5,
            "hosts": [{"id": "h1", "vcpus": 16, "memory_mib": 65536, "rack": "r1", "aggregates": [], "roles": ["hypervisor"],
                       "os": "debian-12", "power": "on"}],
            "vms": [{"id": "vm1", "host": "h1", "vcpus": 1, "memory_mib": 1024, "state": "paused", "ha": True, "priority": 0,
                     "aggregates": [], "root_disk": "volume", "vtpm": False, "gpu": False, "resize_unconfirmed": False}],
            "groups": [{"id": "g1", "policy": "affinity", "mode": "hard", "vms": ["vm1"]}],
            "timeline": [{"at": 100.0, "do": "crash", "host": "h1"}],
        }
    )  # fmt: skip

    assert made.cluster.config.timers.cooldown_s == 140
    assert made.cluster.config.self_fencing.value == "OFF"
    assert made.timeline[0].arguments == {"host": "h1"}


def test_the_profile_is_taken() -> None:
    """`fast` means the fast profile's timers and parallel starts."""
    made = scenario.parse(raw())

    assert made.cluster.config.timers == FAST_TIMERS
    assert made.cluster.config.parallel == 16


EXAMPLES: dict[Kind, Any] = {
    Kind.HOST: "h1", Kind.HOSTS: ["h1", "h2"], Kind.VM: "vm1", Kind.NUMBER: 0.5, Kind.INTEGER: 2, Kind.MANAGER: 0,
    Kind.SIDES: [["h1"], ["h2", "management"]], Kind.SWITCH: "off",
}  # fmt: skip


@pytest.mark.parametrize("do", ACTS)
def test_every_act_is_taken_with_its_arguments_and_refused_without(do: str) -> None:
    """Each `do` of design section 9 takes its arguments, needs those that have no default, and takes no others."""
    full = {}
    for item in ACTS[do]:
        example = item.choices[0] if item.choices else EXAMPLES.get(item.kind, "h1" if item.name == "from" else "management")
        full[item.name] = example
    assert scenario.parse(raw(**step(do, **full))).timeline[0].do == do

    for item in ACTS[do]:
        less = {name: value for name, value in full.items() if name != item.name}
        if item.default == "required":
            assert wrong(**step(do, **less))[f"timeline[0].{item.name}"] == "is required"
        elif not (do == "liar" and item.name == "of"):
            scenario.parse(raw(**step(do, **less)))
    assert "unknown key" in wrong(**step(do, **full, nonsense=1))["timeline[0].nonsense"]


def test_the_acts_are_those_of_the_design() -> None:
    """Every act that the design names is there, and what was added since."""
    named = (
        "crash boot reboot isolate heal partition heal_all link agent_stop agent_start exporter_stop exporter_start"
        " hypervisor_hang hypervisor_resume goodbye manager_crash manager_start evac_crash evac_start store_down store_up"
        " store_flush ha_enable ha_disable maintenance_on maintenance_off drain vm_pause vm_resume vm_stop vm_start vm_migrate"
        " fail_starts fail_migrations fence_fail fence_heal confirm_off liar clock_rate vm_ha vm_delete"
        " hot_add"
    )
    assert set(ACTS) == set(named.split())


@pytest.mark.parametrize(
    ("changes", "place", "text"),
    [
        ({"nonsense": 1}, "nonsense", "unknown key; there are name, seed,"),
        ({"until": -1}, "until", "must be more than 0, is -1"),
        ({"until": "soon"}, "until", 'must be a number, is "soon"'),
        ({"until": True}, "until", "must be a number, is true"),
        ({"seed": 1.5}, "seed", "must be a whole number, is 1.5"),
        ({"profile": "quick"}, "profile", 'must be one of standard, fast, is "quick"'),
        ({"managers": 0}, "managers", "must be from 1 to 100, is 0"),
        ({"timers": {"cooldown": 1}}, "timers.cooldown", "unknown timer; there are peer_refresh_s,"),
        ({"timers": {"cooldown_s": "1"}}, "timers.cooldown_s", 'must be a number, is "1"'),
        ({"timers": {"cooldown_s": -1}}, "timers.cooldown_s", "must be 0 or from 0.05 s"),
        ({"timers": {"wait_duration_s": 5}}, "timers.wait_duration_s", "breaks I2: "),
        ({"cluster": {"id": "C 1"}}, "cluster.id", "must be 1 to 63 of a-z"),
        ({"cluster": {"fencing": "sometimes"}}, "cluster.fencing", "must be one of none, always, fails"),
        ({"cluster": {"ha_enabled": "yes"}}, "cluster.ha_enabled", 'must be true or false, is "yes"'),
        ({"cluster": {"max_down_fraction": 2}}, "cluster.max_down_fraction", "must be from 0 to 1, is 2"),
        ({"cluster": []}, "cluster", "must be an object, is an empty list"),
        ({"hosts": []}, "hosts", "must name at least one host"),
        ({"hosts": {"id": "h1"}}, "hosts", "must be a list of objects, is an object"),
        ({"hosts": [{"id": "h1"}, {"id": "h1"}]}, "hosts[1].id", '"h1" is hosts[0] already'),
        ({"hosts": [{"id": "h1", "vcpus": 0}]}, "hosts[0].vcpus", "must be from 1 to"),
        ({"hosts": [{"id": "h1", "roles": ["cook"]}]}, "hosts[0].roles[0]", "must be one of hypervisor,"),
        ({"hosts": [{"id": "h1", "power": "off"}]}, "vms[0].state", 'must be shutoff: its host "h1" has its power off'),
        ({"hosts": [{"id": "h1"}, {"id": "store"}]}, "hosts[1].id", '"store" is a part of the management plane'),
        ({"vms": [{"id": "vm1"}]}, "vms[0].host", "is required"),
        ({"vms": [{"id": "vm1", "host": "h9"}]}, "vms[0].host", 'unknown host "h9"; there are h1, h2, h3'),
        ({"vms": [{"id": "a", "host": "h1"}, {"id": "a", "host": "h2"}]}, "vms[1].id", '"a" is vms[0] already'),
        ({"vms": [{"id": "vm1", "host": "h1", "state": "dead"}]}, "vms[0].state", "must be one of running, paused, shutoff"),
        ({"groups": [{"id": "g", "policy": "love", "vms": ["vm1"]}]}, "groups[0].policy", "must be one of affinity,"),
        ({"groups": [{"id": "g", "policy": "affinity", "vms": ["vm9"]}]}, "groups[0].vms[0]", 'unknown VM "vm9"'),
        ({"timeline": [{"at": -1, "do": "crash", "host": "h1"}]}, "timeline[0].at", "must be at least 0, is -1"),
        ({"timeline": [{"at": 101, "do": "crash", "host": "h1"}]}, "timeline[0].at", "must not be after until (100)"),
        ({"timeline": [{"at": 1, "do": "explode", "host": "h1"}]}, "timeline[0].do", "must be one of crash, boot,"),
        ({"timeline": [{"at": 1, "do": ["crash"]}]}, "timeline[0].do", "must be one of crash, boot,"),
        ({"timeline": [{"do": "heal_all"}]}, "timeline[0].at", "is required"),
        ({"timeline": [{"at": 1}]}, "timeline[0].do", "is required"),
        ({"timeline": ["crash"]}, "timeline[0]", 'must be an object, is "crash"'),
        (step("crash", host="h9"), "timeline[0].host", 'unknown host "h9"; there are h1, h2, h3'),
        (step("isolate", hosts="h1"), "timeline[0].hosts", 'must be a list of hosts, is "h1"'),
        (step("isolate", hosts=[]), "timeline[0].hosts", "must be at least one of the hosts, is an empty list"),
        (step("isolate", hosts=["h1"], plane="astral"), "timeline[0].plane", "must be one of all, management, peers"),
        (step("partition", sides=[["h1"]]), "timeline[0].sides", "must be at least two sides"),
        (step("partition", sides=[["h1"], ["h1"]]), "timeline[0].sides[1]", '"h1" is on another side too'),
        (step("partition", sides=[["h1"], ["manager/1"]]), "timeline[0].sides[1][0]", 'unknown endpoint "manager/1"'),
        (step("link", **{"from": "h1", "to": "h2", "loss": 1.5}), "timeline[0].loss", "must be from 0 to 1, is 1.5"),
        (step("link", **{"from": "h1", "to": "h1", "loss": 1}), "timeline[0].to", "must be another end than from"),
        (step("manager_crash", i=1), "timeline[0].i", "must be from 0 to 0, is 1"),
        (step("manager_crash", i="some"), "timeline[0].i", 'must be the number of a manager, or "all"'),
        (step("liar", host="h1", says="down"), "timeline[0].of", "is required unless it says truth"),
        (step("clock_rate", host="h1", rate=0), "timeline[0].rate", "must be more than 0, is 0"),
        (step("vm_pause", vm="h1"), "timeline[0].vm", 'unknown VM "h1"; there are vm1, vm2'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(changes: dict[str, Any], place: str, text: str) -> None:
    """Each kind of mistake is refused, at its own place, with what was expected."""
    told = wrong(**changes)

    assert place in told
    assert text in told[place]


def test_everything_wrong_is_told_at_once() -> None:
    """Several mistakes are one answer."""
    told = wrong(until=0, vms=[{"id": "x", "host": "h9"}], **step("crash", host="h8"))

    assert {"until", "vms[0].host", "timeline[0].host"} <= set(told)


def test_acts_are_carried_out_in_the_order_of_time() -> None:
    """The file may list acts in any order; those of one instant keep the file's."""
    made = scenario.parse(
        raw(timeline=[{"at": 9, "do": "heal_all"}, {"at": 2, "do": "evac_crash"}, {"at": 2.0, "do": "evac_start"}])
    )

    assert [act.do for act in made.timeline] == ["evac_crash", "evac_start", "heal_all"]
    assert [act.index for act in made.timeline] == [1, 2, 0]


@pytest.mark.parametrize("key", ["ha", "on", "state"])
@pytest.mark.parametrize(("value", "expected"), [("on", True), ("off", False), (True, True), (False, False)])
def test_vm_ha_takes_its_switch_under_several_names(key: str, value: object, expected: bool) -> None:
    """The design gives the switch of vm_ha no name: `ha` is ours, and what one would guess is taken, too."""
    made = scenario.parse(raw(**step("vm_ha", vm="vm1", **{key: value})))

    assert made.timeline[0].arguments == {"vm": "vm1", "ha": expected}


def test_every_timer_can_be_overridden() -> None:
    """Timers go by their configuration names, and only by those."""
    told = wrong(timers=dict.fromkeys(TIMER_NAMES, "x"))

    assert {f"timers.{name}" for name in TIMER_NAMES} == set(told)


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ('{"until": 10,\n "hosts": [}', "line 2, column 12", "is no JSON"),
        ('{"until": 1, "until": 2}', "until", "is given twice"),
        ('{"until": NaN}', "NaN", "is no number of JSON"),
        ("[]", "scenario", "must be an object"),
        ("", "line 1, column 1", "is no JSON"),
    ],
)
def test_a_file_that_is_no_json_is_refused_with_its_place(tmp_path: Path, text: str, place: str, told: str) -> None:
    """Errors of syntax come with line and column."""
    path = tmp_path / "scenario.json"
    path.write_text(text)

    with pytest.raises(InvalidField) as caught:
        scenario.load(path)

    assert place in caught.value.violations[0].field
    assert told in caught.value.violations[0].description


def test_the_command_exits_2_and_names_the_place(tmp_path: Path) -> None:
    """`run` of a wrong file prints each mistake on a line of its own, writes no result, and ends with 2."""
    path, out = tmp_path / "scenario.json", tmp_path / "result.json"
    path.write_text(json.dumps(raw(**step("crash", host="h9"), until=-5)))

    ended = subprocess.run(
        [sys.executable, "-m", "vmha.sim", "run", str(path), "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ended.returncode == 2
    assert 'timeline[0].host: unknown host "h9"; there are h1, h2, h3\n' in ended.stderr
    assert "until: must be more than 0, is -5\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not out.exists()


def test_a_missing_file_exits_2(tmp_path: Path) -> None:
    """A file that is not there is a wrong file."""
    ended = subprocess.run(
        [sys.executable, "-m", "vmha.sim", "run", str(tmp_path / "no.json")],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ended.returncode == 2
    assert "cannot be read" in ended.stderr
