"""Settings of the running service: one pydantic model for each section of `streamrec.toml`.

The CLI assembles them, see `streams.cli.config`. Passwords are `SecretStr`, and a URL never keeps one.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from encoders.window import WindowRule
from streams.durations import Duration

if TYPE_CHECKING:
    import redis
    import redis.asyncio

TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}$")]


class Password(str):
    """A password on its way into a client library: its text, but never its repr, so that no log shows it."""

    def __repr__(self) -> str:
        return "'***'"


class Section(BaseModel):
    """Base of every section: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TopicNames(Section):
    """What the topics are called on this cluster."""

    interactions: TopicName = "interactions"
    items: TopicName = "items"
    users: TopicName = "users"
    recommendations: TopicName = "recommendations"
    model_updates: TopicName = "model-updates"
    erasures: TopicName = "erasures"
    dead_letters: TopicName = "dead-letters"

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        names = list(self.model_dump().values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two topics are called {', '.join(twice)}; give each a name of its own")
        return self


class KafkaSettings(Section):
    """How to reach Kafka, and what the topics look like."""

    brokers: Annotated[str, StringConstraints(pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$")] = "127.0.0.1:9092"
    """Addresses to start from, `host:port`, separated by commas."""
    client_id: str = "streamrec"
    group_id: str = "streamrec"
    """Consumer group that the workers share."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    """PEM file of the authority that signed the brokers' certificates; the system's own if not set."""
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    session_timeout_s: float = Field(default=30.0, gt=0)
    """A worker that is silent this long loses its partitions."""
    heartbeat_interval_s: float = Field(default=3.0, gt=0)
    rebalance_timeout_s: float = Field(default=60.0, gt=0)
    """How long a rebalance waits for a worker to come back."""
    fetch_max_wait_ms: int = Field(default=500, ge=1)
    """How long a broker may hold back the answer to a fetch while it has nothing; Tansu always does."""
    partitions: int = Field(default=8, ge=1)
    """Partitions of `interactions` and `recommendations` at creation; the state is bound to the number."""
    retention: Duration = timedelta(days=90)
    """How long `interactions` keeps a record, set at creation: models and lost sessions are made from it."""
    replication_factor: int = Field(default=1, ge=1)
    """Copies of each partition at creation."""
    topics: TopicNames = TopicNames()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.uses_sasl and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_username and sasl_password")
        if self.sasl_username and not self.uses_sasl:
            raise ValueError(
                f"sasl_username is set, but security_protocol {self.security_protocol} would not send it;"
                " set security_protocol to SASL_SSL or SASL_PLAINTEXT"
            )
        if self.heartbeat_interval_s * 2 > self.session_timeout_s:
            raise ValueError("heartbeat_interval_s must be at most half of session_timeout_s")
        return self

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in with a username and a password."""
        return self.security_protocol.startswith("SASL")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    def kafka_python_config(self) -> dict[str, Any]:
        """Addresses and credentials as keyword arguments of kafka-python's clients."""
        config = self._client_config()
        if self.uses_tls:
            files = {"ssl_cafile": self.ssl_cafile, "ssl_certfile": self.ssl_certfile, "ssl_keyfile": self.ssl_keyfile}
            config |= {name: str(path) for name, path in files.items() if path}
        return config

    def aiokafka_config(self) -> dict[str, Any]:
        """Addresses and credentials as keyword arguments of aiokafka's clients. Reads the certificates."""
        config = self._client_config()
        if self.uses_tls:
            from aiokafka.helpers import create_ssl_context

            config["ssl_context"] = create_ssl_context(
                cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile
            )
        return config

    def _client_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "bootstrap_servers": self.brokers.split(","),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.uses_sasl and self.sasl_password:
            config |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": Password(self.sasl_password.get_secret_value()),
            }
        return config


class RedisSettings(Section):
    """How to reach Redis or Valkey, and how long sessions live there."""

    url: str = "redis://127.0.0.1:6379/0"
    """`redis://host:port/db`, `rediss://` for TLS or `unix://path`; credentials in it move to their own keys."""
    username: str | None = None
    password: SecretStr | None = None
    session_ttl: Duration = timedelta(days=30)
    """A session that no event touches for this long is forgotten."""
    socket_timeout_s: float = Field(default=5.0, gt=0)
    key_prefix: str = ""
    """Put before every key, for deployments that share a server."""

    @model_validator(mode="before")
    @classmethod
    def _move_credentials_out_of_the_url(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        parts = urlsplit(data["url"])
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("url must begin with redis://, rediss:// or unix://")
        if parts.fragment or "password" in parts.query or "username" in parts.query:
            raise ValueError(
                "url must hold no # and no credentials behind a ?; write them before the @, percent-encoded, or as"
                " redis.username and redis.password"
            )
        _ = parts.port  # raises ValueError where it is none
        credentials, at, address = parts.netloc.rpartition("@")
        if not at:
            return data
        username, _, password = (unquote(part) for part in credentials.partition(":"))
        found = {key: value for key, value in (("username", username), ("password", password)) if value}
        if twice := [key for key in found if data.get(key)]:
            raise ValueError(f"{' and '.join(twice)} given twice: in url and as a key of its own; keep one")
        return {**data, **found, "url": urlunsplit(parts._replace(netloc=address))}

    @property
    def safe_url(self) -> str:
        """The address for messages: who logs in, but not with what."""
        if not self.username and not self.password:
            return self.url
        parts = urlsplit(self.url)
        credentials = f"{self.username or ''}{':***' if self.password else ''}"
        return urlunsplit(parts._replace(netloc=f"{credentials}@{parts.netloc}"))

    def client(self, **options: Any) -> redis.asyncio.Redis:
        """A client for asyncio. It connects with its first command, not here."""
        import redis.asyncio

        from streams.packed_commands import packed_at_once

        return packed_at_once(redis.asyncio.Redis.from_url(self.url, **self._client_config(), **options))

    def sync_client(self, **options: Any) -> redis.Redis:
        """A blocking client. It connects with its first command, not here."""
        import redis

        return redis.Redis.from_url(self.url, **self._client_config(), **options)

    def _client_config(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "password": Password(self.password.get_secret_value()) if self.password else None,
            "socket_timeout": self.socket_timeout_s,
            "socket_connect_timeout": self.socket_timeout_s,
        }


class WorkerSettings(Section):
    """What a worker does with a batch of events."""

    max_batch: int = Field(default=4096, ge=1)
    """Most events of one batch, over all partitions."""
    top_n: int = Field(default=10, ge=1, le=200)
    """Length of a list."""
    max_future: Annotated[Duration, Field(le=timedelta(days=3650))] = timedelta(hours=24)
    """An event further ahead of the worker's clock than this is invalid."""
    max_record_bytes: int = Field(default=262_144, ge=1024)
    """A larger record of `interactions` is invalid."""
    max_seen: int = Field(default=1024, ge=0, le=65_535)
    """How many items that left the window a session still remembers as seen."""
    recent_events: int = Field(default=16, ge=0, le=255)
    """How many event ids a session keeps, to count an event once that was sent twice."""
    popularity_half_life: Duration = timedelta(days=30)
    """In event time: after this long a click counts half."""
    dead_letter_limit_bytes: int = Field(default=65536, ge=0)
    """A longer record goes to the dead letters cut to this length."""
    dead_letter_patience: Duration = timedelta(seconds=10)
    """How long a dead letter that cannot be written may hold up its worker before it is given up."""
    max_pending_bytes: int = Field(default=8_388_608, ge=1)
    """How much of each partition may wait to become durable before reading more of it pauses."""
    cached_sessions: int = Field(default=50_000, ge=0)
    """Sessions that a worker remembers for each partition, so that it need not read them again."""
    popularity_refresh: Duration = timedelta(seconds=2)
    """How often the most popular items of all partitions are worked out, at most."""


class WebSettings(Section):
    """Where a worker serves `/health`, `/ready` and `/metrics`."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free one and prints it at start."""


class ModelSettings(Section):
    """Which model is trained and served."""

    name: str = Field(default="gru", min_length=1, max_length=100)
    """Its name, the key on the topic `model-updates`."""
    bundles: Path = Path("bundles")
    """Where the trainer writes model bundles; workers must see the same path."""
    window: WindowRule = WindowRule()
    """Which events of a user the model reads; the sessions in Redis are kept under this rule."""
