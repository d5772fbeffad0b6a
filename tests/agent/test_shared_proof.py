"""Tests of vmha.agent.shared_proof: what it takes to believe that a directory is shared."""

from __future__ import annotations

import pytest

from vmha.agent.shared_proof import Owner, Proof, tpm_problem

TOKEN, OTHER = "a" * 32, "b" * 32


class Directory:
    """Hosts that look at one directory, each with a mind of its own."""

    def __init__(self, stamps: dict[str, str] | None = None, token: str = TOKEN) -> None:
        self.stamps = dict(stamps or {})
        self.token = token
        self.proofs: dict[str, Proof] = {}

    def look(self, host_id: str) -> str:
        proof = self.proofs.setdefault(host_id, Proof(host_id))
        proof.saw(self.token, self.stamps)
        self.stamps[host_id] = proof.stamp
        proof.wrote()
        return proof.storage_id


def test_s13_two_hosts_that_see_each_other_write_share_a_directory() -> None:
    """The first look proves nothing to either; the second does, to both."""
    there = Directory()

    assert [there.look("h1"), there.look("h2")] == ["", ""]
    assert [there.look("h1"), there.look("h2")] == [TOKEN, TOKEN]


def test_s13_a_cloned_disk_proves_nothing() -> None:
    """A clone carries token and stamps of others, but they never move: however often a host looks, it is not shared."""
    original = Directory()
    original.look("h1")
    original.look("h2")
    clone = Directory(original.stamps)

    assert [clone.look("h3") for _ in range(5)] == [""] * 5


def test_a_host_alone_proves_nothing() -> None:
    """Its own stamp moves, and that says nothing."""
    there = Directory()

    assert [there.look("h1") for _ in range(5)] == [""] * 5


def test_what_was_proven_outlasts_the_agent() -> None:
    """The host's own stamp says that it saw others: a new process need not wait for anybody, dead or alive."""
    there = Directory()
    for host_id in ("h1", "h2", "h1", "h2"):
        there.look(host_id)
    there.proofs.clear()

    assert there.look("h2") == TOKEN


@pytest.mark.parametrize("stamp", [f"7 {OTHER}", "7 -", "", "nonsense", f"-1 {TOKEN}"])
def test_a_proof_of_something_else_counts_for_nothing(stamp: str) -> None:
    """A stamp of another token, or a broken one, is no proof of this directory."""
    assert Directory({"h1": stamp}).look("h1") == ""


def test_another_token_is_another_storage() -> None:
    """Something else is mounted there: what was proven of the old one does not hold for it."""
    there = Directory()
    for host_id in ("h1", "h2", "h1"):
        there.look(host_id)
    there.token, there.stamps = OTHER, {}

    assert there.look("h1") == ""


def test_a_stamp_always_moves() -> None:
    """Also over restarts of the agent: a host that looks for movement is never kept waiting by a number that comes again."""
    there = Directory()
    seen = set()
    for _ in range(3):
        there.proofs.clear()
        for _ in range(3):
            there.look("h1")
            seen.add(there.stamps["h1"])

    assert len(seen) == 9


@pytest.mark.parametrize(
    ("owner", "problem"),
    [
        (None, ""),
        (Owner(0, 0o711), ""),
        (Owner(0, 0o755), ""),
        (Owner(65534, 0o711), "belongs to user 65534"),
        (Owner(0, 0o700), "cannot pass through"),
        (Owner(0, 0o777), "may write in it"),
    ],
)
def test_s13_the_directory_of_tpm_states_must_be_what_swtpm_needs(owner: Owner | None, problem: str) -> None:
    """root's, passable, and writable by nobody else; one that is not there yet is made by libvirt."""
    found = tpm_problem(owner)

    assert problem in found
    assert bool(found) == bool(problem)
