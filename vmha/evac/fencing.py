"""Asks and orders a host's fence device through the programs of the fence-agents project (design 5.3, docs/decisions/003).

A program gets `key=value` lines on its standard input, never arguments: arguments show in the process list. Secrets come from
files and appear in no log, message or error. "off" is believed only when the exit code (2) and the printed status agree: an
interpreter that does not find its script also exits with 2.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from vmha.evac.reasons import ProofReason
from vmha.model import FenceConfig

AGENT_PATTERN = re.compile(r"fence_[a-z0-9_]+\Z")
SEARCH_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"
"""Where fence agents are looked for, before PATH."""
OUTPUT_LIMIT = 16 * 1024
SECRET_LIMIT = 4096
KILL_S = 1.0
"""How long the pipes of a killed agent may take to close."""
_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_STATUS_OFF = re.compile(r"^Status:\s*OFF\s*$", re.MULTILINE | re.IGNORECASE)
_OURS = frozenset({"action", "option", "o"})


class Power(StrEnum):
    """What a fence device reads."""

    ON = "ON"
    OFF = "OFF"


class FenceFailed(Exception):
    """No answer that counts. `reason` for programs; the text for people, without secrets."""

    def __init__(self, reason: ProofReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FenceDevice(Protocol):
    """A host's power, as seen from here."""

    async def read(self, config: FenceConfig, timeout_s: float) -> Power:
        """Reads the power; raises FenceFailed when there is no answer that counts."""
        ...

    async def order_off(self, config: FenceConfig, timeout_s: float) -> None:
        """Orders "off"; raises FenceFailed when the device refused. Proves nothing either way."""
        ...


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int
    stdout: str
    stderr: str


class FenceAgents:
    """The programs of the fence-agents project.

    `search_path`: folders, separated by colons, where the programs are looked for.
    """

    def __init__(self, search_path: str | None = None) -> None:
        self._search_path = search_path if search_path is not None else f"{SEARCH_PATH}:{os.environ.get('PATH', '')}"

    async def read(self, config: FenceConfig, timeout_s: float) -> Power:
        """Asks for the status. 0 is on; 2 with a printed "Status: OFF" is off; all else is no answer."""
        ended, secrets = await self._run(config, "status", timeout_s)
        if ended.code == 0:
            return Power.ON
        if ended.code == 2 and _STATUS_OFF.search(ended.stdout):
            return Power.OFF
        raise FenceFailed(ProofReason.FENCE_FAILED, _complaint(config, "status", ended, secrets))

    async def order_off(self, config: FenceConfig, timeout_s: float) -> None:
        """Orders "off"."""
        ended, secrets = await self._run(config, "off", timeout_s)
        if ended.code != 0:
            raise FenceFailed(ProofReason.FENCE_FAILED, _complaint(config, "off", ended, secrets))

    async def _run(self, config: FenceConfig, action: str, timeout_s: float) -> tuple[_Ended, list[str]]:
        program = self._resolve(config.agent)
        secrets = await asyncio.to_thread(_read_secrets, config.secret_files)
        lines = _lines({**config.parameters, **secrets}, action)
        try:
            async with asyncio.timeout(timeout_s):
                return await _call(program, lines.encode()), _to_hide(config, secrets)
        except TimeoutError:
            message = f"{config.agent} gave no answer to {action} within {timeout_s:g} s"
            raise FenceFailed(ProofReason.FENCE_TIMEOUT, message) from None
        except OSError as error:
            message = f"{config.agent} cannot be run: {error.strerror}"
            raise FenceFailed(ProofReason.FENCE_AGENT_UNKNOWN, message) from error

    def _resolve(self, agent: str) -> str:
        found = shutil.which(agent, path=self._search_path) if AGENT_PATTERN.match(agent) else None
        if found is None:
            message = f"no fence agent {agent!r} is installed (package fence-agents)"
            raise FenceFailed(ProofReason.FENCE_AGENT_UNKNOWN, message)
        return found


def _read_secrets(files: Mapping[str, str]) -> dict[str, str]:
    secrets = {}
    for key, path in files.items():
        try:
            with Path(path).open(encoding="utf-8") as file:
                secrets[key] = file.read(SECRET_LIMIT).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            message = f"the secret file of {key} cannot be read: {type(error).__name__}"
            raise FenceFailed(ProofReason.FENCE_SECRET_UNREADABLE, message) from error
    return secrets


def _lines(parameters: Mapping[str, str], action: str) -> str:
    wrong = [key for key in parameters if not _KEY.match(key) or key in _OURS]
    wrong += [key for key, value in parameters.items() if any(c in value for c in "\r\n\0")]
    if wrong:
        raise FenceFailed(ProofReason.FENCE_PARAMETERS_WRONG, f"parameters that cannot be passed on: {', '.join(sorted(wrong))}")
    return "".join(f"{key}={value}\n" for key, value in {**parameters, "action": action}.items())


def _to_hide(config: FenceConfig, secrets: Mapping[str, str]) -> list[str]:
    named = [value for key, value in config.parameters.items() if "pass" in key or "secret" in key or "token" in key]
    return sorted((value for value in [*secrets.values(), *named] if value), key=len, reverse=True)


def _complaint(config: FenceConfig, action: str, ended: _Ended, secrets: list[str]) -> str:
    said = next((line.strip() for line in reversed(ended.stderr.splitlines()) if line.strip()), "")
    for secret in secrets:
        said = said.replace(secret, "***")
    return f"{config.agent} {action} ended with {ended.code}: {said[:200] or 'it said nothing'}"


async def _call(program: str, lines: bytes) -> _Ended:
    process = await asyncio.create_subprocess_exec(
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={"PATH": SEARCH_PATH, "LANG": "C", "LC_ALL": "C"},
    )
    assert process.stdin and process.stdout and process.stderr
    readers = [asyncio.create_task(_read_some(stream)) for stream in (process.stdout, process.stderr)]
    try:
        await _feed(process.stdin, lines)
        await asyncio.wait(readers)
        return _Ended(await process.wait(), *(reader.result() for reader in readers))
    finally:
        if process.returncode is None or not all(reader.done() for reader in readers):
            _kill_group(process.pid)  # itself, or a child that it left behind
        await asyncio.wait(readers, timeout=KILL_S)
        for reader in readers:
            reader.cancel()
        process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way to let its pipes go


async def _feed(stdin: asyncio.StreamWriter, lines: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading; its exit code says the rest
        stdin.write(lines)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()


async def _read_some(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    while chunk := await stream.read(OUTPUT_LIMIT):
        kept += chunk[: OUTPUT_LIMIT - len(kept)]  # the rest is read and dropped, so that the agent never blocks
    return kept.decode(errors="replace")


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
