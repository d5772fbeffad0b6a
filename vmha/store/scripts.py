"""Runs the store's Lua scripts, and turns what Redis says into vmha's errors.

A script is `lua/<name>.lua` after the key functions of keys.py, `prelude.lua` and the pieces it names with `-- uses: <piece>`.
Each is one atomic change, safe to repeat: redis-py may send it twice, and after a timeout nobody knows whether it ran.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from vmha.errors import (
    Aborted,
    AlreadyExists,
    FieldViolation,
    InvalidField,
    NotFound,
    PreconditionFailed,
    Unavailable,
    VmhaError,
)
from vmha.store import keys
from vmha.store.codec import text

REFUSALS: Mapping[str, tuple[type[VmhaError], str]] = {
    "CLUSTER_UNKNOWN": (NotFound, "There is no such cluster."),
    "HOST_UNKNOWN": (NotFound, "There is no such host in the cluster."),
    "GROUP_UNKNOWN": (NotFound, "There is no such group in the cluster."),
    "VM_UNKNOWN": (NotFound, "There is no such VM in the cluster."),
    "EVACUATION_UNKNOWN": (NotFound, "There is no such evacuation, or it ended too long ago."),
    "CLUSTER_EXISTS": (AlreadyExists, "The cluster exists with other settings."),
    "HOST_EXISTS": (AlreadyExists, "The host exists with other settings or in another cluster."),
    "GROUP_EXISTS": (AlreadyExists, "The group exists with other fields."),
    "CLUSTER_ENABLED": (PreconditionFailed, "Protection is on; disable the cluster first."),
    "CLUSTER_NOT_EMPTY": (PreconditionFailed, "The cluster still has hosts."),
    "HOST_OWNS_VMS": (PreconditionFailed, "The host still owns VMs."),
    "HOST_NOT_DOWN": (PreconditionFailed, "The host is not confirmed down."),
    "ETAG_MISMATCH": (Aborted, "It was changed meanwhile; read it again."),
    "CONFIG_CHANGED": (Aborted, "Another configuration of the safety protocol was made meanwhile; read it again."),
    "SAFE_MODE": (Unavailable, "The store has lost writes; nothing is started before every host has said what it runs."),
    "HOST_BUSY": (Aborted, "The host has an open incident or an evacuation that has not ended."),
    "STALE_INCARNATION": (Aborted, "The registration is not the one in force or on offer."),
    "STALE_LEADER_TERM": (Aborted, "A newer leader decides for this cluster."),
    "STALE_FENCE_EPOCH": (Aborted, "The host's fence epoch is another one."),
    "STALE_VM_EPOCH": (Aborted, "The VM's ownership changed meanwhile."),
    "VM_MIGRATED_AWAY": (Aborted, "The VM left its host by a live migration and was not seen since."),
    "CONFIG_UNCONFIRMED": (Aborted, "The target does not hold the newest configuration of the safety protocol yet (R18)."),
    "VM_MIGRATING": (Aborted, "Another host has the VM, or may get it by a migration that nobody has seen the end of (R22)."),
    "VM_LOCKED": (Aborted, "Somebody else moves the VM."),
    "VM_RUNS_ON_TARGET": (Aborted, "The target's agent reports the VM running; it is not started elsewhere."),
    "VM_SETTLED": (Aborted, "The VM has its outcome already."),
    "EVACUATION_UNPROVEN": (Aborted, "The host's death is not proven; no VM may be claimed."),
    "EVACUATION_ENDED": (Aborted, "The evacuation has ended."),
    "RUNNER_SUPERSEDED": (Aborted, "Another runner holds this evacuation."),
}
"""Every refusal of a script: its error and text."""

_USES = re.compile(r"^-- uses: (\w+)$", re.MULTILINE)
_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.RedisClusterException,
    exceptions.ClusterError,
    TimeoutError,
    OSError,
)
_TRANSIENT = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "BUSY", "OOM", "READONLY", "NOREPLICAS", "UNBLOCKED")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns a Redis that does not answer, or may not write now, into Unavailable("STORE_UNAVAILABLE").

    The message names the kind of failure only: an address may carry a password.
    """
    task = asyncio.current_task()
    cancels = task.cancelling() if task is not None else 0
    try:
        yield
        if task is not None and task.cancelling() > cancels:
            # redis-py sends through asyncio.wait_for, which on Python 3.11 swallows a cancel that comes with the result.
            raise asyncio.CancelledError
    except _AWAY as error:
        raise Unavailable("STORE_UNAVAILABLE", f"Redis does not answer ({type(error).__name__}).") from error
    except exceptions.ResponseError as error:
        if isinstance(error, exceptions.ReadOnlyError | exceptions.OutOfMemoryError) or _is_transient(error):
            raise Unavailable("STORE_UNAVAILABLE", f"Redis cannot write now ({type(error).__name__}).") from error
        raise


def _is_transient(error: exceptions.ResponseError) -> bool:
    words = str(error).split(maxsplit=1)
    return bool(words) and (words[0] in _TRANSIENT or any(f" {word} " in str(error) for word in ("OOM", "MISCONF", "READONLY")))


def _lua(name: str) -> str:
    return (resources.files("vmha.store") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def source(name: str) -> str:
    """The whole text of a script as Redis gets it."""
    body = _lua(name)
    prelude = _lua("prelude")
    for constant in ("EVENTS_KEPT", "FINISHED_TTL_S", "EVACUATIONS_KEPT", "TOMBSTONE_TTL_S", "EVENT_TOKEN_TTL_S"):
        prelude = prelude.replace(f"@{constant}@", str(getattr(keys, constant)))
    pieces = [_lua(piece) for piece in _USES.findall(body)]
    prefix = "local P = string.sub(KEYS[1], 1, -8)"
    return "\n".join([prefix, keys.lua_functions(), prelude, *pieces, body])


class Scripts:
    """The store's scripts on one client; each is loaded at its first use, and again after Redis has forgotten it.

    Args:
        term: Of the leader that runs them, 0 for others; Redis refuses an older term than the newest it has seen (R19).
    """

    def __init__(self, client: Redis, term: int = 0) -> None:
        self._client = client
        self._term = term
        self._scripts: dict[str, AsyncScript] = {}

    def under(self, term: int) -> Scripts:
        """The same scripts, run by the leader of a term."""
        return Scripts(self._client, term)

    async def run(
        self, name: str, cluster_id: str, *arguments: str | int | float, refusals: Mapping[str, type[VmhaError]] | None = None
    ) -> list[Any]:
        """Runs a script on a cluster's keys; returns what follows its "OK".

        Args:
            name: The file's name without .lua.
            cluster_id: Which cluster.
            arguments: ARGV.
            refusals: Other error classes for single refusals of this call.

        Raises:
            VmhaError: As REFUSALS says; Aborted("STALE_LEADER_TERM"); Unavailable when Redis does not answer.
        """
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._client.register_script(source(name))
        with store_errors():
            reply = await script(keys=[keys.CLUSTER(cluster_id)], args=[self._term, *arguments])
        status = text(reply[0])
        if status == "OK":
            return list(reply[1:])
        raise refusal(status, pairs(reply[1:]) | {"cluster_id": cluster_id}, (refusals or {}).get(status))

    async def command(self, *arguments: str | bytes | int) -> Any:
        """One plain command: reads, and writes that are the same when repeated.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
        """
        with store_errors():
            return await self._client.execute_command(*arguments)  # type: ignore[no-untyped-call]


def pairs(flat: list[Any]) -> dict[str, str]:
    """A flat name, value, name, value ... list as a dict of text."""
    return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat) - 1, 2)}


def refusal(reason: str, metadata: Mapping[str, str], kind: type[VmhaError] | None = None) -> VmhaError:
    """The error of a refusal."""
    if reason == "REQUEST_ID_REUSED":
        violation = FieldViolation("request_id", "was used for another evacuation: a new incident needs a new one")
        return InvalidField([violation], reason=reason, metadata=metadata)
    standard, message = REFUSALS[reason]
    shown = ", ".join(f"{name} {value}" for name, value in metadata.items() if value)
    return (kind or standard)(reason, f"{message} ({shown})", metadata)
