"""Lists on a terminal."""

from __future__ import annotations

import pytest

from encoders.records import Recommendation
from streams.cli.lists import legible, list_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Amélie (2001)", "Amélie (2001)"),
        ("clear\x1b[2Jed", "clear\\x1b[2Jed"),
        ("two\nlines", "two\\nlines"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("half\ud800", "half\\ud800"),
    ],
)
def test_what_would_not_print_is_an_escape(text: str, shown: str) -> None:
    assert legible(text) == shown


def test_a_line_holds_no_control_characters() -> None:
    item = {"item_id": "a\rb", "score": 1.0, "source": "ann"}
    made = Recommendation(
        recommendation_id="r", event_id="e", user_id="u\x07", source_partition=0, source_offset=0, model_version="v",
        generated_at_ms=0, items=[item],
    )  # fmt: skip
    assert list_line(made, lambda item_id: item_id).isprintable()
