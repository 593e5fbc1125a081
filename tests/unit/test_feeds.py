"""What the records of broadcast topics mean."""

from __future__ import annotations

import pytest

from encoders.records import ModelUpdate, UserProfile
from streams.feeds import ModelUpdates, check_user


def update(version: str, model: str = "gru") -> ModelUpdate:
    return ModelUpdate(model=model, version=version, uri=f"/bundles/{version}", manifest_sha256="0" * 64)


def applied(feed: ModelUpdates, *updates: ModelUpdate) -> None:
    for each in updates:
        assert feed.apply(each.model.encode(), each.to_json()) is None


@pytest.fixture
def offered() -> list[str]:
    return []


@pytest.fixture
def feed(offered: list[str]) -> ModelUpdates:
    return ModelUpdates("gru", lambda offer: offered.append(offer.version))


def test_of_the_past_only_the_newest_update_is_offered(feed: ModelUpdates, offered: list[str]) -> None:
    applied(feed, update("a"), update("b"), update("c"))
    assert offered == []
    feed.caught_up()
    assert offered == ["c"]


def test_after_the_past_every_update_is_offered_as_it_comes(feed: ModelUpdates, offered: list[str]) -> None:
    feed.caught_up()
    applied(feed, update("a"), update("b"))
    assert offered == ["a", "b"]


def test_an_empty_topic_offers_nothing(feed: ModelUpdates, offered: list[str]) -> None:
    feed.caught_up()
    assert offered == []


def test_updates_of_another_model_are_ignored(feed: ModelUpdates, offered: list[str]) -> None:
    applied(feed, update("a"), update("x", model="sasrec"))
    feed.caught_up()
    applied(feed, update("y", model="sasrec"))
    assert offered == ["a"]


def test_a_tombstone_withdraws_what_was_not_yet_offered(feed: ModelUpdates, offered: list[str]) -> None:
    applied(feed, update("a"))
    assert feed.apply(b"sasrec", None) is None
    assert feed.apply(b"gru", None) is None
    feed.caught_up()
    assert offered == []


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"gru", b"no json", "not-json"),
        (b"gru", b'"\xff"', "not-utf8"),
        (b"gru", b'{"model": "gru"}', "invalid"),
        (b"gru", update("a").to_json().replace(b"0" * 64, b"short"), "invalid"),
        (b"other", update("a").to_json(), "key"),
        (None, update("a").to_json(), "key"),
    ],
)
def test_a_bad_update_is_refused_and_the_one_before_it_stands(
    feed: ModelUpdates, offered: list[str], key: bytes | None, value: bytes, reason: str
) -> None:
    applied(feed, update("good"))
    refusal = feed.apply(key, value)
    assert refusal is not None
    assert refusal.reason == reason
    feed.caught_up()
    assert offered == ["good"]


def test_a_refusal_names_the_field_but_not_its_content() -> None:
    refusal = check_user(b"u", b'{"user_id": "u", "consent": "my secret"}')
    assert refusal is not None
    assert "consent" in refusal.detail
    assert "secret" not in refusal.detail


def test_users_are_checked_by_value_and_key() -> None:
    value = UserProfile(user_id="u", interests=["jazz"]).to_json()
    assert check_user(b"u", value) is None
    assert check_user(b"u", None) is None
    for key, bad in ((b"v", value), (None, value), (None, None), (b"u", b"{}")):
        assert check_user(key, bad) is not None
