"""A Redis in the process, on a clock of the simulator's: the real store runs on it unchanged, scripts included.

    server = SimRedisServer(clock.wall)
    store = Store(server.client(lambda: network.connected("m1", "redis")))

It is one server with one database and no replicas; each command and each script is carried out at one instant, in the order of
arrival. tests/store runs against it and against a real Redis; tests/sim/test_redis_double.py compares the two command by command.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import exceptions
from redis._parsers.base import BaseParser
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from vmha.sim import redis_commands, redis_ordered
from vmha.sim.redis_lua import engine
from vmha.sim.redis_values import COMMANDS, OK, Arguments, Keyspace, ReplyError, integer, syntax_error

__all__ = ["SimRedis", "SimRedisServer", "redis_commands", "redis_ordered"]

LATENCY_S = 0.0005
"""From a caller to the answer, on a network of one site."""
_WIRE = contextvars.Context()
"""What is under way belongs to nobody: it arrives though its sender was killed."""
TIMEOUT_S = 1.0
"""After which a caller gives up an answer: vmha.store.connect's."""
_ROOMY = 1 << 20
_NOT_FOR_CALLBACKS = {"keys", "NEVER_DECODE", "EMPTY_RESPONSE"}
"""Options of redis-py's commands that its own parse_response takes out."""
_FULL = "OOM command not allowed when used memory > 'maxmemory'."


class SimRedisServer:
    """The data, and whether anybody gets it.

    Args:
        wall: Its machine's wall clock: TIME and the end of keys.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.down = False
        """No process: calls are refused at once."""
        self.frozen = False
        """A process that does not answer: calls end with a timeout. `thaw` ends it."""
        self.stalled: list[Callable[[], Any]] = []
        """Requests that wait in a frozen server's buffers."""
        self.starts = 1
        """Counts up with each start and stop; a caller that waits for an answer across one gets an error."""
        self.full = False
        """maxmemory is too little to write anything."""
        self.calls = 0
        """Commands and scripts that arrived."""
        self._wall = wall
        self._db = Keyspace()
        self._loaded: set[str] = set()
        self._settings = {"maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "no", "save": ""}
        self._own: dict[bytes, Callable[[Arguments], Any]] = {
            b"EVALSHA": self._evalsha,
            b"EVAL": self._eval,
            b"SCRIPT": self._script,
            b"CONFIG": self._config,
            b"INFO": self._info,
        }

    def client(
        self,
        reachable: Callable[[], bool] | None = None,
        *,
        latency_s: float = LATENCY_S,
        timeout_s: float = TIMEOUT_S,
        decode_responses: bool = True,
    ) -> SimRedis:
        """A client as vmha.store.connect makes one, for Store.

        Args:
            reachable: Whether the network carries between the caller and this server now; asked on the way there and back.
            latency_s: There and back, in seconds.
            timeout_s: How long a call waits for an answer that does not come.
        """
        return SimRedis(self, reachable, latency_s=latency_s, timeout_s=timeout_s, decode_responses=decode_responses)

    # -- what happens to it

    def stop(self) -> None:
        """The process ends; what it held is kept for `start`, as with an append-only file."""
        self.starts += 1
        self.down = True
        self.frozen = False
        self.stalled.clear()

    def start(self, *, empty: bool = False) -> None:
        """Starts it after `stop`, or restarts it; callers that wait lose their connection.

        Args:
            empty: What it held is lost.
        """
        self.starts += 1
        self.down = False
        self._loaded.clear()
        if empty:
            self.flush()

    def thaw(self) -> None:
        """It goes on after having been frozen: with the requests that came meanwhile, whose callers have long given up."""
        self.frozen = False
        stalled, self.stalled = self.stalled, []
        for request in stalled:
            request()

    def flush(self) -> None:
        """Deletes everything, and tells nobody."""
        self._db.clear()

    def snapshot(self) -> object:
        """Everything it holds, for `restore`."""
        return self._db.copied()

    def restore(self, snapshot: object) -> None:
        """Goes back to a snapshot, as a replica does that had not seen the last writes when it took over."""
        self._db.replace(snapshot)  # type: ignore[arg-type]

    # -- commands

    def execute(self, arguments: Arguments) -> Any:
        """Carries out one command, now.

        Raises:
            ReplyError: The command was refused.
        """
        self.calls += 1
        self._db.set_now(self._wall())
        own = self._own.get(arguments[0].upper())
        return own(arguments[1:]) if own is not None else self._plain(arguments)

    def _plain(self, arguments: Arguments) -> Any:
        """A command on the keys; also those of a script, all at the script's moment."""
        command = COMMANDS.get(arguments[0]) or COMMANDS.get(arguments[0].upper())
        if command is None:
            raise ReplyError(f"ERR unknown command '{arguments[0].decode('latin-1')}': the double has none of that name")
        count = len(arguments) - 1
        if count < command.least or (command.most is not None and count > command.most):
            raise ReplyError(f"ERR wrong number of arguments for '{arguments[0].decode('latin-1').lower()}' command")
        if command.grows and self.full:
            raise ReplyError(_FULL)
        return command.run(self._db, arguments[1:])

    def _evalsha(self, arguments: Arguments) -> Any:
        sha = arguments[0].decode("latin-1").lower()
        if sha not in self._loaded:
            raise ReplyError("NOSCRIPT No matching script. Please use EVAL.")
        split = integer(arguments[1]) + 2
        return engine().run(sha, arguments[2:split], arguments[split:], self._plain)

    def _eval(self, arguments: Arguments) -> Any:
        sha = engine().load(bytes(arguments[0]))
        self._loaded.add(sha)
        return self._evalsha([sha.encode(), *arguments[1:]])

    def _script(self, arguments: Arguments) -> Any:
        act = arguments[0].upper()
        if act == b"LOAD":
            self._loaded.add(sha := engine().load(bytes(arguments[1])))
            return sha.encode()
        if act == b"EXISTS":
            return [int(sha.decode("latin-1") in self._loaded) for sha in arguments[1:]]
        if act == b"FLUSH":
            self._loaded.clear()
            return OK
        raise syntax_error()

    def _config(self, arguments: Arguments) -> Any:
        act, words = arguments[0].upper(), [word.decode() for word in arguments[1:]]
        if act == b"GET":
            return [part.encode() for name in words if name in self._settings for part in (name, self._settings[name])]
        if act == b"SET":
            self._settings.update(zip(words[::2], words[1::2], strict=True))
            self.full = 0 < int(self._settings["maxmemory"]) < _ROOMY
            return OK
        raise syntax_error()

    def _info(self, arguments: Arguments) -> Any:
        lines = {
            "redis_version": "7.0.15",
            "run_id": hashlib.sha1(b"%d" % self.starts, usedforsecurity=False).hexdigest(),
            "used_memory": str(_ROOMY),
            "maxmemory": self._settings["maxmemory"],
            "maxmemory_policy": self._settings["maxmemory-policy"],
            "aof_enabled": str(int(self._settings["appendonly"] == "yes")),
            "loading": "0",
            "role": "master",
            "connected_slaves": "0",
        }
        return "".join(f"{name}:{value}\r\n" for name, value in lines.items()).encode()


class SimRedis(Redis):
    """A redis.asyncio client of a SimRedisServer. It opens no connection, and waits in the running loop's time only.

    A call raises what the real client raises after its one retry: ConnectionError when the server is down, TimeoutError after
    the timeout when nothing comes back. An answer that is lost on its way back has happened all the same.
    """

    def __init__(
        self,
        server: SimRedisServer,
        reachable: Callable[[], bool] | None = None,
        *,
        latency_s: float = LATENCY_S,
        timeout_s: float = TIMEOUT_S,
        decode_responses: bool = True,
    ) -> None:
        super().__init__(decode_responses=decode_responses, protocol=2)
        self._server = server
        self._reachable = reachable
        self._half_s = latency_s / 2
        self._timeout_s = timeout_s
        self._decodes = decode_responses
        self._encode: Callable[[Any], bytes] = self.connection_pool.get_encoder().encode  # type: ignore[no-untyped-call]

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends one command; its parsed answer."""
        wire = self._wire(args)
        reply = await self._carry(lambda: self._answer(wire))
        return self._parsed(args[0], reply, options)

    def register_script(self, script: str | bytes | memoryview) -> Any:
        """A script to call with keys and args, as redis-py's, which costs more than its commands do here."""
        return _Script(self, script if isinstance(script, str) else bytes(script))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands that arrive together. Ours are carried out as one, transaction or not."""
        return _Pipeline(self, transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """There is nothing to close."""

    def _wire(self, args: Sequence[Any]) -> list[bytes]:
        encode, (first, *rest) = self._encode, args
        words = first.split() if type(first) is str and " " in first else (first,)  # "SCRIPT LOAD"
        return [part.encode() if type(part) is str else part if type(part) is bytes else encode(part) for part in (*words, *rest)]

    def _carry(self, act: Callable[[], Any]) -> asyncio.Future[Any]:
        """Takes a request to the server and its answer back. What was sent arrives even when its caller is cancelled."""
        loop, server = asyncio.get_running_loop(), self._server
        future: asyncio.Future[Any] = loop.create_future()
        starts = server.starts

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        def lose() -> None:
            error = exceptions.TimeoutError("Timeout reading from the simulated Redis.")
            loop.call_later(self._timeout_s, fail, error, context=_WIRE)

        def come_back(answer: Any) -> None:
            if not self._passes():
                lose()
            elif server.starts != starts:
                fail(exceptions.ConnectionError("Connection closed by server (simulated)."))
            elif not future.done():
                future.set_result(answer)

        def arrive() -> None:
            if not self._passes():
                lose()
            elif server.down:
                fail(exceptions.ConnectionError("Connection refused (simulated)."))
            elif server.frozen:
                server.stalled.append(act)
                lose()
            else:
                loop.call_later(self._half_s, come_back, act(), context=_WIRE)

        loop.call_later(self._half_s, arrive, context=_WIRE)
        return future

    def _passes(self) -> bool:
        return self._reachable is None or self._reachable()

    def _answer(self, wire: list[bytes]) -> Any:
        """The server's raw answer, or the error that it answered."""
        try:
            return self._server.execute(wire)
        except ReplyError as error:
            return BaseParser.parse_error(str(error))  # type: ignore[no-untyped-call]

    def _parsed(self, name: Any, reply: Any, options: Mapping[str, Any]) -> Any:
        if isinstance(reply, Exception):
            raise reply
        value = _decoded(reply) if self._decodes and "NEVER_DECODE" not in options else reply
        callback = self.response_callbacks.get(name)
        if callback is None:
            return value
        return callback(value, **{name: option for name, option in options.items() if name not in _NOT_FOR_CALLBACKS})


class _Script:
    """A script on a server that may not know it."""

    def __init__(self, client: SimRedis, text: str | bytes) -> None:
        self._client, self._text = client, text
        self._sha = hashlib.sha1(text.encode() if isinstance(text, str) else text, usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        call = ("EVALSHA", self._sha, len(keys), *keys, *args)
        try:
            return await self._client.execute_command(*call)
        except exceptions.NoScriptError:
            await self._client.execute_command("SCRIPT LOAD", self._text)
            return await self._client.execute_command(*call)


class _Pipeline(Pipeline):
    """Commands that are sent together."""

    def __init__(self, client: SimRedis, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Sends what was gathered; the parsed answers."""
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        client = self._client
        wires = [client._wire(args) for args, _ in stack]
        replies = await client._carry(lambda: [client._answer(wire) for wire in wires])
        values = []
        for (args, options), reply in zip(stack, replies, strict=True):
            if isinstance(reply, Exception):
                if raise_on_error:
                    raise reply
                values.append(reply)
            else:
                values.append(client._parsed(args[0], reply, options))
        return values


def _decoded(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    if type(reply) is list:
        return [part.decode() if type(part) is bytes else _decoded(part) for part in reply]
    return reply
