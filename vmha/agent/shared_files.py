"""The files by which hosts see that they share a directory: `.vmha/id`, the token, made once by whoever comes first, and
`.vmha/host.HOST_ID`, each host's stamp. Blocking, for ever on storage that hangs: for a thread that can be given up.

Others may write in the directory (QEMU does), so nothing here follows a symbolic link or trusts a file that is not the agents'.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from vmha.agent.shared_proof import Owner

FOLDER: Final = ".vmha"
ID: Final = "id"
STAMP: Final = "host."
MAX_BYTES: Final = 128
MAX_STAMPS: Final = 4096
_TOKEN_TEXT: Final = re.compile(r"[0-9a-f]{32}\n?\Z")
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unfit(Exception):
    """The directory cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there: the token, and the stamps by host."""

    token: str
    stamps: dict[str, str] = field(default_factory=dict)


def read(directory: str, host_id: str, *, others: bool) -> Found:
    """The token, made if there is none, and this host's stamp; with `others` everybody's.

    Raises:
        Unfit: It is no directory, cannot be read or written, or what is there is not the agents'.
    """
    with _folder(directory) as folder:
        token = _token(folder, host_id)
        names = [f"{STAMP}{host_id}"]
        if others:
            with os.scandir(folder) as entries:
                names += [entry.name for entry in islice(entries, MAX_STAMPS) if entry.name.startswith(STAMP)]
        stamps = {}
        for name in names:
            with suppress(OSError, Unfit):  # being replaced, or another's that is broken: as if it were not there
                stamps[name.removeprefix(STAMP)] = _content(folder, name)
        return Found(token, stamps)


def write(directory: str, host_id: str, stamp: str) -> None:
    """Replace this host's stamp.

    Raises:
        Unfit: It cannot be written.
    """
    with _folder(directory) as folder:
        fresh = _fresh(folder, host_id, stamp)
        try:
            os.replace(fresh, f"{STAMP}{host_id}", src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(fresh, dir_fd=folder)
            raise


def owner(directory: str) -> Owner | None:
    """Whose a directory is; None when it is not there.

    Raises:
        Unfit: It cannot be seen, or is no directory.
    """
    try:
        found = Path(directory).lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unfit(f"cannot be seen: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise Unfit("is no directory")
    return Owner(found.st_uid, stat.S_IMODE(found.st_mode))


def resolve(path: str, root: str = "") -> str:
    """An absolute path without symbolic links, as whoever has `root` as his root directory sees it.

    What is not there, or may not be looked at, stays as it is.

    Raises:
        Unfit: Its links lead in a circle.
    """
    pending, done, links = [part for part in reversed(path.split("/")) if part], "", 0
    while pending:
        part = pending.pop()
        if part in {".", ".."}:
            done = done if part == "." else done.rpartition("/")[0]
            continue
        try:
            target = str(Path(f"{root}{done}/{part}").readlink())
        except OSError:
            done = f"{done}/{part}"
            continue
        links += 1
        if links > 40:
            raise Unfit("has a loop of symbolic links")
        done = "" if target.startswith("/") else done
        pending += [step for step in reversed(target.split("/")) if step]
    return done or "/"


@contextmanager
def _folder(directory: str) -> Iterator[int]:
    """The agents' own folder in a directory, made if there is none."""
    try:
        top = os.open(directory, _FOLDER_FLAGS)
    except OSError as error:
        raise Unfit(_reason("cannot be opened", error)) from None
    try:
        with suppress(FileExistsError):
            os.mkdir(FOLDER, 0o755, dir_fd=top)
        folder = os.open(FOLDER, _FOLDER_FLAGS, dir_fd=top)
    except OSError as error:
        raise Unfit(_reason(f"{FOLDER} cannot be made there", error)) from None
    finally:
        os.close(top)
    try:
        yield folder
    except OSError as error:
        raise Unfit(_reason("cannot be written", error)) from None
    finally:
        os.close(folder)


def _token(folder: int, host_id: str) -> str:
    try:
        text = _content(folder, ID)
    except FileNotFoundError:
        _make_token(folder, host_id)
        text = _content(folder, ID)
    if _TOKEN_TEXT.match(text) is None:
        raise Unfit(f"{FOLDER}/{ID} is broken: remove it, and the agents make another")
    return text.strip()


def _make_token(folder: int, host_id: str) -> None:
    """Whole from its first moment on, and only by one: whoever comes second finds the first one's."""
    fresh = _fresh(folder, host_id, secrets.token_hex(16))
    try:
        os.link(fresh, ID, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.fsync(folder)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No hard links here: of two that come at once the later one's stays, and both read that at their next look.
        os.replace(fresh, ID, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)


def _fresh(folder: int, host_id: str, text: str) -> str:
    """A synced file under a name of this host's own; returns the name."""
    name = f".new.{host_id}"
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # of an agent that was killed here
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    try:
        _must_be_ours(folder, file, name)
        os.write(file, f"{text}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    return name


def _content(folder: int, name: str) -> str:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        _must_be_ours(folder, file, name)
        return os.read(file, MAX_BYTES).decode(errors="replace").strip()
    finally:
        os.close(file)


def _must_be_ours(folder: int, file: int, name: str) -> None:
    """The folder belongs to whom its files do; a file that was just made tells whom the storage takes this host's agent for."""
    found, above = os.fstat(file), os.fstat(folder)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != above.st_uid or (found.st_mode | above.st_mode) & 0o022:
        owners = f"users {found.st_uid} and {above.st_uid}, modes {found.st_mode & 0o7777:04o} and {above.st_mode & 0o7777:04o}"
        raise Unfit(f"{FOLDER}/{name} and {FOLDER} are not the agents' own, or others may write in them ({owners})")


def _reason(what: str, error: OSError) -> str:
    return f"{what}: {error.strerror or error}"
