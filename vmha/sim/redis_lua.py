"""Runs Redis scripts in the process: a Lua 5.1, as Redis has, whose redis.call ends at a function of ours.

One interpreter serves every server of the process, and compiles each script once: a Lua state that refers to its server and is
referred to by it is never collected, and compiling costs more than running. Scripts cannot see one another: they have no globals
of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from lupa import lua51

from vmha.sim.redis_values import ReplyError, Status

PARTS = 1000
"""More values than this are handed over in a table: Lua's stack has an end."""
Execute = Callable[[Sequence[bytes]], Any]


class _Ending:
    """What a script ended with that is no value: Lua takes bytes apart, but leaves this alone."""

    def __init__(self, text: bytes) -> None:
        self.text = text


class _Error(_Ending):
    """An error."""


class _Status(_Ending):
    """A status reply."""


class Engine:
    """The interpreter. `run` is not reentrant: a script runs to its end, as in Redis."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False)
        text = (resources.files("vmha.sim") / "redis_scripts.lua").read_bytes()
        self._execute: Execute | None = None
        self._compile, self._run, self._run_long = self._lua.execute(
            text, self._call, self._decode, _sha1hex, _Error, _Status, _list, _extend
        )
        self._scripts: dict[str, Any] = {}

    def load(self, text: bytes) -> str:
        """Compiles a script; its hash.

        Raises:
            ReplyError: It is not Lua.
        """
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        if sha not in self._scripts:
            compiled = self._compile(text)
            if isinstance(compiled, tuple):
                raise ReplyError(f"ERR Error compiling script (new function): {compiled[1].decode()}")
            self._scripts[sha] = compiled
        return sha

    def run(self, sha: str, keys: Sequence[bytes], arguments: Sequence[bytes], execute: Execute) -> Any:
        """Runs a script that was loaded.

        Args:
            execute: Carries out one command of the script.

        Raises:
            ReplyError: The script failed; what it wrote before remains, as in Redis.
        """
        self._execute = execute
        try:
            if len(keys) == 1 and len(arguments) <= PARTS:
                reply = self._run(self._scripts[sha], keys[0], *arguments)
            else:
                reply = self._run_long(self._scripts[sha], self._table(keys), self._table(arguments))
        finally:
            self._execute = None
        if type(reply) is _Error:
            raise ReplyError(reply.text.decode("utf-8", "replace"))
        return Status(reply.text) if type(reply) is _Status else reply

    def _call(self, *arguments: Any) -> Any:
        """redis.call: the command's reply as Lua sees it; nil, kind and parts where it is more than one value."""
        assert self._execute is not None
        try:
            reply = self._execute([part if type(part) is bytes else _argument(part) for part in arguments])
        except ReplyError as error:
            return None, 3, str(error).encode()
        kind = type(reply)
        if kind is bytes or kind is int:
            return reply
        if reply is None:
            return False
        if kind is Status:
            return None, 2, bytes(reply)
        if list in map(type, reply) or len(reply) > PARTS:
            return self._lua_value(reply)
        if None in reply:
            reply = [False if part is None else part for part in reply]
        return None, 1, *reply

    def _table(self, parts: Sequence[Any] | dict[bytes, Any]) -> Any:
        return self._lua.table_from(parts)

    def _lua_value(self, value: Any) -> Any:
        """A reply as a Lua value."""
        if isinstance(value, list):
            return self._table([self._lua_value(part) for part in value])
        return False if value is None else value

    def _decode(self, text: bytes, null: Any) -> Any:
        """cjson.decode: the value, or nil and an error."""
        try:
            value, has_null = _parsed(text)
        except ValueError as error:
            return None, f"Expected value but found invalid token: {error}".encode()
        if has_null or not isinstance(value, dict | list):
            return self._made(value, null)
        return self._lua.table_from(value, recursive=True)

    def _made(self, value: Any, null: Any) -> Any:
        """A parsed value as a Lua value."""
        if isinstance(value, dict):
            return self._table({name: self._made(part, null) for name, part in value.items()})
        if isinstance(value, list):
            return self._table([self._made(part, null) for part in value])
        return null if value is None else value


@lru_cache(1024)
def _parsed(text: bytes) -> tuple[Any, bool]:
    """A JSON text with text as bytes and numbers as Lua has them, and whether there is a null in it.

    Remembered: a script decodes the same entry several times, and the next step decodes it again. Nobody changes the value.
    """
    value = json.loads(text)
    return _in_bytes(value), b"null" in text and _has_null(value)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_null(part) for part in value.values())
    return value is None or (isinstance(value, list) and any(_has_null(part) for part in value))


def _in_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return {name.encode(): _in_bytes(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_in_bytes(part) for part in value]
    return value if value is None or isinstance(value, bool) else float(value)


def _argument(value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReplyError("ERR Lua redis lib command arguments must be strings or integers")
    return b"%.17g" % value


def _sha1hex(text: Any = b"") -> bytes:
    text = text if isinstance(text, bytes) else b"%.14g" % text
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _list(*parts: Any) -> list[Any]:
    return list(parts)


def _extend(parts: list[Any], *more: Any) -> None:
    parts.extend(more)


@cache
def engine() -> Engine:
    """The interpreter of this process."""
    return Engine()
