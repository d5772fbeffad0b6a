"""The Redis double's commands on sorted sets and streams."""

from __future__ import annotations

from typing import Any

from vmha.sim.redis_values import Arguments, Id, Keyspace, ReplyError, Scores, Stream, command, integer, real, syntax_error

NODE_ENTRIES = 100
"""A stream that is trimmed approximately (MAXLEN ~) loses whole nodes of so many entries."""
_LAST: Id = (2**64 - 1, 2**64 - 1)

# -- sorted sets


@command("ZADD", 3, grows=True)
def _zadd(db: Keyspace, args: Arguments) -> Any:
    words, i = set(), 1
    while i < len(args) and args[i].upper() in (b"NX", b"XX", b"GT", b"LT", b"CH"):
        words.add(args[i].upper())
        i += 1
    pairs = args[i:]
    if not pairs or len(pairs) % 2:
        raise syntax_error()
    scores = [real(text) for text in pairs[::2]]
    found = db.find(args[0], Scores)
    found = Scores() if found is None else found
    added = changed = 0
    for score, member in zip(scores, pairs[1::2], strict=True):
        old = found.get(member)
        if (b"NX" in words and old is not None) or (b"XX" in words and old is None):
            continue
        if old is not None and ((b"GT" in words and score <= old) or (b"LT" in words and score >= old)):
            continue
        added += old is None
        changed += old is not None and old != score
        found[member] = score
    if found:
        db.data[args[0]] = found
    return added + (changed if b"CH" in words else 0)


@command("ZREM", 2)
def _zrem(db: Keyspace, args: Arguments) -> Any:
    return _forget(db, args[0], list(args[1:]))


def _forget(db: Keyspace, key: bytes, members: list[bytes]) -> int:
    found = db.find(key, Scores)
    if found is None:
        return 0
    count = sum(found.pop(member, None) is not None for member in members)
    if not found:
        db.drop(key)
    return count


@command("ZCARD", 1, 1)
def _zcard(db: Keyspace, args: Arguments) -> Any:
    return len(db.find(args[0], Scores) or ())


@command("ZSCORE", 2, 2)
def _zscore(db: Keyspace, args: Arguments) -> Any:
    score = (db.find(args[0], Scores) or Scores()).get(args[1])
    return None if score is None else _number(score)


def _number(score: float) -> bytes:
    return b"%d" % score if score == int(score) and abs(score) < 1e17 else b"%.17g" % score


def _slice(items: list[tuple[bytes, float]], first: int, last: int) -> list[tuple[bytes, float]]:
    count = len(items)
    first, last = max(first + count if first < 0 else first, 0), last + count if last < 0 else last
    return items[first : last + 1] if last >= 0 else []


def _shown(items: list[tuple[bytes, float]], words: Arguments) -> list[bytes]:
    if [word.upper() for word in words] not in ([], [b"WITHSCORES"]):
        raise syntax_error()
    return [part for member, score in items for part in ((member, _number(score)) if words else (member,))]


@command("ZRANGE", 3)
def _zrange(db: Keyspace, args: Arguments) -> Any:
    """By rank only."""
    items = (db.find(args[0], Scores) or Scores()).ranked()
    return _shown(_slice(items, integer(args[1]), integer(args[2])), args[3:])


@command("ZREVRANGE", 3)
def _zrevrange(db: Keyspace, args: Arguments) -> Any:
    items = (db.find(args[0], Scores) or Scores()).ranked()[::-1]
    return _shown(_slice(items, integer(args[1]), integer(args[2])), args[3:])


def _between(db: Keyspace, args: Arguments) -> list[tuple[bytes, float]]:
    (low, low_open), (high, high_open) = _bound(args[1]), _bound(args[2])
    return [
        (member, score)
        for member, score in (db.find(args[0], Scores) or Scores()).ranked()
        if (score > low if low_open else score >= low) and (score < high if high_open else score <= high)
    ]


def _bound(text: bytes) -> tuple[float, bool]:
    return real(text.removeprefix(b"(")), text.startswith(b"(")


@command("ZRANGEBYSCORE", 3)
def _zrangebyscore(db: Keyspace, args: Arguments) -> Any:
    return _shown(_between(db, args), args[3:])


@command("ZREMRANGEBYSCORE", 3, 3)
def _zremrangebyscore(db: Keyspace, args: Arguments) -> Any:
    return _forget(db, args[0], [member for member, _ in _between(db, args)])


@command("ZREMRANGEBYRANK", 3, 3)
def _zremrangebyrank(db: Keyspace, args: Arguments) -> Any:
    items = (db.find(args[0], Scores) or Scores()).ranked()
    return _forget(db, args[0], [member for member, _ in _slice(items, integer(args[1]), integer(args[2]))])


# -- streams


def _id(text: bytes, missing: int) -> Id:
    """A stream id; `missing` is its sequence when it has none."""
    ms, dash, sequence = text.partition(b"-")
    if not ms.isdigit() or (dash and not sequence.isdigit()):
        raise ReplyError("ERR Invalid stream ID specified as stream command argument")
    return int(ms), int(sequence) if dash else missing


def _edge(text: bytes, *, low: bool) -> Id:
    if text in (b"-", b"+"):
        return (0, 0) if text == b"-" else _LAST
    found = _id(text.removeprefix(b"("), 0 if low else _LAST[1])
    if not text.startswith(b"("):
        return found
    ms, sequence = found
    if low:
        return (ms, sequence + 1) if sequence < _LAST[1] else (ms + 1, 0)
    return (ms, sequence - 1) if sequence else (ms - 1, _LAST[1])


def _check_new_id(text: bytes) -> None:
    if text == b"*":
        return
    if _id(text.removesuffix(b"-*"), 0) == (0, 0) and not text.endswith(b"-*"):
        raise ReplyError("ERR The ID specified in XADD must be greater than 0-0")


def _next_id(db: Keyspace, stream: Stream, text: bytes) -> Id:
    if text == b"*":
        return max((db.now_ms, 0), (stream.last[0], stream.last[1] + 1))
    if not text.endswith(b"-*"):
        return _id(text, 0)
    ms = _id(text.removesuffix(b"-*"), 0)[0]
    return (ms, stream.last[1] + 1) if ms == stream.last[0] else (ms, 0)


Limit = tuple[bytes, bytes, bool]
"""MAXLEN or MINID, its threshold, whether approximately."""


def _limit(args: Arguments, i: int) -> tuple[Limit, int]:
    """The limit that starts at an argument, and where the next argument is."""
    word, i = args[i].upper(), i + 1
    approximate = args[i] == b"~"
    i += args[i] in (b"~", b"=")
    threshold, i = args[i], i + 1
    if i < len(args) and args[i].upper() == b"LIMIT":
        i += 2
    return (word, threshold, approximate), i


def _trim(stream: Stream, limit: Limit) -> int:
    word, threshold, approximate = limit
    excess = len(stream.ids) - integer(threshold) if word == b"MAXLEN" else stream.span(_id(threshold, 0), _LAST).start
    if approximate:
        excess -= excess % NODE_ENTRIES
    return stream.drop_first(max(excess, 0))


@command("XADD", 4, grows=True)
def _xadd(db: Keyspace, args: Arguments) -> Any:
    i, limit, make = 1, None, True
    while i < len(args) - 1 and args[i].upper() in (b"MAXLEN", b"MINID", b"NOMKSTREAM"):
        if args[i].upper() == b"NOMKSTREAM":
            make, i = False, i + 1
        else:
            limit, i = _limit(args, i)
    fields = tuple(args[i + 1 :])
    if not fields or len(fields) % 2:
        raise ReplyError("ERR wrong number of arguments for 'xadd' command")
    _check_new_id(args[i])
    stream = db.find(args[0], Stream)
    if stream is None and not make:
        return None
    stream = Stream() if stream is None else stream
    entry_id = _next_id(db, stream, args[i])
    if entry_id <= stream.last:
        raise ReplyError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    db.data[args[0]] = stream
    stream.append(entry_id, fields)
    if limit is not None:
        _trim(stream, limit)
    return b"%d-%d" % entry_id


@command("XTRIM", 3)
def _xtrim(db: Keyspace, args: Arguments) -> Any:
    stream = db.find(args[0], Stream)
    limit, _ = _limit(args, 1)
    return 0 if stream is None else _trim(stream, limit)


@command("XLEN", 1, 1)
def _xlen(db: Keyspace, args: Arguments) -> Any:
    stream = db.find(args[0], Stream)
    return 0 if stream is None else len(stream.ids)


@command("XDEL", 2)
def _xdel(db: Keyspace, args: Arguments) -> Any:
    stream, count = db.find(args[0], Stream), 0
    for text in args[1:] if stream is not None else ():
        assert stream is not None
        for place in stream.span(_id(text, 0), _id(text, 0)):
            del stream.ids[place]
            del stream.fields[place]
            count += 1
    return count


def _entries(stream: Stream | None, first: Id, last: Id, words: Arguments, *, back: bool) -> list[Any] | None:
    if words and (len(words) != 2 or words[0].upper() != b"COUNT"):
        raise syntax_error()
    count = integer(words[1]) if words else None
    if stream is None:
        return []
    if count is not None and count <= 0:
        return None
    places = stream.span(first, last)
    places = places[::-1] if back else places
    return [[b"%d-%d" % stream.ids[place], list(stream.fields[place])] for place in places[:count]]


@command("XRANGE", 3, 5)
def _xrange(db: Keyspace, args: Arguments) -> Any:
    first, last = _edge(args[1], low=True), _edge(args[2], low=False)
    return _entries(db.find(args[0], Stream), first, last, args[3:], back=False)


@command("XREVRANGE", 3, 5)
def _xrevrange(db: Keyspace, args: Arguments) -> Any:
    last, first = _edge(args[1], low=False), _edge(args[2], low=True)
    return _entries(db.find(args[0], Stream), first, last, args[3:], back=True)
