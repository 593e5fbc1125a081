"""What is wrong with a set of topics."""

from __future__ import annotations

import time

import pytest

from streams.errors import DependencyError
from streams.processes import free_port
from streams.settings import KafkaSettings, TopicNames
from streams.topics import LEAST_MESSAGE_BYTES, FoundTopic, check_topics, find_problems, wanted_topics

KAFKA = KafkaSettings(partitions=4, topics=TopicNames(interactions="clicks"))
WANTED = wanted_topics(KAFKA)


def as_wanted() -> dict[str, FoundTopic]:
    return {
        topic.name: FoundTopic(
            topic.partitions,
            {"cleanup.policy": topic.cleanup_policy, "max.message.bytes": str(LEAST_MESSAGE_BYTES)},
        )
        for topic in WANTED
    }


def test_topics_as_wanted_have_no_problem_and_others_are_of_no_interest() -> None:
    assert find_problems(WANTED, as_wanted() | {"payments": FoundTopic(1)}) == []


def test_all_seven_topics_are_wanted_under_their_configured_names() -> None:
    assert [topic.name for topic in WANTED] == [
        "clicks", "recommendations", "items", "users", "model-updates", "erasures", "dead-letters"
    ]  # fmt: skip
    assert {topic.name for topic in WANTED if topic.cleanup_policy == "compact"} == {
        "items", "users", "model-updates", "erasures"
    }  # fmt: skip


def test_missing_topic_is_named_with_the_command_that_makes_it() -> None:
    found = as_wanted()
    del found["items"]
    assert find_problems(WANTED, found) == ["topic items is missing; create it with `streamrec topics create`"]


@pytest.mark.parametrize(("topic", "partitions"), [("clicks", 3), ("clicks", 5), ("model-updates", 2)])
def test_other_partition_count_is_a_problem_where_state_or_order_depends_on_it(topic: str, partitions: int) -> None:
    found = as_wanted()
    found[topic] = FoundTopic(partitions, found[topic].config)
    (problem,) = find_problems(WANTED, found)
    assert problem.startswith(f"topic {topic} has {partitions} partitions instead of")


def test_other_partition_count_is_no_problem_elsewhere() -> None:
    found = as_wanted()
    for topic in ("recommendations", "items", "users", "dead-letters"):
        found[topic] = FoundTopic(12, found[topic].config)
    assert find_problems(WANTED, found) == []


@pytest.mark.parametrize(
    ("topic", "policy"), [("clicks", "compact"), ("clicks", "compact,delete"), ("items", "delete"), ("items", None)]
)
def test_wrong_cleanup_policy_is_a_problem(topic: str, policy: str | None) -> None:
    found = as_wanted()
    found[topic] = FoundTopic(found[topic].partitions, {"cleanup.policy": policy} if policy else {})
    (problem,) = find_problems(WANTED, found)
    assert f"topic {topic} has cleanup.policy={policy or 'delete'}" in problem


@pytest.mark.parametrize(("limit", "n_problems"), [(LEAST_MESSAGE_BYTES - 1, 1), (LEAST_MESSAGE_BYTES, 0)])
def test_record_limit_below_kafkas_default_is_a_problem(limit: int, n_problems: int) -> None:
    found = as_wanted()
    found["items"] = FoundTopic(1, {"cleanup.policy": "compact", "max.message.bytes": str(limit)})
    problems = find_problems(WANTED, found)
    assert len(problems) == n_problems
    assert all(f"max.message.bytes={limit}" in problem for problem in problems)


def test_unreachable_broker_is_named_at_once() -> None:
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(DependencyError, match=rf"cannot reach Kafka at {address}: Connection refused.*streamrec stack"):
        check_topics(KafkaSettings(brokers=address))
    assert time.monotonic() - began < 2
