"""Synthetic catalogues and clicks: items in clusters, and users who stay in one for a while.

Everything follows from a seed. Shape letters: ``E`` events, ``D`` embedding dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from encoders.protocols import FloatArray, IntArray

ITEMS_A_CLUSTER = 100
CLUSTERS_A_FIELD = 20
"""Clusters lie near one another in fields, as the kinds of a shop's department do."""
INTERESTS = 4
"""Clusters that a user comes back to."""
ACTIVITY_SIGMA = 1.2
"""Of the lognormal number of events a user: the busiest 10 % make about half of all."""
PAUSE_MEDIAN, PAUSE_SIGMA = 631, 1.3
"""Events of others between two of one session, lognormal; the median is that of the Diginetica log."""
FIELD_SHARE, CLUSTER_SHARE = 0.36, 0.22
"""How much of an item vector's squared length is its field's and its cluster's direction; the rest is its own.

The item vectors of a GRU that was fitted to the Diginetica log leave k-means 0.79, 0.55 and 0.47 of their variance
with 20, 430 and 2,000 centroids. Here plain FAISS (IVF4096,SQ8) has to search 64 lists of a million items, 190 µs a
query, for recall@10 0.95.
"""
NORM_SIGMA = 0.25
"""Of the lognormal lengths of item vectors, as in a GRU that was fitted to the Diginetica log."""


class Columns(NamedTuple):
    """Clicks in the order in which they happen, over all users."""

    users: IntArray
    """Shape: ``(E,)``."""
    items: IntArray
    """Item numbers, from 1. Shape: ``(E,)``."""


@dataclass(frozen=True)
class World:
    """Which items belong together."""

    members: IntArray
    """Item numbers, cluster by cluster, within each the most clicked first. Shape: ``(n_items,)``."""
    starts: IntArray
    """Where each cluster begins in ``members``, and at the end where the last one ends."""

    @classmethod
    def of(cls, n_items: int, seed: int = 0) -> Self:
        """Clusters of about `ITEMS_A_CLUSTER` items, some larger than others; item numbers say nothing of them.

        Example:
            >>> world = World.of(1000)
            >>> world.n_clusters, sorted(world.members.tolist()) == list(range(1, 1001))
            (10, True)
        """
        random = np.random.default_rng([seed, n_items])
        share = random.lognormal(0, 0.5, max(1, n_items // ITEMS_A_CLUSTER))
        sizes = random.multinomial(n_items, share / share.sum())
        return cls(random.permutation(n_items) + 1, np.concatenate([[0], np.cumsum(sizes[sizes > 0])]))

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return len(self.members)

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return len(self.starts) - 1

    def clicked(self, clusters: IntArray, random: np.random.Generator) -> IntArray:
        """An item of each given cluster; the ``r``-th of ``n`` has density ``1 / (2 sqrt(r n))``. Shape: ``(E,)``."""
        sizes = np.diff(self.starts)[clusters]
        return self.members[self.starts[clusters] + (sizes * random.random(len(clusters)) ** 2).astype(np.int64)]

    def vectors(self, dim: int, seed: int = 0) -> FloatArray:
        """Item vectors around the directions of clusters and fields; what is clicked more is longer.

        Shape:
            - Output: ``(n_items + 1, D)``, row 0 zero
        """
        random = np.random.default_rng([seed, self.n_items, dim])
        cluster = np.repeat(np.arange(self.n_clusters), np.diff(self.starts))
        clusters = _directions(random, self.n_clusters, dim, CLUSTER_SHARE)
        fields = _directions(random, self.n_clusters // CLUSTERS_A_FIELD + 1, dim, FIELD_SHARE)
        clusters += fields[np.arange(self.n_clusters) // CLUSTERS_A_FIELD]
        vectors = np.zeros((self.n_items + 1, dim), dtype=np.float32)
        norms = random.lognormal(0, NORM_SIGMA, self.n_items).astype(np.float32)
        norms = norms[np.lexsort((-norms, cluster))]
        for start in range(0, self.n_items, _AT_ONCE):  # one temporary array less of the whole size
            part = slice(start, min(start + _AT_ONCE, self.n_items))
            own = _directions(random, part.stop - start, dim, 1 - FIELD_SHARE - CLUSTER_SHARE)
            own += clusters[cluster[part]]
            own *= (norms[part] / np.linalg.norm(own, axis=1))[:, None]
            vectors[self.members[part]] = own
        return vectors


_AT_ONCE = 65_536


def _directions(random: np.random.Generator, n: int, dim: int, share: float) -> FloatArray:
    """Random vectors whose squared lengths are about ``share``. Shape: ``(n, D)``."""
    return random.standard_normal((n, dim), dtype=np.float32) * np.float32(np.sqrt(share / dim))


def live_clicks(world: World, n_events: int, n_users: int, stay: float, seed: int) -> Columns:
    """Clicks of many users at the same time, as a service sees them: neighbours in the log are of different users.

    Args:
        world: The items.
        n_events: ``E``.
        n_users: How many users there are; some are far busier than others.
        stay: Clicks in a cluster, on average, before a user turns to another of their interests.
        seed: Another one gives other users.
    """
    random = np.random.default_rng([seed, 1])
    activity = np.cumsum(random.lognormal(0, ACTIVITY_SIGMA, n_users))
    users = np.searchsorted(activity, random.random(n_events) * activity[-1]).astype(np.int64)
    interests = _random_clusters(world, n_users * INTERESTS, random).reshape(n_users, INTERESTS)
    by_user = np.argsort(users, kind="stable")
    owner = users[by_user]
    turns = random.random(n_events) < 1 / stay
    turns[np.flatnonzero(np.diff(owner, prepend=-1))] = True
    chosen = interests[owner, random.integers(0, INTERESTS, n_events)]
    since = np.maximum.accumulate(np.where(turns, np.arange(n_events), 0))
    items = np.empty(n_events, dtype=np.int64)
    items[by_user] = world.clicked(chosen[since], random)
    return Columns(users, items)


def visits(world: World, n_events: int, mean_length: float, seed: int) -> Columns:
    """Clicks of visitors who come once: sessions of one cluster each, many under way at the same time.

    Args:
        world: The items.
        n_events: ``E``.
        mean_length: Clicks of a visit, at least 2.
        seed: Another one gives other visitors.
    """
    random = np.random.default_rng([seed, 2])
    lengths = 1 + random.geometric(1 / (mean_length - 1), round(1.1 * n_events / mean_length) + 10)
    users = np.repeat(np.arange(len(lengths)), lengths)
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    moments = random.lognormal(np.log(PAUSE_MEDIAN), PAUSE_SIGMA, len(users))
    moments[first] = random.random(len(lengths)) * n_events
    passed = np.cumsum(moments)
    moments = passed - np.repeat(passed[first] - moments[first], lengths)
    order = np.argsort(moments, kind="stable")[:n_events]
    items = world.clicked(_random_clusters(world, len(lengths), random)[users], random)
    return Columns(users[order], items[order])


def _random_clusters(world: World, n: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Clusters, each as likely as it is large. Shape: ``(n,)``."""
    return np.searchsorted(world.starts, random.integers(0, world.n_items, n), side="right") - 1
