"""Settings of the services: a YAML file, with the environment on top.

Every field `x_y` of a file can be set by VMHA_X_Y, nested ones with two underscores (VMHA_TLS__CERT_FILE), lists with commas. An
unknown key, a wrong type and an absurd figure are refused, all of them at once and by name; values are never repeated in
errors, because a redis_url may hold a password. docs/configuration.md lists the fields.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from vmha.errors import FieldViolation, InvalidField
from vmha.model import valid_id
from vmha.rpc.checks import valid_target
from vmha.rpc.tls import TlsFiles

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
CONFIG_VARIABLE: Final = "VMHA_CONFIG"
_REDIS_SCHEMES: Final = (
    "redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://",
)  # fmt: skip

S = TypeVar("S", bound="ServiceSettings")


def _target(text: str) -> str:
    if not valid_target(text):
        raise ValueError("must be host:port")
    return text


def _listen(text: str) -> str:
    # Port 0 lets the system choose.
    _target(text.removesuffix(":0") + ":1" if text.endswith(":0") else text)
    return text


def _optional_target(text: str) -> str:
    return text and _listen(text)


def _identifier(text: str) -> str:
    if not valid_id(text):
        raise ValueError("must be 1 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends")
    return text


def _redis_url(text: str) -> str:
    if not text.startswith(_REDIS_SCHEMES):
        raise ValueError(f"must start with {', '.join(_REDIS_SCHEMES)}")
    return text


def _directory(path: Path) -> Path:
    if not path.is_absolute() or path == Path("/") or os.path.normpath(path) != str(path):
        raise ValueError("must be an absolute path of a directory, without . and ..")
    return path


def _once(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if len(set(paths)) < len(paths):
        raise ValueError("must name each directory once")
    return paths


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Target = Annotated[str, AfterValidator(_target)]
Listen = Annotated[str, AfterValidator(_listen)]
OptionalTarget = Annotated[str, AfterValidator(_optional_target)]
Identifier = Annotated[str, AfterValidator(_identifier)]
RedisUrl = Annotated[str, Field(repr=False), AfterValidator(_redis_url)]
Span = Annotated[float, Field(ge=0.05, le=86_400, allow_inf_nan=False)]
"""Seconds, from 50 ms to a day."""
Directory = Annotated[Path, AfterValidator(_directory)]
Directories = Annotated[tuple[Directory, ...], NoDecode, BeforeValidator(_split), Field(max_length=64), AfterValidator(_once)]
Targets = Annotated[tuple[Target, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]


class ServiceSettings(BaseSettings):
    """What every service has."""

    model_config = SettingsConfigDict(
        env_prefix="VMHA_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    metrics_listen: OptionalTarget = ""
    """Where /metrics is served; empty: nowhere."""
    tls: TlsFiles | None = None
    """Mutual TLS; without it everything is plaintext."""
    reflection: bool = True
    """Whether grpc reflection is served, for grpcurl without proto files."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which comes in as init arguments."""
        return (env_settings, init_settings)


class ManagerSettings(ServiceSettings):
    """`vmha manager`."""

    listen: Listen = "0.0.0.0:7400"
    advertise: OptionalTarget = ""
    """Where agents reach this replica, told to those that ask another; empty: the address of `listen`, or the host's name."""
    leader_lease_s: Annotated[float, Field(ge=0.5, le=60, allow_inf_nan=False)] = 3.0
    """A leader that does not renew for this long is replaced; the same on all replicas (docs/decisions/009)."""
    redis_url: RedisUrl
    evac_target: Target
    """The evacuator, as host:port."""
    discovery_interval_s: Span = 2.0
    """How often clusters are looked for in the store."""
    manager_id: Identifier = Field(default_factory=lambda: socket.gethostname().lower())
    """This replica, in logs and welcomes."""
    drain_grace_s: Span = 5.0
    """How long SIGTERM waits for calls that are under way."""


class AgentSettings(ServiceSettings):
    """`vmha agent`."""

    host_id: Identifier
    managers: Targets
    """Where managers listen, each as host:port; one is used at a time."""
    listen: Listen = "0.0.0.0:7401"
    libvirt_uri: str = "qemu:///system"
    state_dir: Path = Path("/run/vmha")
    """Where the incarnation is kept for this boot; must not outlive it."""
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
    """Where the host's boot id is read; a sidecar or a lab may show another."""
    marker_dir: Path = Path("/var/lib/vmha")
    """Where it is marked that VMs run here only under a lease, and the copy of the cluster's configuration is kept; must outlive
    the boot."""
    shared_directories: Directories = ()
    """Directories on storage that other hosts mount at the same place; the agents prove that they do (docs/decisions/023)."""
    tpm_state_directory: Directory = Path("/var/lib/libvirt/swtpm")
    """Where libvirt keeps the state of emulated TPMs."""
    self_fencing: bool = True
    """Whether the agent may destroy its VMs when it is cut off, where the cluster's `self_fencing` says so."""
    watchdog_device: Path | None = None
    """The watchdog that resets the host when the agent stalls, fed by `vmha agent-watchdog`; None: there is none."""
    watchdog_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 10
    """How long the device waits to be fed before it resets the host."""
    watchdog_reset_s: Span = 1.0
    """How long the reset itself takes, until no guest executes any more."""
    drain_grace_s: Span = 5.0
    """How long SIGTERM waits for calls that are under way."""


class EvacSettings(ServiceSettings):
    """`vmha evac`."""

    listen: Listen = "0.0.0.0:7402"
    redis_url: RedisUrl
    runner_ttl_s: Span = 10.0
    """An evacuator that renews nothing for this long has lost its evacuations to another."""
    pending_retry_s: Span = 2.0
    """How often VMs that wait for room are planned anew."""
    fence_agent_dirs: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split)] = (Path("/usr/sbin"), Path("/usr/bin"))
    """Where fence agents are looked for, unless named by their full path."""
    migrate_timeout_s: Span = 600.0
    """How long the live migration of one VM may take in a host's drain, before it is aborted."""
    stop_grace_s: Span = 60.0
    """How long a guest may take to power off in `vmha host drain --stop`, before it is ended."""
    migrate_unsafe: bool = False
    """Migrate also where libvirt cannot see that disks lie on shared storage: for storage that is shared all the same."""
    drain_grace_s: Span = 5.0
    """How long SIGTERM waits for calls that are under way."""


def load(settings: type[S], path: Path | None = None) -> S:
    """Settings from the file `path`, or the one that VMHA_CONFIG names, or none; and the environment.

    Raises:
        InvalidField: Names every key that is unknown, missing or wrong; or the file cannot be read.
    """
    if path is None and os.environ.get(CONFIG_VARIABLE):
        path = Path(os.environ[CONFIG_VARIABLE])
    content = {} if path is None else read_mapping(path)
    try:
        return settings(**content)
    except ValidationError as error:
        raise InvalidField(violations(error)) from None
    except SettingsError as error:
        # Says which field of the environment could not be decoded; not what was in it.
        raise InvalidField([FieldViolation("environment", str(error))]) from None


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """A file's content, which is never longer than that.

    Raises:
        InvalidField: It cannot be read, or is longer.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except OSError as error:
        raise InvalidField([FieldViolation(str(path), f"cannot be read: {error.strerror}")]) from None
    if len(raw) > most_bytes:
        raise InvalidField([FieldViolation(str(path), f"is larger than {most_bytes} bytes")])
    return raw


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping. Repeated keys are an error, and no tag builds an object.

    Raises:
        InvalidField: It cannot be read or is no such file; says the line, never the content.
    """
    raw = read_bounded(path, MAX_FILE_BYTES)
    try:
        content = yaml.load(raw, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidField([FieldViolation(str(path), f"{where}{error.problem or 'is not YAML'}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidField([FieldViolation(str(path), "is not YAML")]) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidField([FieldViolation(str(path), "must be a mapping of keys to values")])
    return content


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the first would be dropped in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def violations(error: ValidationError, path: str = "") -> list[FieldViolation]:
    """pydantic's findings as field violations; never with the input."""
    found = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            text = "unknown key"
        elif item["type"] == "missing":
            text = "is required"
        else:
            text = item["msg"].removeprefix("Value error, ")
        found.append(FieldViolation(location(item["loc"], path), text))
    return found


def location(parts: tuple[int | str, ...], path: str = "") -> str:
    """A pydantic location as a path: hosts[3].fence.agent."""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    return path
