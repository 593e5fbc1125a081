"""Settings from flags, environment and file, and where each value came from. `streamrec config`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from index.settings import IndexSettings
from streams.cli.app import app
from streams.cli.errors import SettingsError
from streams.cli.sources import PREFIX, environment_layers, file_layer, flag_layer, hint
from streams.durations import format_duration
from streams.settings import (
    KafkaSettings,
    ModelSettings,
    RedisSettings,
    WebSettings,
    WorkerSettings,
)
from trainer.settings import GateSettings, TrainerSettings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file. Default: the file that STREAMREC_CONFIG names, else ./streamrec.toml if there is one.",
        metavar="FILE",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one setting, e.g. --set kafka.brokers=10.0.0.7:9092. Repeatable.",
        metavar="SECTION.KEY=VALUE",
        show_default=False,
    ),
]


class Settings(BaseSettings):
    """Every setting of streamrec, one section a field. `load_settings` fills it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    model: ModelSettings = ModelSettings()
    index: IndexSettings = IndexSettings()
    trainer: TrainerSettings = TrainerSettings()
    gate: GateSettings = GateSettings()
    web: WebSettings = WebSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is passed in: `load_settings` reads file and environment itself, to know the origins."""
        return (init_settings,)


def load_settings(config: Path | None = None, sets: Sequence[str] | None = None) -> Settings:
    """Settings from flags over environment over file over defaults.

    Args:
        config: The settings file; see `ConfigOption` for what stands in for None.
        sets: `section.key=value` each, as given to `--set`.

    Raises:
        SettingsError: Naming every unknown key and every bad value with its origin.
    """
    return load_with_origins(config, sets)[0]


def load_with_origins(config: Path | None = None, sets: Sequence[str] | None = None) -> tuple[Settings, dict[str, str]]:
    """The same, and for each key that is not a default, where its value came from."""
    layers = [
        file_layer(Settings, config),
        *environment_layers(Settings),
        flag_layer(sets or ()),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            *sections, name = key.split(".")
            place = merged
            for section in sections:
                place = place.setdefault(section, {})
                if not isinstance(place, dict):
                    raise SettingsError(f"{key} ({layer.origin}): {section} is not a section")
            place[name] = value
            origins[key] = layer.origin
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise SettingsError("\n".join(_in_words(details, origins) for details in error.errors())) from None
    for key, value in (("redis.username", settings.redis.username), ("redis.password", settings.redis.password)):
        if value is not None and key not in origins:
            origins[key] = origins["redis.url"]  # it stood in the URL
    return settings, origins


def setting_values(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, sections opened up, in the order of their declaration."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from setting_values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def shown(value: Any) -> Any:
    """A value as `config --show` prints it: durations as they are written, secrets never."""
    match value:
        case SecretStr():
            return "***"
        case timedelta():
            return format_duration(value)
        case Path():
            return str(value)
        case tuple() | list():
            return [shown(entry) for entry in value]
        case _:
            return value


@app.command("config")
def config_command(
    config: ConfigOption = None,
    sets: SetOption = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print every setting, its value and where it came from.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show: print one JSON object.")] = False,
) -> None:
    """Check the settings; with --show print every one, its value and where it came from.

    A flag (`--set kafka.partitions=16`) beats the environment (`STREAMREC_KAFKA__PARTITIONS=16`), which beats
    the file (`[kafka]` with `partitions = 16`), which beats the default. Passwords are never printed.
    """
    settings, origins = load_with_origins(config, sets)
    rows = [(key, shown(value), origins.get(key, "default")) for key, value in setting_values(settings)]
    if as_json:
        print(json.dumps({key: {"value": value, "origin": origin} for key, value, origin in rows}, indent=2))
    elif show:
        width = max(len(key) for key, _, _ in rows)
        for key, value, origin in rows:
            print(f"{key:<{width}}  {_as_text(value):<40}  {origin}")
    else:
        print(f"settings are valid; {len(origins)} of {len(rows)} are not defaults (--show prints them)")


def _as_text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) and value else json.dumps(value)


def _in_words(details: ErrorDetails, origins: Mapping[str, str]) -> str:
    """One line for one thing that is wrong; shows no value that may hold a secret."""
    key = ".".join(str(part) for part in details["loc"] if not isinstance(part, int))
    sources = {origin for name, origin in origins.items() if name == key or name.startswith(f"{key}.")}
    place = f"{key} ({', '.join(sorted(sources)) or 'default'})"
    if details["type"] == "extra_forbidden":
        known = [*Settings.model_fields, *(name for name, _ in setting_values(Settings()))]
        return f"{place}: unknown key{hint(key, known)}"
    message = details["msg"].removeprefix("Value error, ")
    if not isinstance(details["input"], str | int | float) or _may_be_secret(key):
        return f"{place}: {message}"
    return f"{place}: {message}, not {details['input']!r}"


def _may_be_secret(key: str) -> bool:
    return key == "redis.url" or "password" in key
