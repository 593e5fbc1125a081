"""What a session is to a model that learns as it goes."""

from __future__ import annotations

import numpy as np

from encoders.sessions import session_codes, user_hashes

USERS = user_hashes(["ann", "ann", "bob", "bob"])


def test_without_a_gap_a_session_is_all_that_a_user_does() -> None:
    codes = session_codes(USERS, np.array([0, 10**9, 0, 5]), None).tolist()
    assert codes[0] == codes[1] != codes[2] == codes[3]


def test_with_a_gap_a_session_is_a_user_and_when_the_window_begins() -> None:
    codes = session_codes(USERS, np.array([7, 7, 7, 8]), 60).tolist()
    assert codes[0] == codes[1]
    assert len(set(codes)) == 3


def test_sessions_of_many_users_and_seconds_do_not_meet() -> None:
    users = user_hashes([str(n) for n in range(1_000)])
    codes = session_codes(np.repeat(users, 1_000), np.tile(np.arange(1_000) + 1_795_000_000, 1_000), 60)
    assert len(np.unique(codes)) == 1_000_000


def test_codes_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Bundles hold them."""
    assert user_hashes(["ann"]).tolist() == [11957940740637538957]
    assert session_codes(user_hashes(["ann"]), np.array([1_795_342_500]), 60).tolist() == [1760729877047179265]
