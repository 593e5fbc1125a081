"""Which candidates become a list, against plain sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.columns import ends_of
from streams.lists import Lists
from streams.strategy import Passed, Popular, choose, fill

N_ITEMS = 25
FINGERPRINTS = np.array([0, 2**32 - 1, 0, *range(3, N_ITEMS + 1)], dtype=np.uint32)
"""By item number; an item may well have 0."""

fingerprint = st.integers(0, N_ITEMS + 3) | st.just(2**32 - 1)
few = st.lists(fingerprint, max_size=8)


class User(NamedTuple):
    """One event's user, and what is found for the event."""

    window: list[int]
    seen: list[int]
    candidates: list[int]
    catalogue: int
    is_asked: bool
    """Whether the model answers."""


users = st.lists(
    st.builds(
        User,
        few,
        few,
        st.permutations(range(1, N_ITEMS + 1)),
        st.integers(-1, 2),
        st.booleans(),
    ),
    max_size=8,
)
popular_items = st.lists(st.lists(st.tuples(fingerprint, st.booleans()), max_size=15), min_size=3, max_size=3)
"""Of three catalogues: fingerprint, and whether the item may be listed."""


def passed(given_users: Sequence[User]) -> Passed:
    """What they have come by, as columns."""
    columns: list[np.ndarray] = []
    for held in ([user.window for user in given_users], [user.seen for user in given_users]):
        ends = ends_of([len(each) for each in held])
        columns += [np.array([f for each in held for f in each], dtype=np.uint32), ends[:-1], ends[1:]]
    return Passed(*columns)


def chosen(user: User, top_n: int, n_candidates: int) -> list[int]:
    """What `choose` is to find: item numbers."""
    come_by = {*user.window, *user.seen}
    allowed = [number for number in user.candidates[:n_candidates] if int(FINGERPRINTS[number]) not in come_by]
    return allowed[:top_n] if user.is_asked else []


@given(users, st.integers(1, 12), st.integers(1, N_ITEMS), st.integers(0, 3), popular_items)
@settings(max_examples=300)
def test_lists_are_what_sets_say(
    given_users: list[User], top_n: int, n_candidates: int, n_padding: int, popular: list[list[tuple[int, bool]]]
) -> None:
    lists, come_by = Lists.empty(len(given_users), top_n), passed(given_users)
    rows = np.array([b for b, user in enumerate(given_users) if user.is_asked], dtype=np.int64)
    numbers = np.zeros((len(rows), n_candidates + n_padding), dtype=np.int64)
    for line, b in zip(numbers, rows, strict=True):
        line[:n_candidates] = given_users[b].candidates[:n_candidates]
    scores = -np.arange(numbers.size, dtype=np.float32).reshape(numbers.shape)
    choose(rows, numbers, scores, FINGERPRINTS, come_by, lists)
    for b, user in enumerate(given_users):
        expected = chosen(user, top_n, n_candidates)
        assert lists.items_BN[b, : lists.lengths_B[b]].tolist() == expected
        of = dict(zip(numbers[rows == b].ravel().tolist(), scores[rows == b].ravel().tolist(), strict=True))
        assert lists.scores_BN[b, : lists.lengths_B[b]].tolist() == [of[number] for number in expected]

    ends = ends_of([len(items) for items in popular])
    whole = [item for items in popular for item in items]
    columns = Popular(
        np.array([item for item, _ in whole], dtype=np.uint32),
        np.arange(len(whole), dtype=np.float64) / 7,
        np.array([may_list for _, may_list in whole], dtype=np.bool_),
    )
    first = np.array([ends[u.catalogue] if u.catalogue >= 0 else len(whole) for u in given_users], dtype=np.int64)
    end = np.array([ends[u.catalogue + 1] if u.catalogue >= 0 else 0 for u in given_users], dtype=np.int64)
    fill(columns, first, end, FINGERPRINTS, come_by, lists)
    for b, user in enumerate(given_users):
        found = chosen(user, top_n, n_candidates)
        passed_over = {*user.window, *user.seen, *(int(FINGERPRINTS[number]) for number in found)}
        places = range(*ends[user.catalogue : user.catalogue + 2]) if user.catalogue >= 0 else range(0)
        places_left = [place for place in places if whole[place][1] and whole[place][0] not in passed_over]
        expected = found + [-1 - place for place in places_left[: top_n - len(found)]]
        assert lists.items_BN[b, : lists.lengths_B[b]].tolist() == expected
        own = lists.scores_BN[b, len(found) : lists.lengths_B[b]].tolist()
        assert own == [place / 7 for place in places_left[: top_n - len(found)]]
