"""Silence in logs and metrics while a simulation runs: a run's account is its history and its events, and nobody scrapes it.

Only what the product catches, writes into its log as a fault of its own and goes on from is heard: nothing else would tell of it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

_NOWHERE = structlog.ReturnLogger()
_LOGGER: Final = type(structlog.get_logger())
_get_loud: Final = _LOGGER.__getattr__
_FAULTS: Final = frozenset({"error", "exception", "critical"})
"""Methods of a logger that may tell of an exception."""


def _do_nothing(*_: object, **__: object) -> None:
    """What a logger or a metric does while nobody looks."""


def _get_faults(logger: Any, method: str) -> Any:
    return _get_loud(logger, method) if method in _FAULTS else _do_nothing


def _itself(metric: Any, *_: object, **__: object) -> Any:
    """A metric without its labels: nothing is counted, so none are needed."""
    return metric


_SILENCED: Final = (
    (_LOGGER, "__getattr__", _get_faults),
    (MetricWrapperBase, "labels", _itself),
    (Counter, "inc", _do_nothing),
    (Gauge, "inc", _do_nothing),
    (Gauge, "dec", _do_nothing),
    (Gauge, "set", _do_nothing),
    (Histogram, "observe", _do_nothing),
)


class Silence:
    """Switches structlog, logging and the counting of prometheus_client off between `begin` and `end`.

    Args:
        fault: Told of each exception that is logged, and what is said of it.
    """

    def __init__(self, fault: Callable[[str, BaseException], None] = lambda _text, _error: None) -> None:
        self._fault = fault
        self._structlog: dict[str, Any] | None = None
        self._disabled = logging.NOTSET
        self._loud: list[Any] = []

    def begin(self) -> None:
        """From now on nothing is logged or counted."""
        self._structlog = structlog.get_config()
        structlog.configure(
            processors=[self._hear],
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
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

    def _hear(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        error = event.get("exc_info")
        if error is True:
            error = sys.exc_info()[1]
        if isinstance(error, BaseException):
            self._fault(str(event.get("event", "")), error)
        raise structlog.DropEvent
