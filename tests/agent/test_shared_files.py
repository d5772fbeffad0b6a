"""Tests of vmha.agent.shared_files, on real files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from vmha.agent import shared_files
from vmha.agent.shared_files import Found, Unfit, owner, read, resolve, write
from vmha.agent.shared_proof import Owner


def test_the_first_host_makes_the_token_and_all_read_the_same(tmp_path: Path) -> None:
    """A random token is there after the first look and stays; others' stamps come when they are asked for."""
    first = read(str(tmp_path), "h1", others=True)
    write(str(tmp_path), "h1", "1 -")
    write(str(tmp_path), "h1", "2 -")

    second = read(str(tmp_path), "h2", others=True)

    assert len(first.token) == 32
    assert first.stamps == {}
    assert second == Found(first.token, {"h1": "2 -"})
    assert read(str(tmp_path), "h2", others=False).stamps == {}
    assert sorted(path.name for path in (tmp_path / ".vmha").iterdir()) == ["host.h1", "id"]


def test_hosts_that_come_at_once_agree(tmp_path: Path) -> None:
    """However many make the token at the same moment, all of them read one."""
    found: list[str] = []
    ready = threading.Barrier(8)

    def come(number: int) -> None:
        ready.wait(10)
        found.append(read(str(tmp_path), f"h{number}", others=False).token)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(found) == 8
    assert len(set(found)) == 1


def test_storage_without_hard_links_takes_a_token_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cifs and 9p may refuse links: the token is renamed into its place."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    assert read(str(tmp_path), "h1", others=False).token == read(str(tmp_path), "h2", others=False).token


def test_what_a_killed_agent_left_is_no_obstacle(tmp_path: Path) -> None:
    """A half written file of its own is replaced."""
    read(str(tmp_path), "h1", others=False)
    (tmp_path / ".vmha" / ".new.h1").write_text("half")
    write(str(tmp_path), "h1", "1 -")

    assert read(str(tmp_path), "h1", others=False).stamps == {"h1": "1 -"}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.rmdir(), "cannot be opened: No such file"),
        (lambda path: (path.rmdir(), path.write_text("")), "cannot be opened: Not a directory"),
        (lambda path: (path.rmdir(), path.symlink_to("/tmp")), "cannot be opened"),
        (lambda path: (path / ".vmha").symlink_to("/etc"), ".vmha cannot be made there"),
        (lambda path: (path / ".vmha").write_text(""), ".vmha cannot be made there"),
        (lambda path: ((path / ".vmha").mkdir(), (path / ".vmha").chmod(0o777)), "are not the agents' own"),
        (lambda path: ((path / ".vmha").mkdir(), (path / ".vmha" / "id").symlink_to("/etc/hostname")), "cannot be written"),
        (lambda path: ((path / ".vmha").mkdir(), (path / ".vmha" / "id").write_text("short")), ".vmha/id is broken"),
        (lambda path: ((path / ".vmha").mkdir(), (path / ".vmha" / "id").mkdir()), "are not the agents' own"),
    ],
)
def test_what_cannot_be_trusted_is_said(tmp_path: Path, spoil: object, problem: str) -> None:
    """No directory, symbolic links, what others may write, broken files: each is a problem in words, and nothing is followed."""
    directory = tmp_path / "shared"
    directory.mkdir()
    assert callable(spoil)
    spoil(directory)

    with pytest.raises(Unfit, match=problem.replace(".", r"\.")):
        read(str(directory), "h1", others=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a file of somebody else's")
def test_a_folder_that_somebody_else_made_is_not_trusted(tmp_path: Path) -> None:
    """Whoever may write in the directory could make the folder first, with a token of his liking."""
    folder = tmp_path / ".vmha"
    folder.mkdir()
    (folder / "id").write_text("a" * 32)
    for path in (folder / "id", folder):
        os.chown(path, 12345, 12345)

    with pytest.raises(Unfit, match="are not the agents' own"):
        write(str(tmp_path), "h1", "1 -")


def test_a_stamp_that_cannot_be_trusted_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    """A symbolic link, a pipe, a file that others may write: others' stamps are read without them."""
    token = read(str(tmp_path), "h1", others=False).token
    folder = tmp_path / ".vmha"
    (folder / "host.h2").symlink_to("/etc/hostname")
    os.mkfifo(folder / "host.h3")
    (folder / "host.h4").write_text("4 -")
    (folder / "host.h4").chmod(0o666)
    write(str(tmp_path), "h5", "5 -")

    assert read(str(tmp_path), "h1", others=True) == Found(token, {"h5": "5 -"})


def test_whose_a_directory_is(tmp_path: Path) -> None:
    """Owner and mode; nothing where there is none; a symbolic link is no directory."""
    (tmp_path / "swtpm").mkdir()
    (tmp_path / "swtpm").chmod(0o711)
    (tmp_path / "link").symlink_to(tmp_path / "swtpm")

    assert owner(str(tmp_path / "swtpm")) == Owner(os.geteuid(), 0o711)
    assert owner(str(tmp_path / "none")) is None
    with pytest.raises(Unfit, match="is no directory"):
        owner(str(tmp_path / "link"))


def test_links_are_followed_within_a_root(tmp_path: Path) -> None:
    """Relative and absolute links, links to links, .. and what is not there; an absolute link stays within the root."""
    root = tmp_path / "root"
    (root / "srv" / "nfs").mkdir(parents=True)
    (root / "images").symlink_to("/srv/nfs")
    (root / "srv" / "again").symlink_to("../images")
    (root / "srv" / "loop").symlink_to("loop")

    assert resolve("/images/vm1", str(root)) == "/srv/nfs/vm1"
    assert resolve("/srv/again/./x/../vm1", str(root)) == "/srv/nfs/vm1"
    assert resolve("/none/at/all", str(root)) == "/none/at/all"
    assert resolve("/", str(root)) == "/"
    assert resolve(f"{root}/images") == "/srv/nfs"
    with pytest.raises(Unfit, match="loop"):
        resolve("/srv/loop", str(root))


def test_no_more_than_a_few_bytes_are_read(tmp_path: Path) -> None:
    """A stamp of any length costs no memory."""
    read(str(tmp_path), "h1", others=False)
    (tmp_path / ".vmha" / "host.h2").write_text("9" * 1_000_000)

    assert read(str(tmp_path), "h1", others=True).stamps == {"h2": "9" * shared_files.MAX_BYTES}
