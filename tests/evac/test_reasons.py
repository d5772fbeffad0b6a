"""docs/reasons.md says of every reason what it means."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from vmha.evac.reasons import REFUSAL_WORDS, AlarmReason, HostRefusal, ProofReason, VmReason

TOP = Path(__file__).resolve().parents[2]
DOC = TOP / "docs" / "reasons.md"
MANAGERS = re.compile(r"""raise_alarm\(\s*(?:\w+,\s*)?"([A-Z_]+)\"""")


def listed(heading: str) -> set[str]:
    """The first column of the table under a heading."""
    [_, section] = DOC.read_text().split(f"## {heading}\n", 1)
    return set(re.findall(r"^\| ([A-Z_]+) \|", section.split("\n## ")[0], re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "reasons"),
    [
        ("VMs of an evacuation", VmReason),
        ("Why a host is no target", HostRefusal),
        ("Why there is no proof yet", ProofReason),
    ],
)
def test_every_reason_is_documented(heading: str, reasons: type[StrEnum]) -> None:
    """The table and the code name the same reasons."""
    assert listed(heading) == {reason.value for reason in reasons}


def test_a_refused_host_is_explained_as_documented() -> None:
    """What an explanation says of a refusal is what the document says."""
    [_, section] = DOC.read_text().split("## Why a host is no target\n", 1)
    rows = re.findall(r"^\| ([A-Z_]+) \| (.+) \|$", section.split("\n## ")[0], re.MULTILINE)

    assert {reason: words.replace("`", "") for reason, words in rows} == REFUSAL_WORDS


def test_every_alarm_is_documented() -> None:
    """What manager and evacuator raise stands in the table of alarms."""
    raised = {reason.value for reason in AlarmReason}
    for module in (TOP / "vmha" / "manager").glob("*.py"):
        raised |= set(MANAGERS.findall(module.read_text()))

    assert raised <= listed("Alarms")
