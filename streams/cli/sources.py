"""Where settings come from: the file, the environment and `--set`, each read on its own so that origins are known."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_settings import BaseSettings, EnvSettingsSource, TomlConfigSettingsSource
from pydantic_settings.exceptions import SettingsError as SourceError

from streams.cli.errors import SettingsError

DEFAULT_FILE = Path("streamrec.toml")
FILE_VARIABLE = "STREAMREC_CONFIG"
PREFIX = "STREAMREC_"
NOT_SETTINGS = {"STREAMREC_KAFKA_HOME"}
"""Variables that look like a section's but belong to the tests."""


class Layer(NamedTuple):
    """What one source says, as `{"kafka.brokers": value}`, and what to call it in messages."""

    origin: str
    values: dict[str, Any]


def file_layer(settings_type: type[BaseSettings], config: Path | None) -> Layer:
    """What the settings file says; nothing where no file was named and the default one is not there.

    Raises:
        SettingsError: If the named file does not exist, or one that exists cannot be read.
    """
    named = config or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    path = named or DEFAULT_FILE
    if not path.is_file():
        if named:
            raise SettingsError(f"settings file {named} does not exist; name another with --config or {FILE_VARIABLE}")
        return Layer("", {})
    try:
        values = TomlConfigSettingsSource(settings_type, path).toml_data
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}") from None
    return Layer(f"file {path}", dict(_flatten(values)))


def environment_layers(settings_type: type[BaseSettings]) -> Iterator[Layer]:
    """What the environment says, one layer a variable.

    Raises:
        SettingsError: If a variable begins with the prefix but names no section, or holds broken JSON.
    """
    sections = {name.upper() for name in settings_type.model_fields}
    variables = {name.upper() for name in os.environ if name.upper().startswith(PREFIX)}
    for variable in sorted(variables - NOT_SETTINGS):
        section, underscores, _ = variable.removeprefix(PREFIX).partition("__")
        if underscores and section not in sections:
            known = hint(section.lower(), settings_type.model_fields)
            raise SettingsError(f"{variable} (environment): there is no section {section.lower()}{known}")
        single, _, rest = section.partition("_")
        if not underscores and single in sections and rest:
            raise SettingsError(
                f"{variable} (environment): unknown; write {PREFIX}{single}__{rest}, with two underscores"
            )
    try:
        values = EnvSettingsSource(settings_type)()
    except SourceError as error:
        raise SettingsError(f"environment: {error}; a variable without __ must hold a JSON object") from None
    for key, value in _flatten(values):
        variable = PREFIX + key.upper().replace(".", "__")
        yield Layer(f"environment {variable}" if variable in variables else "environment", {key: value})


def flag_layer(sets: Sequence[str]) -> Layer:
    """What `--set section.key=value` says; a value that begins with `[` or `{` is JSON.

    Raises:
        SettingsError: If a flag has another form.
    """
    values: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise SettingsError(f"--set {key}: write section.key=value, as in --set kafka.partitions=16")
        try:
            values[key.strip()] = json.loads(value) if value.startswith(("[", "{")) else value
        except json.JSONDecodeError as error:
            raise SettingsError(f"--set {key}: not valid JSON: {error}") from None
    return Layer("flag --set", dict(_flatten(values)))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def hint(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the known one that looks most like it, if any."""
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""
