"""How lists are shown to people."""

from __future__ import annotations

from collections.abc import Callable

from encoders.records import Recommendation

MODEL_SOURCE = "ann"


def legible(text: str) -> str:
    r"""An id or a title for a terminal: what does not print, and might move the cursor, is written as an escape.

    Example:
        >>> print(legible("Amélie\x1b[2J"))
        Amélie\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def list_line(made: Recommendation, title: Callable[[str], str]) -> str:
    """One line for one list: who, by which model, and the items, best first; * marks what no model chose.

    Example:
        >>> made = Recommendation(
        ...     recommendation_id="r",
        ...     event_id="e",
        ...     user_id="7",
        ...     source_partition=0,
        ...     source_offset=0,
        ...     model_version="v1",
        ...     generated_at_ms=0,
        ...     items=[{"item_id": "50", "score": 1.0, "source": "popularity"}],
        ... )
        >>> list_line(made, {"50": "Star Wars (1977)"}.__getitem__)
        'user 7 [v1] 1. Star Wars (1977)*'
    """
    items = (
        f"{rank}. {legible(title(item.item_id))}{'' if item.source == MODEL_SOURCE else '*'}"
        for rank, item in enumerate(made.items, start=1)
    )
    head = f"user {legible(made.user_id)} [{made.model_version or 'no model'}]"
    return f"{head} {'  '.join(items) or 'nothing to recommend'}"
