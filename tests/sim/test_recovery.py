"""The end of a run that is left alone."""

from __future__ import annotations

from tests.sim.scenes import raw
from vmha.sim import campaign, recovery, scenario
from vmha.sim.__main__ import main
from vmha.sim.runner import run

FAULTS = [
    {"at": 5, "do": "maintenance_on", "host": "h3"},
    {"at": 6, "do": "clock_rate", "host": "h2", "rate": 1.0009},
    {"at": 10, "do": "crash", "host": "h1"},
    {"at": 20, "do": "isolate", "hosts": ["h2"]},
    {"at": 21, "do": "evac_crash"},
    {"at": 22, "do": "manager_crash", "i": "all"},
    {"at": 23, "do": "store_down"},
    {"at": 24, "do": "agent_stop", "host": "h3"},
]


def test_a_healed_scenario_ends_in_service() -> None:
    """Whatever stood at its end is mended: every host is HEALTHY, what must run runs, and the invariant has had its say."""
    outcome = run(scenario.parse(recovery.healed(raw(until=30, timeline=FAULTS))))

    assert list(outcome.violations) == []
    assert outcome.truth.final["hosts"] == dict.fromkeys(("h1", "h2", "h3"), "HEALTHY")
    assert outcome.truth.final["vms"]["vm1"]["state"] == "running"
    assert all(contact.undisturbed(120, 270) for contact in outcome.truth.contact.values())


def test_chaos_can_end_each_run_that_way() -> None:
    """The same scenarios, and a tail."""
    [plain] = campaign.findings(1, range(1), 1)
    [healed] = campaign.findings(1, range(1), 1, heal=True)

    assert healed.virtual_s == plain.virtual_s + recovery.REST_S
    assert main(["chaos", "--runs", "1", "--jobs", "1", "--heal"]) == 0
