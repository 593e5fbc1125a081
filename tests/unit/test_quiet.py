from __future__ import annotations

import logging

import pytest

from streams.quiet import SayOnce, say_once


def record(message: str, *arguments: object, name: str = "library.net") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)


def test_a_wording_is_said_again_only_when_the_interval_is_over() -> None:
    now_s = 100.0
    once = SayOnce(30.0, clock=lambda: now_s)
    assert once.filter(record("no node %d", 1))
    now_s = 129.9
    assert not once.filter(record("no node %d", 2))
    now_s = 130.0
    assert once.filter(record("no node %d", 3))


def test_another_wording_and_another_logger_are_heard() -> None:
    once = SayOnce()
    assert once.filter(record("no node %d", 1))
    assert once.filter(record("no answer"))
    assert once.filter(record("no node %d", 1, name="library.group"))


def test_loggers_of_the_library_are_covered_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    loggers = [logging.getLogger(name) for name in ("chatty", "chatty.net.sender", "chattyish")]
    say_once("chatty")
    for logger in loggers:
        for _ in range(3):
            logger.error("down")
    assert [record.name for record in caplog.records] == ["chatty", "chatty.net.sender", *["chattyish"] * 3]
