"""Silence in logs and metrics while a simulation runs: a run's account is its history and its events, and nobody scrapes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

_NOWHERE = structlog.ReturnLogger()
_LOGGER: Final = type(structlog.get_logger())


def _do_nothing(*_: object, **__: object) -> None:
    """What a logger or a metric does while nobody looks."""


def _get_nothing(_logger: object, _method: str) -> Callable[..., None]:
    return _do_nothing


def _itself(metric: Any, *_: object, **__: object) -> Any:
    """A metric without its labels: nothing is counted, so none are needed."""
    return metric


_SILENCED: Final = (
    (_LOGGER, "__getattr__", _get_nothing),
    (MetricWrapperBase, "labels", _itself),
    (Counter, "inc", _do_nothing),
    (Gauge, "inc", _do_nothing),
    (Gauge, "dec", _do_nothing),
    (Gauge, "set", _do_nothing),
    (Histogram, "observe", _do_nothing),
)


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


class Silence:
    """Switches structlog, logging and the counting of prometheus_client off between `begin` and `end`."""

    def __init__(self) -> None:
        self._structlog: dict[str, Any] | None = None
        self._disabled = logging.NOTSET
        self._loud: list[Any] = []

    def begin(self) -> None:
        """From now on nothing is logged or counted."""
        self._structlog = structlog.get_config()
        structlog.configure(
            processors=[_drop],
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
            logger_factory=lambda *_: _NOWHERE,
            cache_logger_on_first_use=False,
        )
        self._disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        self._loud = [getattr(kind, name) for kind, name, _ in _SILENCED]
        for kind, name, silent in _SILENCED:
            setattr(kind, name, silent)

    def end(self) -> None:
        """As it was before; twice is once."""
        if self._structlog is not None:
            structlog.configure(**self._structlog)
            logging.disable(self._disabled)
            for (kind, name, _), loud in zip(_SILENCED, self._loud, strict=True):
                setattr(kind, name, loud)
            self._structlog = None
