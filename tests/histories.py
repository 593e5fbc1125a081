"""Random window rules and logs, for tests that hold for any."""

from __future__ import annotations

from hypothesis import strategies as st

from encoders.events import EVENT_TRAITS, EventType
from encoders.window import WindowRule
from tests.logs import CLICK, make_log

IMPRESSION = EVENT_TRAITS[EventType.IMPRESSION].code
"""Of a type that enters no window."""
rules = st.builds(
    WindowRule,
    max_len=st.integers(2, 7),
    repeats=st.sampled_from(["collapse", "keep"]),
    session_gap_s=st.none() | st.integers(1, 20),
)
logs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 60), st.sampled_from([CLICK, CLICK, IMPRESSION])),
    max_size=60,
).map(make_log)
