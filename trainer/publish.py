"""Announces a bundle on `model-updates`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from kafka import KafkaProducer
from kafka.errors import KafkaError
from pydantic import ValidationError

from encoders.records import SCHEMA_VERSION, BundleReference, ModelUpdate
from trainer.errors import AnnouncementError
from trainer.replay import CONNECT_TIMEOUT_MS, KafkaSource, open_topic

ACKNOWLEDGED_WITHIN_S = 30.0


def current_updates(source: KafkaSource) -> dict[str, ModelUpdate]:
    """What serves, by the model's name: the newest update of each that a worker could read.

    Raises:
        ReplayError: If the topic does not exist or the brokers do not answer.
    """
    newest: dict[str, ModelUpdate] = {}
    with open_topic(source, source.model_updates) as records:
        for record in records:
            if record.value is None:
                newest.pop((record.key or b"").decode(errors="replace"), None)  # withdrawn
            elif (update := _update(record.value)) and record.key == update.model.encode():
                newest[update.model] = update
    return newest


def current_update(source: KafkaSource, model: str) -> ModelUpdate | None:
    """What serves under a model's name; None where nothing was announced, or it was withdrawn.

    Raises:
        ReplayError: If the topic does not exist or the brokers do not answer.
    """
    return current_updates(source).get(model)


def announce(source: KafkaSource, model: str, reference: BundleReference, metrics: Mapping[str, float]) -> ModelUpdate:
    """Tell the workers of a bundle that is on the disk; blocks until every replica has the record.

    Returns:
        The update as it was sent; `previous` is the bundle that it replaces. One that was announced already keeps
        its `previous`, and workers that refused it try again.

    Raises:
        ReplayError: If the topic does not exist or the brokers do not answer.
        AnnouncementError: If the record was not acknowledged.
    """
    current = current_update(source, model)
    update = ModelUpdate(
        **reference.model_dump(),
        model=model,
        metrics=dict(metrics),
        previous=_previous(current, reference) if current else None,
    )
    try:
        with closing(
            KafkaProducer(**source.client_config, acks="all", bootstrap_timeout_ms=CONNECT_TIMEOUT_MS)
        ) as producer:
            headers = [("schema", b"%d" % SCHEMA_VERSION)]
            sent = producer.send(source.model_updates, key=model.encode(), value=update.to_json(), headers=headers)
            sent.get(timeout=ACKNOWLEDGED_WITHIN_S)
    except KafkaError as error:
        raise AnnouncementError(
            f"bundle {reference.uri} is written, but {source.brokers} did not acknowledge its announcement on "
            f"{source.model_updates!r}: {error}; when the brokers are back, announce it with "
            f"`streamrec models promote {reference.version}`"
        ) from error
    return update


def _previous(current: ModelUpdate, reference: BundleReference) -> BundleReference | None:
    if current.manifest_sha256 == reference.manifest_sha256:
        return current.previous
    return BundleReference.model_validate(current.model_dump())


def _update(value: bytes) -> ModelUpdate | None:
    """The record, or None where it is nothing that a worker could have read."""
    try:
        return ModelUpdate.model_validate_json(value)
    except ValidationError:
        return None
