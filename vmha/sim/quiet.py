"""Silence in the logs while a simulation runs: a run's account is its history and its events."""

from __future__ import annotations

import logging
from typing import Any

import structlog

_NOWHERE = structlog.ReturnLogger()


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


class Silence:
    """Switches structlog and logging off between `begin` and `end`."""

    def __init__(self) -> None:
        self._structlog: dict[str, Any] | None = None
        self._disabled = logging.NOTSET

    def begin(self) -> None:
        """From now on nothing is logged."""
        self._structlog = structlog.get_config()
        structlog.configure(
            processors=[_drop],
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
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
