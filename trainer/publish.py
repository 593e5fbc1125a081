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


def current_update(source: KafkaSource, model: str) -> ModelUpdate | None:
    """What the topic holds for a model: its newest update that can be read, None if there is none.

    Raises:
        ReplayError: If the topic does not exist or the brokers do not answer.
    """
    newest: ModelUpdate | None = None
    with open_topic(source, source.model_updates) as records:
        for record in records:
            if record.key != model.encode():
                continue
            newest = _update(record.value)
    return newest


def announce(source: KafkaSource, model: str, reference: BundleReference, metrics: Mapping[str, float]) -> ModelUpdate:
    """Tell the workers of a bundle that is on the disk; blocks until every replica has the record.

    Returns:
        The update as it was sent; `previous` is the bundle that the topic held until now.

    Raises:
        ReplayError: If the topic does not exist or the brokers do not answer.
        AnnouncementError: If the record was not acknowledged.
    """
    current = current_update(source, model)
    update = ModelUpdate(
        **reference.model_dump(),
        model=model,
        metrics=dict(metrics),
        previous=BundleReference.model_validate(current.model_dump()) if current else None,
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
            f"{source.model_updates!r}: {error}; when the brokers are back, train again"
        ) from error
    return update


def _update(value: bytes | None) -> ModelUpdate | None:
    """The record, or None where it is a tombstone or nothing that a worker could have loaded."""
    try:
        return ModelUpdate.model_validate_json(value) if value else None
    except ValidationError:
        return None
