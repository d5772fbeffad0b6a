"""The table of keys."""

from __future__ import annotations

import re
from pathlib import Path

from tests.store.ways import whole_way
from tests.support.redis import RedisHome
from vmha.store import Store, keys

TOP = Path(__file__).resolve().parents[2]


def test_the_document_shows_the_table() -> None:
    """docs/redis-keys.md and keys.py say the same."""
    assert keys.markdown() in (TOP / "docs" / "redis-keys.md").read_text()


def test_keys_of_a_cluster_share_one_slot() -> None:
    """Every key but the two indexes carries the cluster's hash tag."""
    untagged = [spec.name for spec in keys.TABLE if "{<cluster_id>}" not in spec.pattern]

    assert untagged == ["cluster_index", "host_index"]


def test_no_other_module_names_a_key() -> None:
    """Key names stand in keys.py only; scripts take them from generated functions."""
    sources = [*(TOP / "vmha").rglob("*.py"), *(TOP / "vmha").rglob("*.lua")]
    wrong = [
        f"{path.name}: {line.strip()}"
        for path in sources
        if path.name != "keys.py"
        for line in path.read_text().splitlines()
        if re.search(r"""["']vmha:[{a-z]""", line)
    ]

    assert wrong == []


async def test_every_key_that_exists_is_in_the_table(store: Store, redis_home: RedisHome) -> None:
    """A whole way leaves only keys of the table, of the type and lifetime that it says."""
    running = await whole_way(store)
    client = redis_home.client(decode_responses=True)
    specs = {
        re.compile(re.sub(r"<\w+>", "[^:]+", s.pattern.replace("{", r"\{").replace("}", r"\}")) + r"\Z"): s for s in keys.TABLE
    }
    seen = set()
    async for key in client.scan_iter():
        [spec] = [spec for pattern, spec in specs.items() if pattern.match(key)]
        found = str(await client.type(key))
        kind = {"zset": "sorted set"}.get(found, found)
        assert kind == spec.kind, key
        unfinished = any(each in key for each in running)
        lives_on = spec.ttl.startswith("none") or (unfinished and spec.ttl.startswith("30 days after its end"))
        assert (await client.ttl(key) > 0) == (not lives_on), f"{key}: {await client.ttl(key)}"
        seen.add(spec.name)
    await client.aclose()

    assert seen == {spec.name for spec in keys.TABLE} - {"tombstone"}
