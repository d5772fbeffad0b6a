"""Proof that a directory called shared is: another host writes there (S13, docs/decisions/023). Pure.

A token alone proves nothing, since a disk that was cloned carries it along. So each host also keeps a stamp there, and counts it
up at each look. A host that sees another's stamp move, or appear, while it looks on, knows that both write to one storage. It
notes that in its own stamp, so that it need not wait for anybody when it comes back; a clone has no stamp of its host's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NOT_SEEN: Final = "no other host has been seen to write here, so nothing shows that it is shared"
_STAMP: Final = re.compile(r"([0-9]{1,15}) ([0-9a-f]{32}|-)\Z")
_OTHERS_WRITE: Final = 0o022
_OTHERS_PASS: Final = 0o001
_ROOT: Final = 0


class Proof:
    """What one host has seen in one directory."""

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._token = ""
        self._count = 0
        self._proven = False
        self._others: dict[str, str] = {}

    @property
    def storage_id(self) -> str:
        """The token, once another host was seen to write beside it; else empty."""
        return self._token if self._proven else ""

    @property
    def stamp(self) -> str:
        """What this host is to write next."""
        return f"{self._count + 1} {self.storage_id or '-'}"

    def saw(self, token: str, stamps: Mapping[str, str]) -> None:
        """Token and stamps (host_id -> text) were read.

        Args:
            stamps: Its own, and everybody's as long as `storage_id` is empty.
        """
        own = _STAMP.match(stamps.get(self._host_id, ""))
        others = {host_id: text for host_id, text in stamps.items() if host_id != self._host_id}
        if token != self._token:
            self._token = token
            self._proven = own is not None and own[2] == token
        elif any(self._others.get(host_id) != text for host_id, text in others.items()):
            self._proven = True
        self._count = max(self._count, int(own[1]) if own else 0)
        self._others = others

    def wrote(self) -> None:
        """`stamp` was written."""
        self._count += 1


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a directory is: user id, and permission bits."""

    uid: int
    mode: int


def tpm_problem(owner: Owner | None) -> str:
    """What is wrong with the directory of TPM states; empty when nothing is. None: it is not there, and libvirt will make it.

    libvirt makes it root's, with mode 0711: swtpm runs as a user of its own and has to pass through it to the VM's directory.
    """
    if owner is None:
        return ""
    if owner.uid != _ROOT:
        return f"belongs to user {owner.uid}: libvirt needs it to be root's (is the export root_squash?)"
    if owner.mode & _OTHERS_WRITE:
        return f"has mode {owner.mode:04o}: others than root may write in it"
    if not owner.mode & _OTHERS_PASS:
        return f"has mode {owner.mode:04o}: swtpm's user cannot pass through it, 0711 is needed"
    return ""
