"""The Redis double's commands on strings, hashes, sets and keys."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any

from vmha.sim.redis_values import (
    OK,
    Arguments,
    Keyspace,
    Members,
    ReplyError,
    Scores,
    Status,
    Stream,
    Value,
    command,
    integer,
    syntax_error,
)

# -- strings


@command("GET", 1, 1)
def _get(db: Keyspace, args: Arguments) -> Any:
    return db.find(args[0], bytes)


@command("MGET", 1)
def _mget(db: Keyspace, args: Arguments) -> Any:
    values = [db.any(key) for key in args]
    return [value if type(value) is bytes else None for value in values]


def _span_ms(name: bytes, value: bytes, now_ms: int) -> int:
    """When a key ends that lives so long, by one of SET's or EXPIRE's words."""
    end = integer(value) * (1000 if name in (b"EX", b"EXAT") else 1)
    if end <= 0:
        raise ReplyError("ERR invalid expire time in 'set' command")
    return end + (now_ms if name in (b"EX", b"PX") else 0)


@command("SET", 2, grows=True)
def _set(db: Keyspace, args: Arguments) -> Any:
    key, value, end_ms, words, i = args[0], args[1], None, set(), 2
    while i < len(args):
        word = args[i].upper()
        if word in (b"EX", b"PX", b"EXAT", b"PXAT") and end_ms is None and i + 1 < len(args):
            end_ms = _span_ms(word, args[i + 1], db.now_ms)
            i += 1
        elif word in (b"NX", b"XX", b"KEEPTTL", b"GET"):
            words.add(word)
        else:
            raise syntax_error()
        i += 1
    old = db.find(key, bytes) if b"GET" in words else db.any(key)
    answer = old if b"GET" in words else OK
    if (b"NX" in words and old is not None) or (b"XX" in words and old is None):
        return old if b"GET" in words else None
    kept = db.ends_ms.get(key) if b"KEEPTTL" in words else None
    db.put(key, value)
    if (end := end_ms or kept) is not None:
        db.ends_ms[key] = end
    return answer


@command("SETNX", 2, 2, grows=True)
def _setnx(db: Keyspace, args: Arguments) -> Any:
    if db.any(args[0]) is not None:
        return 0
    db.put(args[0], args[1])
    return 1


@command("GETDEL", 1, 1)
def _getdel(db: Keyspace, args: Arguments) -> Any:
    value = db.find(args[0], bytes)
    db.drop(args[0])
    return value


@command("STRLEN", 1, 1)
def _strlen(db: Keyspace, args: Arguments) -> Any:
    return len(db.find(args[0], bytes) or b"")


def _add(db: Keyspace, key: bytes, by: int) -> int:
    old = db.find(key, bytes)
    value = (0 if old is None else integer(old)) + by
    if not -(2**63) <= value < 2**63:
        raise ReplyError("ERR increment or decrement would overflow")
    db.data[key] = b"%d" % value  # keeps its end
    return value


@command("INCR", 1, 1, grows=True)
def _incr(db: Keyspace, args: Arguments) -> Any:
    return _add(db, args[0], 1)


@command("DECR", 1, 1, grows=True)
def _decr(db: Keyspace, args: Arguments) -> Any:
    return _add(db, args[0], -1)


@command("INCRBY", 2, 2, grows=True)
def _incrby(db: Keyspace, args: Arguments) -> Any:
    return _add(db, args[0], integer(args[1]))


# -- hashes


@command("HGET", 2, 2)
def _hget(db: Keyspace, args: Arguments) -> Any:
    found = db.find(args[0], dict)
    return None if found is None else found.get(args[1])


@command("HMGET", 2)
def _hmget(db: Keyspace, args: Arguments) -> Any:
    found = db.find(args[0], dict) or {}
    return [found.get(name) for name in args[1:]]


@command("HGETALL", 1, 1)
def _hgetall(db: Keyspace, args: Arguments) -> Any:
    found = db.find(args[0], dict)
    return [] if found is None else [part for pair in found.items() for part in pair]


@command("HKEYS", 1, 1)
def _hkeys(db: Keyspace, args: Arguments) -> Any:
    return list(db.find(args[0], dict) or ())


@command("HVALS", 1, 1)
def _hvals(db: Keyspace, args: Arguments) -> Any:
    return list((db.find(args[0], dict) or {}).values())


@command("HLEN", 1, 1)
def _hlen(db: Keyspace, args: Arguments) -> Any:
    return len(db.find(args[0], dict) or ())


@command("HEXISTS", 2, 2)
def _hexists(db: Keyspace, args: Arguments) -> Any:
    return int(args[1] in (db.find(args[0], dict) or ()))


@command("HSET", 3, grows=True)
def _hset(db: Keyspace, args: Arguments) -> Any:
    if not len(args) % 2:
        raise ReplyError("ERR wrong number of arguments for 'hset' command")
    values = db.make(args[0], dict)
    before = len(values)
    for i in range(1, len(args), 2):
        values[args[i]] = args[i + 1]
    return len(values) - before


@command("HMSET", 3, grows=True)
def _hmset(db: Keyspace, args: Arguments) -> Any:
    _hset(db, args)
    return OK


@command("HSETNX", 3, 3, grows=True)
def _hsetnx(db: Keyspace, args: Arguments) -> Any:
    values = db.make(args[0], dict)
    if args[1] in values:
        return 0
    values[args[1]] = args[2]
    return 1


@command("HINCRBY", 3, 3, grows=True)
def _hincrby(db: Keyspace, args: Arguments) -> Any:
    by = integer(args[2])
    found = db.find(args[0], dict) or {}
    value = integer(found.get(args[1], b"0"), "ERR hash value is not an integer") + by
    if not -(2**63) <= value < 2**63:
        raise ReplyError("ERR increment or decrement would overflow")
    db.make(args[0], dict)[args[1]] = b"%d" % value
    return value


def _remove(db: Keyspace, key: bytes, found: dict[bytes, Any] | None, names: Arguments) -> int:
    """Removes members; a key with none left is gone."""
    if found is None:
        return 0
    before = len(found)
    for name in names:
        found.pop(name, None)
    if not found:
        db.drop(key)
    return before - len(found)


@command("HDEL", 2)
def _hdel(db: Keyspace, args: Arguments) -> Any:
    return _remove(db, args[0], db.find(args[0], dict), args[1:])


# -- sets


@command("SADD", 2, grows=True)
def _sadd(db: Keyspace, args: Arguments) -> Any:
    members = db.make(args[0], Members)
    before = len(members)
    for member in args[1:]:
        members[member] = None
    return len(members) - before


@command("SREM", 2)
def _srem(db: Keyspace, args: Arguments) -> Any:
    return _remove(db, args[0], db.find(args[0], Members), args[1:])


@command("SMEMBERS", 1, 1)
def _smembers(db: Keyspace, args: Arguments) -> Any:
    return list(db.find(args[0], Members) or ())


@command("SCARD", 1, 1)
def _scard(db: Keyspace, args: Arguments) -> Any:
    return len(db.find(args[0], Members) or ())


@command("SISMEMBER", 2, 2)
def _sismember(db: Keyspace, args: Arguments) -> Any:
    return int(args[1] in (db.find(args[0], Members) or ()))


# -- keys


@command("DEL", 1)
@command("UNLINK", 1)
def _del(db: Keyspace, args: Arguments) -> Any:
    return sum(db.any(key) is not None and db.drop(key) for key in args)


@command("EXISTS", 1)
def _exists(db: Keyspace, args: Arguments) -> Any:
    return sum(db.any(key) is not None for key in args)


_TYPES: dict[type, bytes] = {bytes: b"string", dict: b"hash", Members: b"set", Scores: b"zset", Stream: b"stream"}


@command("TYPE", 1, 1)
def _type(db: Keyspace, args: Arguments) -> Any:
    return Status(_TYPES.get(type(db.any(args[0])), b"none"))


@command("RENAME", 2, 2)
def _rename(db: Keyspace, args: Arguments) -> Any:
    value: Value | None = db.any(args[0])
    if value is None:
        raise ReplyError("ERR no such key")
    end = db.ends_ms.get(args[0])
    db.drop(args[0])
    db.put(args[1], value)
    if end is not None:
        db.ends_ms[args[1]] = end
    return OK


def _end(db: Keyspace, key: bytes, end_ms: int, words: Arguments) -> int:
    there, old = db.any(key) is not None, db.ends_ms.get(key)
    allowed = {
        b"NX": old is None,
        b"XX": old is not None,
        b"GT": old is not None and end_ms > old,
        b"LT": old is None or end_ms < old,
    }
    unknown = [word for word in words if word.upper() not in allowed]
    if unknown:
        raise ReplyError(f"ERR Unsupported option {unknown[0].decode()}")
    if not there or not all(allowed[word.upper()] for word in words):
        return 0
    if end_ms <= db.now_ms:
        db.drop(key)
    else:
        db.ends_ms[key] = end_ms
    return 1


@command("EXPIRE", 2)
def _expire(db: Keyspace, args: Arguments) -> Any:
    return _end(db, args[0], db.now_ms + integer(args[1]) * 1000, args[2:])


@command("PEXPIRE", 2)
def _pexpire(db: Keyspace, args: Arguments) -> Any:
    return _end(db, args[0], db.now_ms + integer(args[1]), args[2:])


@command("EXPIREAT", 2)
def _expireat(db: Keyspace, args: Arguments) -> Any:
    return _end(db, args[0], integer(args[1]) * 1000, args[2:])


@command("PEXPIREAT", 2)
def _pexpireat(db: Keyspace, args: Arguments) -> Any:
    return _end(db, args[0], integer(args[1]), args[2:])


@command("PERSIST", 1, 1)
def _persist(db: Keyspace, args: Arguments) -> Any:
    return int(db.any(args[0]) is not None and db.ends_ms.pop(args[0], None) is not None)


@command("PTTL", 1, 1)
def _pttl(db: Keyspace, args: Arguments) -> Any:
    if db.any(args[0]) is None:
        return -2
    end = db.ends_ms.get(args[0])
    return -1 if end is None else end - db.now_ms


@command("TTL", 1, 1)
def _ttl(db: Keyspace, args: Arguments) -> Any:
    left = _pttl(db, args)
    return left if left < 0 else (left + 500) // 1000


@command("PEXPIRETIME", 1, 1)
def _pexpiretime(db: Keyspace, args: Arguments) -> Any:
    return -2 if db.any(args[0]) is None else db.ends_ms.get(args[0], -1)


@command("KEYS", 1, 1)
def _keys(db: Keyspace, args: Arguments) -> Any:
    db.sweep()
    fits = re.compile(translate(args[0].decode("latin-1")))
    return [key for key in db.data if fits.match(key.decode("latin-1"))]


@command("SCAN", 1)
def _scan(db: Keyspace, args: Arguments) -> Any:
    """All of them at the first call: a scan of ours has one step."""
    options = {args[i].upper(): args[i + 1] for i in range(1, len(args) - 1, 2)}
    found = _keys(db, [options.get(b"MATCH", b"*")])
    kind = options.get(b"TYPE")
    return [b"0", [key for key in found if kind is None or _TYPES[type(db.data[key])] == kind.lower()]]


@command("DBSIZE", 0, 0)
def _dbsize(db: Keyspace, args: Arguments) -> Any:
    db.sweep()
    return len(db.data)


@command("FLUSHALL", 0, 1)
@command("FLUSHDB", 0, 1)
def _flush(db: Keyspace, args: Arguments) -> Any:
    db.clear()
    return OK


# -- the server


@command("PING", 0, 1)
def _ping(db: Keyspace, args: Arguments) -> Any:
    return args[0] if args else Status(b"PONG")


@command("ECHO", 1, 1)
def _echo(db: Keyspace, args: Arguments) -> Any:
    return args[0]


@command("TIME", 0, 0)
def _time(db: Keyspace, args: Arguments) -> Any:
    return [b"%d" % (db.now_us // 1_000_000), b"%d" % (db.now_us % 1_000_000)]


@command("WAIT", 2, 2)
def _wait(db: Keyspace, args: Arguments) -> Any:
    """It has no replicas."""
    return 0
