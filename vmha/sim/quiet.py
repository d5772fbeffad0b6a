"""Silence in the logs while a simulation runs: a run's account is its history and its events.

Only what the product catches, writes into its log as a fault of its own and goes on from is heard: nothing else would tell of it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

_NOWHERE = structlog.ReturnLogger()


class Silence:
    """Switches structlog and logging off between `begin` and `end`.

    Args:
        fault: Told of each exception that is logged, and what is said of it.
    """

    def __init__(self, fault: Callable[[str, BaseException], None] = lambda _text, _error: None) -> None:
        self._fault = fault
        self._structlog: dict[str, Any] | None = None
        self._disabled = logging.NOTSET

    def begin(self) -> None:
        """From now on nothing is logged."""
        self._structlog = structlog.get_config()
        structlog.configure(
            processors=[self._hear],
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
            logger_factory=lambda *_: _NOWHERE,
            cache_logger_on_first_use=False,
        )
        self._disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)

    def end(self) -> None:
        """As it was before; twice is once."""
        if self._structlog is not None:
            structlog.configure(**self._structlog)
            logging.disable(self._disabled)
            self._structlog = None

    def _hear(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        error = event.get("exc_info")
        if error is True:
            error = sys.exc_info()[1]
        if isinstance(error, BaseException):
            self._fault(str(event.get("event", "")), error)
        raise structlog.DropEvent
