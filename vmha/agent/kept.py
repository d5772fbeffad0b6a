"""The lease's record as JSON: what `State` writes of it, and how it is read back (docs/safety.md, R9). No I/O."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from vmha.agent.lease_events import Kept, LeaseConfig

_TIMES: Final = ("last_ack", "lease_until", "cert_until", "carried_until")
_FLAGS: Final = {False: "false", True: "true"}


def to_json(kept: Kept) -> str:
    """Without the configuration. Infinite times are words: JSON has no numbers for them. By hand: it is done with each ack."""
    return (
        f'{{"last_ack": {_word(kept.last_ack)}, "lease_until": {_word(kept.lease_until)}'
        f', "cert_until": {_word(kept.cert_until)}, "carried_until": {_word(kept.carried_until)}'
        f', "incarnation": {kept.incarnation}, "leased_incarnation": {kept.leased_incarnation}'
        f', "latched": {_FLAGS[kept.latched]}, "vms_gone": {_FLAGS[kept.vms_gone]}}}'
    )


def terms_to_json(config: LeaseConfig | None) -> dict[str, Any] | None:
    """The lease's configuration as plain values: large, and seldom another one."""
    return None if config is None else asdict(config)


def from_json(found: dict[str, Any], config: dict[str, Any] | None) -> Kept:
    """What `to_json` and `terms_to_json` made.

    Raises:
        KeyError, TypeError, ValueError: They made something else: the record is broken, or of another release.
    """
    return Kept(
        incarnation=max(0, int(found["incarnation"])),
        leased_incarnation=int(found["leased_incarnation"]),
        latched=_flag(found["latched"]),
        vms_gone=_flag(found["vms_gone"]),
        config=None if config is None else _config(config),
        **{name: _time(found[name]) for name in _TIMES},
    )


def _config(found: dict[str, Any]) -> LeaseConfig:
    config = LeaseConfig(**(found | {"voters": tuple(str(voter) for voter in found["voters"])}))
    fields: dict[str, Any] = asdict(config)
    spans = [value for name, value in fields.items() if name.endswith("_s")]
    if not isinstance(fields["enforced"], bool) or not all(isinstance(span, int | float) for span in spans):
        raise TypeError("a configuration's figures")
    return config


def _word(value: float) -> float | str:
    return value if math.isfinite(value) else f'"{value}"'


def _time(value: Any) -> float:
    time = float(value)
    if math.isnan(time):
        raise ValueError("not a time")
    return time


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a flag")
    return value
