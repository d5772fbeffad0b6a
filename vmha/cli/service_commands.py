"""`vmha manager`, `vmha agent`, `vmha agent-watchdog`, `vmha evac`: start a service and stay until SIGTERM.

A service's own code is imported only here, and only when asked for: an agent's host needs no Redis client.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from vmha.cli import exits, output
from vmha.errors import VmhaError

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file; environment variables VMHA_<FIELD> win over it.", envvar="VMHA_CONFIG")
]


def manager(path: ConfigFile = None) -> None:
    """Run a manager: watches hosts, confirms a death, orders evacuations."""
    _serve("manager", "ManagerSettings", path)


def agent(path: ConfigFile = None) -> None:
    """Run a host's agent: probes peers, reports, admits VMs."""
    _serve("agent", "AgentSettings", path)


def agent_watchdog(path: ConfigFile = None) -> None:
    """Feed the host's watchdog while its agent keeps its word; with the agent's own settings."""
    _serve("agent", "AgentSettings", path, module="watchdog_app")


def evac(path: ConfigFile = None) -> None:
    """Run an evacuator: proves a death, starts VMs elsewhere."""
    _serve("evac", "EvacSettings", path)


def _loop_of(service: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Thousands of sessions meet in a manager: its loop is uvloop's; every other service has Python's own."""
    if service != "manager":
        return None
    import uvloop  # noqa: PLC0415

    return uvloop.new_event_loop


def _serve(service: str, settings_name: str, path: Path | None, *, module: str = "app") -> None:
    from vmha import config, log  # noqa: PLC0415

    kind: type[config.ServiceSettings] = getattr(config, settings_name)
    try:
        settings = config.load(kind, path)
        log.configure(settings.log_level, settings.log_format, service)
        run: Callable[[Any], Coroutine[Any, Any, int | None]] = importlib.import_module(f"vmha.{service}.{module}").run
        with asyncio.Runner(loop_factory=_loop_of(service)) as runner:
            code = runner.run(run(settings))
    except VmhaError as error:
        output.complain(error)
        raise typer.Exit(int(exits.of(error))) from None
    except KeyboardInterrupt:
        raise typer.Exit(int(exits.Exit.INTERRUPTED)) from None
    if code:
        # The manager says in its log why it cannot start, and only returns that it did not.
        raise typer.Exit(code)
