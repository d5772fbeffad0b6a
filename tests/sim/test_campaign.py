"""Campaigns: many runs, counted; what breaks is written down. And the mutants that they are tried on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from tests.sim.scenes import raw
from vmha.errors import InvalidField
from vmha.sim import campaign, chaos, explain, mutants, scenario, shrink
from vmha.sim.__main__ import WRONG, main
from vmha.sim.runner import run

CRASH = raw(cluster={"fencing": "always"}, until=30, timeline=[{"at": 5, "do": "crash", "host": "h1"}])
ISOLATED = raw(until=45, timeline=[{"at": 5, "do": "isolate", "hosts": ["h1"]}])
"""Between the two lies the lease: here nothing but self-fencing keeps vm1 from running twice."""


def test_a_run_is_counted() -> None:
    """What chaos wants to see happened comes from the run's own events and facts."""
    fenced, isolated = campaign.attempt(CRASH), campaign.attempt(ISOLATED)

    assert (fenced.broken, isolated.broken) == ((), ())
    assert (fenced.counts["evacuations"], fenced.counts["proofs_fence"], fenced.counts["self_fencings"]) == (1, 1, 0)
    assert (isolated.counts["evacuations"], isolated.counts["proofs_lease"], isolated.counts["self_fencings"]) == (1, 1, 1)


def test_a_run_that_fails_is_a_finding() -> None:
    """An error of the simulator itself breaks a campaign, too."""
    found = campaign.attempt({"hosts": []})

    assert found.broken == (campaign.SIMULATOR,)
    assert "InvalidField" in found.story


def test_a_run_without_end_is_a_finding() -> None:
    """The limit counts processor time, so that a halted campaign goes on where it was; no task keeps it for itself."""
    short = "from vmha.sim import campaign; campaign.RUN_LIMIT_S = 0.01; print(campaign.attempt({scenario!r}))"

    done = subprocess.run(
        [sys.executable, "-c", short.format(scenario=CRASH)], capture_output=True, text=True, check=True, timeout=50
    )

    assert f"broken=('{campaign.SIMULATOR}',)" in done.stdout
    assert "more than 0.01 s of processor" in done.stdout


def test_a_rule_that_is_off_is_noticed_and_comes_back() -> None:
    """Without R3 the isolated host keeps its VM, which starts elsewhere; the next run has the rule again."""
    without = campaign.attempt(ISOLATED, mutant="R3")

    assert "proof_is_true" in without.broken
    assert campaign.attempt(ISOLATED).broken == ()


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_a_mutant_replaces_and_gives_back(name: str) -> None:
    """What a mutant patches is there, differs within its context, and is as before after it."""
    mutant = mutants.MUTANTS[name]
    before = [owner.__dict__[attribute] for owner, attribute, _ in mutant.patches]

    with mutant.composition():
        within = [owner.__dict__[attribute] for owner, attribute, _ in mutant.patches]
    after = [owner.__dict__[attribute] for owner, attribute, _ in mutant.patches]

    assert all(a is not b for a, b in zip(before, within, strict=True))
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_an_unknown_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The command names the rules that there are, and ends with 2."""
    with pytest.raises(InvalidField, match="unknown rule"):
        mutants.composition("R99")

    assert main(["chaos", "--runs", "1", "--mutant", "R99"]) == 2
    assert 'unknown rule "R99"; there are I2, R1' in capsys.readouterr().err


def test_a_campaign_says_what_it_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures stand at the end, and 0 is the exit code of a campaign that broke nothing."""
    assert main(["chaos", "--runs", "2", "--seed", "1", "--jobs", "1", "--out", str(tmp_path / "found")]) == 0

    told = dict(line.rsplit(None, 1) for line in capsys.readouterr().out.splitlines())
    assert told["runs"] == "2"
    assert told["violations"] == "0"
    names = {"evacuations", "self fencings", "certificates", "take overs", "store losses", "CPU s", "runs/s"}
    assert names <= {name.strip() for name in told}
    assert not (tmp_path / "found").exists()


def test_what_breaks_is_shrunk_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that breaks an invariant ends the campaign with 1, and leaves the smallest scenario that breaks it so."""
    noisy: dict[str, Any] = {**ISOLATED, "timeline": [{"at": 1, "do": "exporter_stop", "host": "h3"}, *ISOLATED["timeline"]]}
    monkeypatch.setattr(chaos, "generate", lambda seed, number: noisy)
    monkeypatch.setattr(shrink, "TRIES", 6)

    assert main(["chaos", "--runs", "3", "--jobs", "1", "--mutant", "R3", "--out", str(tmp_path)]) == 1

    folder = tmp_path / "1-0-R3"
    small = json.loads((folder / "scenario.json").read_text())
    assert [step["do"] for step in small["timeline"]] == ["isolate"]
    assert "VIOLATION proof_is_true" in (folder / "broken.txt").read_text()
    assert "run 0 breaks" in capsys.readouterr().out


def test_an_account_tells_faults_states_proof_and_places() -> None:
    """replay --explain: line by line, in the order of time, what happened and where each VM ran."""
    text = explain.account(run(scenario.parse(CRASH)), full=True)

    marks = ["! crash host h1", "h1 loses power", "-> DOWN", "FENCED (FENCE)", "vm1 runs on", "-> EVACUATED", "Where each VM ran"]
    places = [text.index(mark) for mark in marks if mark != "vm1 runs on"]
    assert places == sorted(places)
    assert "0 violations" in text
    times = [float(line[:10]) for line in text.splitlines() if line[:10].strip().replace(".", "").isdigit()]
    assert times == sorted(times)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two processes, one scenario with randomness of every kind: the results are equal byte for byte."""
    path = tmp_path / "scenario.json"
    lossy = {"at": 3, "do": "link", "from": "h2", "to": "management", "loss": 0.5}
    path.write_text(json.dumps({**ISOLATED, "managers": 2, "timeline": [lossy, *ISOLATED["timeline"]]}))
    texts = []
    for hash_seed in ("1", "random"):
        out = tmp_path / f"{hash_seed}.json"
        subprocess.run(
            [sys.executable, "-m", "vmha.sim", "run", str(path), "--out", str(out)],
            check=True,
            timeout=55,
            env={"PYTHONHASHSEED": hash_seed},
        )
        texts.append(out.read_bytes())

    assert texts[0] == texts[1]
    assert texts[0].endswith(b"}\n")


def test_a_campaign_that_ends_says_nothing_but_its_figures() -> None:
    """The process that has no more work ends first, in silence."""
    command = [sys.executable, "-m", "vmha.sim", "chaos", "--runs", "4", "--jobs", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=True)

    assert done.stderr == ""
    assert done.stdout.startswith("seed")


def test_a_campaign_whose_process_dies_while_the_next_is_started_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same at the worst moment, where the standard library's pools end in an error of their own or in none."""
    begun: list[SpawnProcess] = []
    start = SpawnProcess.start

    def after_the_death_of_the_first(process: SpawnProcess) -> None:
        for earlier in begun:
            earlier.kill()
            earlier.join()
            time.sleep(0.2)
        begun.append(process)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", after_the_death_of_the_first)
    with pytest.raises(campaign.WorkerLost):
        list(campaign.findings(seed=1, numbers=range(4), jobs=2))
    assert not any(process.is_alive() for process in begun)


def test_a_campaign_whose_process_was_killed_ends() -> None:
    """Its run would never come: the campaign says so, instead of waiting for ever."""
    command = [sys.executable, "-m", "vmha.sim", "chaos", "--runs", "500", "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            worker = _worker_of(process.pid)
            os.kill(worker, signal.SIGKILL)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()

    assert (process.returncode, told) == (WRONG, "a process of the campaign was killed; what it had begun is not told\n")


def _worker_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for _ in range(300):
        for child in children.read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.1)
    raise AssertionError("no process of the campaign was seen")
