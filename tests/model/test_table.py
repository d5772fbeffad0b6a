"""docs/safety.md says which mutants there are, and no more."""

from __future__ import annotations

import re
from pathlib import Path

from tests.model.table import rows
from vmha.sim.mutants import MUTANTS

SAFETY = (Path(__file__).resolve().parents[2] / "docs" / "safety.md").read_text()


def test_the_document_lists_the_models_mutants() -> None:
    """Each mutant of the models is a row of the table, and each row a mutant."""
    told = re.findall(r"^\| (\w+) \| (.+?) \| (two copies|availability) \|$", SAFETY, re.M)

    assert told == rows()


def test_the_document_lists_the_mutants_of_chaos() -> None:
    """Each mutant of `vmha.sim chaos` has its row."""
    told = re.findall(r"^\| `([\w-]+)` \|", SAFETY, re.M)

    assert told == list(MUTANTS)
