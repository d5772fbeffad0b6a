"""A lab of three hosts for the tests of the lab itself; every test of this folder is marked `lab`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, missing_for_a_lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests; skip them, with the reason, where no lab is possible."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    missing = missing_for_a_lab() if here else None
    for item in here:
        item.add_marker("lab")
        if missing and "needs_no_root" not in item.name:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three hosts that are on when the module begins, and gone when it ends."""
    with Lab() as lab:
        lab.up(3)
        yield lab
