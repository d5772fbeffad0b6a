"""Structured logs: one JSON object (or one coloured line) a record on standard error.

`incident_id`, `cluster_id` and `host_id` are bound once per task with `bound(...)` and then stand in every line that the task and
those it starts write, also in lines of libraries that use `logging`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import structlog
from structlog.typing import Processor

Format = Literal["json", "console"]
LEVELS: Final = ("debug", "info", "warning", "error")
MAX_VALUE_CHARACTERS: Final = 4096
"""A single value is cut here: a malformed 256 KiB domain XML must not fill the journal."""


def configure(level: str = "info", fmt: Format = "json", service: str = "vmha") -> None:
    """Set up structlog and `logging` for this process. Every line carries `service`."""
    number = getattr(logging, level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _bounded,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_tail(fmt)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # One line per probe is no news.
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))


@contextmanager
def bound(**values: str) -> Iterator[None]:
    """Put `values` (incident_id=..., host_id=...) into every line written within, in this task and in those it starts."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def _tail(fmt: Format) -> list[Processor]:
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if fmt == "console":
        return [drop_meta, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [drop_meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _bounded(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
            event[key] = value[:MAX_VALUE_CHARACTERS] + f"… ({len(value)} characters)"
    return event
