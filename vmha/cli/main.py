"""The `vmha` command: global options, and the nouns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from vmha import __version__
from vmha.cli import (
    apply_command,
    cluster_commands,
    doctor_command,
    drain_command,
    evacuation_commands,
    event_commands,
    host_commands,
    service_commands,
    vm_commands,
)
from vmha.cli.output import Format
from vmha.cli.session import Options
from vmha.rpc.tls import TlsFiles

app = typer.Typer(
    name="vmha",
    help="Keeps virtual machines of libvirt/KVM hosts alive when their host dies, and never runs one twice.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(cluster_commands.app, name="cluster")
host_commands.app.command()(drain_command.drain)
app.add_typer(host_commands.app, name="host")
app.add_typer(vm_commands.app, name="vm")
app.add_typer(evacuation_commands.app, name="evacuation")
app.command()(apply_command.apply)
app.command()(event_commands.events)
app.command()(doctor_command.doctor)
app.command()(service_commands.manager)
app.command()(service_commands.agent)
app.command()(service_commands.agent_watchdog)
app.command()(service_commands.evac)

_GLOBAL: Final = {"--manager", "--evac", "--cluster", "--output", "-o", "--timeout", "--tls-cert", "--tls-key", "--tls-ca"}
_SERVICES: Final = {"manager", "agent", "evac"}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vmha {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    manager: Annotated[str, typer.Option(help="The manager, as host:port.", envvar="VMHA_MANAGER")] = "127.0.0.1:7400",
    evac: Annotated[str, typer.Option(help="The evacuator, as host:port.", envvar="VMHA_EVAC")] = "127.0.0.1:7402",
    cluster: Annotated[
        str, typer.Option(help="Which cluster; not needed when there is one.", envvar="VMHA_CLUSTER", show_default=False)
    ] = "",
    output: Annotated[Format, typer.Option("-o", "--output", help="Tables for people, json for programs.")] = Format.TABLE,
    timeout: Annotated[float, typer.Option(help="Seconds that one call may take.", min=0.05, max=3600)] = 10.0,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM).", envvar="VMHA_TLS__CERT_FILE")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).", envvar="VMHA_TLS__KEY_FILE")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="The authority to trust (PEM).", envvar="VMHA_TLS__CA_FILE")] = None,
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Global options; they may stand before or after the command."""
    context.obj = Options(
        manager=manager, evac=evac, cluster=cluster, output=output, timeout_s=timeout, tls=_tls(tls_cert, tls_key, tls_ca)
    )


def _tls(cert: Path | None, key: Path | None, ca: Path | None) -> TlsFiles | None:
    if cert and key and ca:
        return TlsFiles(cert_file=cert, key_file=key, ca_file=ca)
    if cert or key or ca:
        raise typer.BadParameter("--tls-cert, --tls-key and --tls-ca go together")
    return None


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The arguments with global options moved to the front: people type `vmha host list -o json`."""
    front: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            rest += [word, *waiting]
            break
        name = word.partition("=")[0]
        if word in _GLOBAL and waiting:
            front += [word, waiting.pop(0)]
        elif name in _GLOBAL and "=" in word:
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with an exit code of docs/cli.md."""
    app(hoisted(sys.argv[1:] if arguments is None else arguments), prog_name="vmha")


if __name__ == "__main__":
    main()
