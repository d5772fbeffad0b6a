"""The slow suite's campaign: other seeds than those that the code was made with, through the command line, in parts.

make test-slow CHAOS_RUNS=2000                       # fewer runs: the first parts
make test-slow ARGS="-k 'seed_2 or seed_3'"          # one sitting of several: these seeds only
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

RUNS: Final = int(os.environ.get("VMHA_CHAOS_RUNS", "50000"))
FIRST_SEED: Final = 2
"""Seed 1 is the one that everybody runs."""
RUNS_OF_SEED: Final = 5_000
HEALED_SEED: Final = 12
HEALED_RUNS: Final = 2_000
PART: Final = 1_000
PART_LIMIT_S: Final = 5_400
"""A core does a run in a second, more or less."""


def _parts() -> list[object]:
    """(seed, first, runs) of each part."""
    starts = range(0, RUNS, PART)
    places = [(FIRST_SEED + at // RUNS_OF_SEED, at % RUNS_OF_SEED, min(PART, RUNS - at)) for at in starts]
    return [pytest.param(*place, id=f"seed_{place[0]}_from_{place[1]}") for place in places]


@pytest.mark.slow
@pytest.mark.timeout(PART_LIMIT_S + 60)
@pytest.mark.parametrize(("seed", "first", "runs"), _parts())
def test_random_scenarios_break_nothing(tmp_path: Path, seed: int, first: int, runs: int) -> None:
    """No invariant breaks in any of the runs; what breaks is shrunk, and shown with the command that repeats it."""
    _hold_campaign(tmp_path, seed, first, runs)


@pytest.mark.slow
@pytest.mark.timeout(PART_LIMIT_S + 60)
@pytest.mark.parametrize("first", range(0, min(RUNS, HEALED_RUNS), PART), ids=lambda first: f"seed_{HEALED_SEED}_from_{first}")
def test_a_cluster_that_is_mended_recovers(tmp_path: Path, first: int) -> None:
    """Every fault of a run is ended, and the cluster left alone: every host is in service then, and what must run runs."""
    _hold_campaign(tmp_path, HEALED_SEED, first, min(PART, RUNS - first), "--heal")


def _hold_campaign(tmp_path: Path, seed: int, first: int, runs: int, *flags: str) -> None:
    command = ["-m", "vmha.sim", "chaos", "--seed", str(seed), "--first", str(first), "--runs", str(runs), *flags]
    done = subprocess.run(
        [sys.executable, *command, "--keep-going", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PART_LIMIT_S,
    )

    scenarios = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.glob("*/scenario.json"))]
    assert done.returncode == 0, "\n".join(["python " + " ".join(command), done.stdout, done.stderr, *scenarios])
    assert re.search(rf"^runs +{runs}$", done.stdout, re.MULTILINE), done.stdout
