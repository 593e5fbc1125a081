"""How hypothesis runs here."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("streamrec", deadline=None)  # a busy machine is no counterexample
settings.load_profile("streamrec")
