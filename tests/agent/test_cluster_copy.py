"""Tests of vmha.agent.cluster_copy: what an agent keeps of its cluster, and when it gives it away."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmha.agent.cluster_copy import ClusterCopy
from vmha.agent.state import State
from vmha.agent.state_file import DiskFile, MemoryFile
from vmha.errors import Unavailable
from vmha.rpc.validate_session import MAX_COPY_BYTES
from vmha.v1 import manager_service_pb2 as ms


def copy_of(version: int, cluster_id: str = "c1", content: bytes = b"all of it") -> ms.ConfigurationCopy:
    return ms.ConfigurationCopy(cluster_id=cluster_id, version=version, content=content)


def state() -> State:
    return State(MemoryFile(), MemoryFile(), "h1", "boot-1")


def test_the_newest_copy_outlives_the_boot(tmp_path: Path) -> None:
    """It is on disk, as it came; an older one, an endless one and one without a version change nothing."""
    file = DiskFile(tmp_path / "var" / "copy.binpb")
    copies = ClusterCopy(file, state())
    for copy in (copy_of(7), copy_of(6), copy_of(8, content=b"x" * MAX_COPY_BYTES), copy_of(0)):
        copies.take(copy)
    assert ClusterCopy(file, state()).held == copies.held == copy_of(7)
    copies.take(copy_of(3, "c2"))
    assert ClusterCopy(file, state()).held == copy_of(3, "c2")


def test_it_is_given_away_only_when_it_is_asked_for() -> None:
    """Until a manager knows the cluster again."""
    copies = ClusterCopy(MemoryFile(), state())
    copies.ask()
    assert copies.offered is None, "there is none"
    copies.take(copy_of(7))
    assert copies.offered is None
    copies.ask()
    assert copies.offered is not None and copies.offered.content == b"all of it"
    copies.welcomed()
    assert copies.offered is None


def test_r20_whoever_has_offered_it_shows_that_the_store_may_be_behind() -> None:
    """The generation that is reported is above all that was seen, once for each time of asking, and in later boots, too."""
    file, before = MemoryFile(), state()
    before.saw_generation(41)
    copies = ClusterCopy(file, before)
    copies.take(copy_of(7))
    before.configured(ms.AgentConfig(version=3, voter_host_ids=["h1", "h2"]).SerializeToString())
    copies.ask()
    copies.ask()
    assert before.store_generation == 42
    assert copies.offered is not None and list(copies.offered.voter_host_ids) == ["h1", "h2"]
    later = state()
    ClusterCopy(file, later)
    assert later.store_generation == 42


def test_a_host_that_left_its_cluster_keeps_nothing_of_it() -> None:
    """What was deleted on purpose must not come back; of another cluster it keeps its copy."""
    file = MemoryFile()
    copies = ClusterCopy(file, state())
    copies.take(copy_of(7))
    copies.ask()
    copies.left("")
    copies.left("c2")
    assert copies.offered is not None
    copies.left("c1")
    assert (copies.held.version, ClusterCopy(file, state()).held.version) == (0, 0)
    copies.ask()
    assert copies.offered is None


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"{}"])
def test_a_file_that_is_no_copy_is_as_good_as_none(content: bytes) -> None:
    """The agent starts, and is sent the copy again."""
    file = MemoryFile()
    file.write(content)
    copies = ClusterCopy(file, state())
    assert copies.held.version == 0
    copies.take(copy_of(7))
    assert copies.held == copy_of(7)


def test_a_copy_that_cannot_be_written_is_not_held() -> None:
    """A full disk costs the copy, not the agent; and what is not marked on disk is not offered."""

    class Full(MemoryFile):
        full = False

        def write(self, content: bytes) -> None:
            if self.full:
                raise Unavailable("STATE_UNAVAILABLE", "no space")
            super().write(content)

    file = Full()
    copies = ClusterCopy(file, state())
    copies.take(copy_of(7))
    file.full = True
    copies.take(copy_of(8))
    copies.ask()
    assert (copies.held.version, copies.offered) == (7, None)
