"""Settings: file, environment, and everything that can be wrong with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from vmha.config import AgentSettings, EvacSettings, ManagerSettings, load, read_mapping
from vmha.errors import InvalidField

TOP = Path(__file__).resolve().parents[2]
MANAGER: dict[str, Any] = {"redis_url": "redis://:hunter2@db:6379/0", "evac_target": "127.0.0.1:7402"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VMHA_")]:
        monkeypatch.delenv(name)


def written(directory: Path, content: object) -> Path:
    path = directory / "service.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def mistakes(path: Path, kind: type[Any] = ManagerSettings) -> dict[str, str]:
    with pytest.raises(InvalidField) as caught:
        load(kind, path)
    assert "hunter2" not in repr(caught.value) + str(caught.value)
    return {violation.field: violation.description for violation in caught.value.violations}


def test_a_file_and_its_defaults(tmp_path: Path) -> None:
    """What is not written has its default."""
    settings = load(ManagerSettings, written(tmp_path, MANAGER))

    assert (settings.listen, settings.discovery_interval_s, settings.tls) == ("0.0.0.0:7400", 2.0, None)


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sidecar changes one field without a file of its own; lists are written with commas, nested fields with __."""
    monkeypatch.setenv("VMHA_HOST_ID", "hv7")
    monkeypatch.setenv("VMHA_MANAGERS", "10.0.0.1:7400, 10.0.0.2:7400")
    for name in ("CERT", "KEY", "CA"):
        monkeypatch.setenv(f"VMHA_TLS__{name}_FILE", f"/etc/vmha/{name}")

    settings = load(AgentSettings, written(tmp_path, {"host_id": "hv1", "managers": ["10.9.9.9:7400"], "log_level": "debug"}))

    assert settings.host_id == "hv7"
    assert settings.managers == ("10.0.0.1:7400", "10.0.0.2:7400")
    assert settings.log_level == "debug"
    assert settings.tls is not None and settings.tls.key_file == Path("/etc/vmha/KEY")


def test_the_file_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VMHA_CONFIG names it."""
    monkeypatch.setenv("VMHA_CONFIG", str(written(tmp_path, MANAGER)))

    assert load(ManagerSettings).evac_target == "127.0.0.1:7402"


def test_variables_of_the_command_line_are_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VMHA_MANAGER belongs to the command line; an operator's shell may have it."""
    monkeypatch.setenv("VMHA_MANAGER", "10.0.0.1:7400")

    assert load(ManagerSettings, written(tmp_path, MANAGER)).log_level == "info"


def test_all_unknown_keys_are_named(tmp_path: Path) -> None:
    """A misspelt key must not be a silent default."""
    found = mistakes(written(tmp_path, {**MANAGER, "lisen": "x", "log_levle": "info", "tls": {"cert": "/a"}}))

    assert found["lisen"] == found["log_levle"] == found["tls.cert"] == "unknown key"
    assert found["tls.cert_file"] == "is required"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("discovery_interval_s", 0),
        ("discovery_interval_s", -1),
        ("discovery_interval_s", 1e9),
        ("discovery_interval_s", float("nan")),
        ("discovery_interval_s", float("inf")),
        ("discovery_interval_s", "soon"),
        ("discovery_interval_s", [1]),
        ("listen", "7400"),
        ("listen", "0.0.0.0:74000"),
        ("listen", "http://0.0.0.0:7400"),
        ("evac_target", "evac:0"),
        ("metrics_listen", "yes"),
        ("manager_id", "Not An Id"),
        ("redis_url", "hunter2"),
        ("redis_url", {"password": "hunter2"}),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("reflection", "hunter2"),
        ("tls", "hunter2"),
    ],
)
def test_a_wrong_value_is_named_and_not_repeated(tmp_path: Path, field: str, value: object) -> None:
    """Absurd spans, wrong types, targets that are none: by field, and never with the value."""
    found = mistakes(written(tmp_path, {**MANAGER, field: value}))

    assert [name.partition(".")[0] for name in found] == [field]


def test_a_broken_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also there the value stays out of the message."""
    monkeypatch.setenv("VMHA_TLS", "{hunter2")
    monkeypatch.setenv("VMHA_DRAIN_GRACE_S", "hunter2")

    assert mistakes(written(tmp_path, MANAGER))


def test_what_is_missing_is_named() -> None:
    """Without any file."""
    assert set(mistakes_of(EvacSettings)) == {"redis_url"}
    assert set(mistakes_of(AgentSettings)) == {"host_id", "managers"}


def mistakes_of(kind: type[Any]) -> list[str]:
    with pytest.raises(InvalidField) as caught:
        load(kind)
    return [violation.field for violation in caught.value.violations]


def test_settings_show_no_password() -> None:
    """They may end up in a log."""
    assert "hunter2" not in repr(ManagerSettings(**MANAGER))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: key 'a' is given twice"),
        ("redis_url: [hunter2\n", "line 2, column 1: "),
        ("- hunter2\n", "must be a mapping"),
        ("hunter2", "must be a mapping"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("1: 2\n", "must be a mapping of keys"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, expected: str) -> None:
    """Where the mistake is, without the text around it."""
    with pytest.raises(InvalidField) as caught:
        read_mapping(written(tmp_path, text))

    assert expected in caught.value.message
    assert "hunter2" not in caught.value.message


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    """Everything may come from the environment."""
    assert read_mapping(written(tmp_path, "")) == {}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Says which and why."""
    with pytest.raises(InvalidField) as caught:
        read_mapping(tmp_path / "none.yaml")

    assert "No such file" in caught.value.message


@pytest.mark.parametrize(
    ("directories", "mistake"),
    [
        (["srv/shared"], "must be an absolute path"),
        (["/"], "must be an absolute path"),
        (["/srv/../etc"], "without . and .."),
        (["/srv/a", "/srv/a"], "must name each directory once"),
        ([f"/srv/{number}" for number in range(65)], "at most 64"),
    ],
)
def test_shared_directories_that_cannot_be_are_refused(tmp_path: Path, directories: list[str], mistake: str) -> None:
    """Relative paths, the root, dots, one twice, too many: each by name."""
    content = {"host_id": "hv1", "managers": ["10.9.9.9:7400"], "shared_directories": directories}
    with pytest.raises(InvalidField) as caught:
        load(AgentSettings, written(tmp_path, content))

    (violation,) = caught.value.violations
    assert violation.field.startswith("shared_directories")
    assert mistake in violation.description


@pytest.mark.parametrize(("name", "kind"), [("manager", ManagerSettings), ("agent", AgentSettings), ("evac", EvacSettings)])
def test_the_shipped_examples_are_valid(name: str, kind: type[Any]) -> None:
    """deploy/examples can be used as they are."""
    assert load(kind, TOP / f"deploy/examples/{name}.yaml").listen
