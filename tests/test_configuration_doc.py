"""docs/configuration.md names every key that exists, and the timers' figures are the code's."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from vmha.cli import cluster_file
from vmha.config import AgentSettings, EvacSettings, ManagerSettings
from vmha.model import FAST_TIMERS, STANDARD_TIMERS, Timers

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "configuration.md").read_text()
KEYS = set(re.findall(r"`([a-z_]+)`", DOCUMENT))


@pytest.mark.parametrize("settings", [ManagerSettings, AgentSettings, EvacSettings])
def test_every_setting_of_a_process_is_documented(settings: type[ManagerSettings]) -> None:
    """No key of a service's file is missing from the document."""
    assert set(settings.model_fields) - KEYS == set()


@pytest.mark.parametrize("section", ["_Cluster", "_Host", "_Group"])
def test_every_key_of_a_cluster_file_is_documented(section: str) -> None:
    """No key of a cluster file is missing from the document."""
    assert set(getattr(cluster_file, section).model_fields) - KEYS == set()


def test_the_documented_timers_are_those_of_the_profiles() -> None:
    """Each timer's row shows the figures of both profiles."""
    expected = {f.name: (getattr(STANDARD_TIMERS, f.name), getattr(FAST_TIMERS, f.name)) for f in fields(Timers)}

    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", DOCUMENT, re.M)

    assert {name: (float(standard), float(fast)) for name, standard, fast in rows} == expected
