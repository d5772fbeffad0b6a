"""The Redis double against a redis-server, command by command and script by script; and what only the double can do.

tests/store holds it to all that the store needs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import exceptions

from tests.support.redis import RedisServer
from vmha.errors import Unavailable
from vmha.model import ClusterConfig
from vmha.sim.clock import SimClock
from vmha.sim.redis_double import SimRedis, SimRedisServer
from vmha.sim.redis_values import ReplyError
from vmha.sim.timeloop import VirtualLoop
from vmha.store import Store

# -- the same as Redis

UNORDERED = {"SMEMBERS", "KEYS", "HKEYS", "HVALS", "HGETALL"}
"""Redis promises no order here."""
FAR_MS = 4_000_000_000_000
REFUSED = "refused"


class Both:
    """A redis-server and the double, asked the same."""

    def __init__(self, server: RedisServer) -> None:
        self.real = redis.Redis(port=server.port, protocol=2)
        self.real.response_callbacks.clear()
        self.clear()

    def clear(self) -> None:
        self.real.execute_command("FLUSHALL")  # type: ignore[no-untyped-call]
        self.double = SimRedisServer(time.time)

    def ask(self, *arguments: str | bytes | int) -> tuple[Any, Any]:
        """What each answers; a refusal as REFUSED: which of two mistakes is told first is nobody's promise."""
        wire = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        try:
            expected = self.real.execute_command(*wire)  # type: ignore[no-untyped-call]
        except exceptions.ResponseError:
            expected = REFUSED
        try:
            found = self.double.execute(wire)
        except ReplyError:
            found = REFUSED
        if wire[0].decode() in UNORDERED and isinstance(found, list):
            expected, found = sorted(expected), sorted(found)
        return expected, found

    def check(self, *arguments: str | bytes | int) -> Any:
        expected, found = self.ask(*arguments)
        assert found == expected, arguments
        return found


@pytest.fixture(scope="module")
def both(redis_server: RedisServer) -> Iterator[Both]:
    redis_server.start()
    both = Both(redis_server)
    yield both
    both.real.close()


KEYS = st.sampled_from(["a", "b", "c"])
FIELDS = st.sampled_from(["x", "y", "z", "é"])
VALUES = st.sampled_from(["", "1", "-7", "12.5", "007", "9223372036854775807", "text", "ünï", "a b"])
NUMBERS = st.sampled_from(["0", "1", "-1", "2", "100", "-100", "9223372036854775807", "x", "1.5"])
SCORES = st.sampled_from(["0", "1", "-2.5", "1e300", "3", "1700000000123", "x"])
IDS = st.sampled_from(["1-0", "2-0", "5-1", "5-*", "9", "0-0", "*x", "7-x", "12-3"])
EDGES = st.sampled_from(["-", "+", "1", "(1", "2-0", "(2-0", "5", "(5-1", "9-0", "x"])
RANKS = st.sampled_from(["0", "1", "-1", "-2", "5", "-9", "x"])
ENDS = st.sampled_from([str(FAR_MS), str(FAR_MS + 5000), "1", "0", "x"])


def _command(name: str, *parts: st.SearchStrategy[Any] | str) -> st.SearchStrategy[tuple[str, ...]]:
    made = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(st.just(name), *made)


COMMANDS = st.one_of(
    *(_command(name, KEYS) for name in ("GET", "DEL", "EXISTS", "TYPE", "INCR", "DECR", "STRLEN", "GETDEL", "PERSIST")),
    *(_command(name, KEYS) for name in ("HGETALL", "HLEN", "HKEYS", "HVALS", "SMEMBERS", "SCARD", "ZCARD", "XLEN")),
    *(_command(name, KEYS, FIELDS) for name in ("HGET", "HEXISTS", "HDEL", "SISMEMBER", "ZSCORE", "ZREM", "SADD", "SREM", "GET")),
    _command("PEXPIRETIME", KEYS),
    _command("SET", KEYS, VALUES),
    _command("SET", KEYS, VALUES, st.sampled_from(["NX", "XX", "GET", "KEEPTTL", "bad"])),
    _command("SET", KEYS, VALUES, "PXAT", ENDS),
    _command("SETNX", KEYS, VALUES),
    _command("INCRBY", KEYS, NUMBERS),
    _command("MGET", KEYS, KEYS),
    _command("DEL", KEYS, KEYS),
    _command("EXISTS", KEYS, KEYS),
    _command("RENAME", KEYS, KEYS),
    _command("KEYS", st.sampled_from(["*", "[ab]", "a"])),
    _command("PEXPIREAT", KEYS, ENDS),
    _command("PEXPIREAT", KEYS, ENDS, st.sampled_from(["NX", "XX", "GT", "LT", "bad"])),
    _command("HSET", KEYS, FIELDS, VALUES),
    _command("HSET", KEYS, FIELDS, VALUES, FIELDS, VALUES),
    _command("HSET", KEYS, FIELDS, VALUES, FIELDS),
    _command("HSETNX", KEYS, FIELDS, VALUES),
    _command("HMGET", KEYS, FIELDS, FIELDS),
    _command("HDEL", KEYS, FIELDS, FIELDS),
    _command("HINCRBY", KEYS, FIELDS, NUMBERS),
    _command("SADD", KEYS, FIELDS, VALUES),
    _command("SREM", KEYS, FIELDS, VALUES),
    _command("ZADD", KEYS, SCORES, FIELDS),
    _command("ZADD", KEYS, st.sampled_from(["NX", "XX", "GT", "LT", "CH"]), SCORES, FIELDS),
    _command("ZADD", KEYS, SCORES, FIELDS, SCORES, FIELDS),
    _command("ZRANGE", KEYS, RANKS, RANKS),
    _command("ZRANGE", KEYS, RANKS, RANKS, "WITHSCORES"),
    _command("ZREVRANGE", KEYS, RANKS, RANKS),
    _command("ZRANGEBYSCORE", KEYS, st.sampled_from(["-inf", "0", "(0", "1"]), st.sampled_from(["+inf", "3", "(3"])),
    _command("ZREMRANGEBYRANK", KEYS, RANKS, RANKS),
    _command("XADD", KEYS, IDS, FIELDS, VALUES),
    _command("XADD", KEYS, "MAXLEN", st.sampled_from(["0", "1", "2"]), IDS, FIELDS, VALUES),
    _command("XADD", KEYS, "MAXLEN", "~", "2", IDS, FIELDS, VALUES),
    _command("XADD", KEYS, "NOMKSTREAM", IDS, FIELDS, VALUES),
    _command("XADD", KEYS, IDS, FIELDS, VALUES, FIELDS),
    _command("XTRIM", KEYS, "MAXLEN", st.sampled_from(["0", "1", "2"])),
    _command("XTRIM", KEYS, "MINID", st.sampled_from(["2", "5-1"])),
    _command("XRANGE", KEYS, EDGES, EDGES),
    _command("XRANGE", KEYS, EDGES, EDGES, "COUNT", RANKS),
    _command("XREVRANGE", KEYS, EDGES, EDGES),
    _command("XREVRANGE", KEYS, "+", "-", "COUNT", "1"),
    _command("XDEL", KEYS, st.sampled_from(["1-0", "5-1", "9"])),
)


@given(st.lists(COMMANDS, max_size=40))
@settings(max_examples=200, deadline=None)
def test_it_answers_as_redis_does(both: Both, commands: Sequence[tuple[str, ...]]) -> None:
    """Any sequence of commands gives the same answers, refusals included."""
    both.clear()
    for arguments in commands:
        both.check(*arguments)


SCRIPTS = {
    "numbers are cut": "return {3.99, -3.99, 0, 2^40, 1e15}",
    "booleans and nil": "return {1, true, false, 2, nil, 3}",
    "nothing": "return",
    "nested": "return {'a', {'b', {}, {'c', 1}}}",
    "status and error tables": "return {redis.status_reply('FINE'), {ok = 'YES'}}",
    "an error table": "return redis.error_reply('WRONG thing')",
    "missing values are false": "return {redis.call('GET', 'none') == false, redis.call('HGET', 'none', 'x') == false}",
    "many missing": "local r = redis.call('HMGET', 'none', 'x', 'y'); return {#r, r[1] == false, tostring(r[2])}",
    "status replies": "return redis.call('SET', 'k', 'v')['ok'] .. redis.call('TYPE', 'k').ok",
    "integer replies are numbers": "return {type(redis.call('INCR', 'n')), redis.call('INCRBY', 'n', 5) + 0.5}",
    "number arguments": "redis.call('RPUSH' and 'HSET', 'h', 'a', 1, 'b', 1.5, 'c', 2^53, 'd', 1e20, 'e', -0.1); "
    "return redis.call('HGETALL', 'h')",
    "a bad argument": "return redis.call('SET', 'k', {})",
    "a bad argument, caught": "return redis.pcall('SET', 'k', true).err ~= nil",
    "an unknown command": "return redis.pcall('NOSUCH').err ~= nil",
    "an error passes": "redis.call('SET', 's', 'x'); redis.call('HGET', 's', 'x'); return 1",
    "an error is caught": "redis.call('SET', 's', 'x'); local e = redis.pcall('HGET', 's', 'x'); return e.err",
    "an error is caught by Lua": "redis.call('SET', 's', 'x'); local good, e = pcall(redis.call, 'HGET', 's', 'x'); "
    "return {good, type(e), e.err}",
    "hashes": "return {redis.sha1hex('abc'), redis.sha1hex('')}",
    "keys and arguments": "return {#KEYS, KEYS[1], #ARGV, ARGV[1], ARGV[2], ARGV[3]}",
    "formats": "return {string.format('%.0f', 1763944800123), tostring(1e15), tostring(2^53), 10 / 4 .. ''}",
    "strings are bytes": "return {#ARGV[2], string.sub(ARGV[2], 1, 1), string.byte(ARGV[2])}",
    "a stream": "redis.call('XADD', 's', '5-0', 'a', 'b'); local r = redis.call('XREVRANGE', 's', '+', '-', 'COUNT', 1); "
    "return {r[1][1], r[1][2][2], #redis.call('XRANGE', 'none', '-', '+')}",
    "unpacked": "redis.call('SADD', 'm', unpack({'a', 'b', 'c'})); return redis.call('SCARD', 'm')",
    "null": "return {cjson.decode('{\"a\":null}').a == cjson.null, type(cjson.null), cjson.encode({cjson.null})}",
    "empty tables": "return {cjson.encode({}), cjson.encode({{}}), cjson.encode(cjson.decode('[]'))}",
    "json numbers": "return cjson.encode({1, 1.5, 1e20, 123456789012345678, -0.1, 1763944800123})",
    "json text": "return cjson.encode({'a\"b\\\\c/d\\n\\t\\0\\127', ARGV[2]})",
    "arrays with holes": "return cjson.encode({1, nil, 3})",
    "an array that is all holes": "return cjson.encode({[20] = 1})",
    "numbers as keys": "return cjson.encode({[1.5] = 2})",
    "not JSON": "return cjson.decode('{x')",
    "an unknown global": "return nosuch",
    "a new global": "made = 1; return 1",
    "the time": "local t = redis.call('TIME'); return {#t, type(t[1]), #t[1], tonumber(t[2]) < 1000000}",
    "many values": "local t = {}; for i = 1, 3000 do t[i] = 'v' .. i end; redis.call('SADD', 'many', unpack(t)); "
    "return {redis.call('SCARD', 'many'), #redis.call('SMEMBERS', 'many'), #t}",
    "a long reply": "local t = {}; for i = 1, 20000 do t[i] = i end; return t",
    "an error of its own": "error({err = 'MINE own'})",
    "not Lua": "this is not Lua",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_sees_what_redis_shows(both: Both, name: str) -> None:
    """Conversions between Redis and Lua, both ways, are Redis's."""
    both.clear()
    both.check("EVAL", SCRIPTS[name], 1, "key", "arg", "é", b"\xff\x00")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=6),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_json_goes_through_a_script_as_in_redis(both: Both, value: Any) -> None:
    """cjson decodes and encodes to the same value, and writes it in the same way."""
    text = json.dumps(value)
    both.check("EVAL", "return cjson.encode(cjson.decode(ARGV[1]))", 0, text)


# -- what a network and a crash do to it


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def server(loop: VirtualLoop) -> SimRedisServer:
    return SimRedisServer(SimClock(loop).wall)


def test_a_key_ends_in_virtual_time(loop: VirtualLoop, server: SimRedisServer) -> None:
    """PX counts milliseconds of the machine's wall clock: there at its last one, gone after it."""
    client = server.client(latency_s=0.0)

    async def scenario() -> list[Any]:
        await client.set("k", "v", px=1500)
        answers = []
        for wait in (1.4995, 0.001, 0.001):
            await asyncio.sleep(wait)
            answers.append((await client.get("k"), await client.pttl("k")))
        return answers

    assert loop.run_until(scenario()) == [("v", 1), ("v", 0), (None, -2)]


def test_a_call_takes_its_way_there_and_back(loop: VirtualLoop, server: SimRedisServer) -> None:
    """Commands are carried out in the order of their arrival, half the latency after they were sent."""
    near, far = server.client(latency_s=0.002), server.client(latency_s=0.5)

    async def near_by() -> None:
        await asyncio.sleep(0.2)
        await near.set("k", "near")

    async def scenario() -> object:
        await asyncio.gather(far.set("k", "far"), near_by())
        assert loop.time() == 0.5
        return await near.get("k")

    assert loop.run_until(scenario()) == "far"


async def _outcome(client: SimRedis, loop: VirtualLoop) -> tuple[str, float]:
    before = loop.time()
    try:
        await client.incr("n")
    except exceptions.RedisError as error:
        return type(error).__name__, round(loop.time() - before, 3)
    return "done", round(loop.time() - before, 3)


async def _get(client: SimRedis, key: str) -> object:
    return await client.get(key)


@pytest.mark.parametrize(
    ("fault", "outcome", "count"),
    [
        ("none", ("done", 0.2), "1"),
        ("down", ("ConnectionError", 0.1), None),
        ("frozen", ("TimeoutError", 1.1), "1"),
        ("cut", ("TimeoutError", 1.1), None),
        ("cut on the way back", ("TimeoutError", 1.2), "1"),
        ("crash on the way back", ("ConnectionError", 0.2), "1"),
    ],
)
def test_what_goes_wrong_is_told_as_the_client_tells_it(
    loop: VirtualLoop, server: SimRedisServer, fault: str, outcome: tuple[str, float], count: str | None
) -> None:
    """Refused, lost, or lost after it was done: the caller cannot tell the last two apart, the data can."""
    cut: list[bool] = []
    client = server.client(lambda: not cut, latency_s=0.2)
    if fault == "down":
        server.stop()
    elif fault == "frozen":
        server.frozen = True
    elif fault == "cut":
        cut.append(True)
    elif fault == "cut on the way back":
        loop.call_later(0.15, cut.append, True)
    elif fault == "crash on the way back":
        loop.call_later(0.15, server.stop)
    assert loop.run_until(_outcome(client, loop)) == outcome
    cut.clear()
    server.thaw()
    server.start()

    assert loop.run_until(_get(client, "n")) == count


def test_what_was_sent_arrives(loop: VirtualLoop, server: SimRedisServer) -> None:
    """A caller that is cancelled after sending has changed the data; nobody learns the answer."""
    client = server.client(latency_s=0.2)
    call = loop.create_task(_outcome(client, loop))
    loop.run_for(0.05)
    call.cancel()
    loop.run_for(1.0)

    assert call.cancelled()
    assert loop.run_until(_get(client, "n")) == "1"


def test_a_store_says_that_it_is_away_and_comes_back(loop: VirtualLoop, server: SimRedisServer) -> None:
    """STORE_UNAVAILABLE from commands, scripts and pipelines; after a restart the scripts are loaded again."""
    store = Store(server.client())

    async def scenario() -> None:
        await store.clusters.create("c1", ClusterConfig())
        server.stop()
        for call in (store.ping, store.clusters.list_ids, lambda: store.clusters.get("c1"), store.check_policy):
            with pytest.raises(Unavailable, match="Redis does not answer"):
                await call()
        server.start()
        assert (await store.clusters.get("c1")).cluster_id == "c1"

    loop.run_until(scenario())


def test_a_failover_to_a_replica_that_lags_loses_the_last_writes(loop: VirtualLoop, server: SimRedisServer) -> None:
    """restore brings back the data of the snapshot, their ends included, and only that."""
    client = server.client()

    async def scenario() -> list[Any]:
        await client.hset("h", "a", "old")
        await client.set("k", "v", ex=10)
        seen = server.snapshot()
        await client.hset("h", "a", "new")
        await client.delete("k")
        await client.set("later", "x")
        server.restore(seen)
        answers = [await client.hgetall("h"), await client.get("k"), await client.get("later")]
        await asyncio.sleep(11)
        return [*answers, await client.get("k")]

    assert loop.run_until(scenario()) == [{"a": "old"}, "v", None, None]


def test_an_unknown_command_is_named(loop: VirtualLoop, server: SimRedisServer) -> None:
    """What the double has not learned is an error of its own name, never a wrong answer."""
    with pytest.raises(exceptions.ResponseError, match="LPUSH"):
        loop.run_until(server.client().lpush("k", "v"))  # type: ignore[arg-type]
