"""A GRU's steps as a worker takes them: for many users at once, without torch, exact to a few millionths.

What reaches the gates from an item is the same whenever the item comes up, so it is worked out once for each item. What
is left of a step is one matrix product and a loop over gates that is compiled. Short batches gain most: of a dozen
steps, torch's part was spent on calls.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``H`` hidden dimension, ``G``
gates of all channels: reset, update, candidate, ``H`` of each.

References:
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    EMNLP 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from encoders.compiled import compiled_without_nan
from encoders.protocols import FloatArray, IntArray

MOST_KEPT = 1 << 24
"""Numbers that are kept of what reaches the gates from items: 64 MB. For more items it is worked out each time."""
_ROWS_AT_ONCE = 512
"""Rows of a batch whose gates fit the processor's cache."""
_TERMS = 12
"""Of Lambert's continued fraction."""
_ONE = np.float32(8.3)
"""From here on the hyperbolic tangent is one, to as many digits as the fraction gives of it."""


def _lambert(n_terms: int) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """``tanh x / x`` as a fraction of two polynomials in the square of x, ``1 / (1 + x² / (3 + x² / (5 + …)))``.

    Returns:
        Coefficients of both, the highest power first, relative to the largest of them.
    """
    above, below = np.poly1d([2 * n_terms - 1]), np.poly1d([1])
    for term in range(n_terms - 1, 0, -1):
        above, below = (2 * term - 1) * above + np.poly1d([1, 0]) * below, above
    largest = max(above.coef)
    numbers = [tuple(np.float32(c) for c in each.coef / largest) for each in (below, above)]
    return numbers[0], numbers[1]


(_P5, _P4, _P3, _P2, _P1, _P0), (_Q6, _Q5, _Q4, _Q3, _Q2, _Q1, _Q0) = _lambert(_TERMS)
_HALF = np.float32(0.5)


class GRUSteps:
    """Steps of one GRU over item embeddings.

    Args:
        embeddings: Of all items; row 0 is padding. Shape: ``(n_items + 1, D)``.
        of_input: Weights of what comes in, as torch has them. Shape: ``(G, D)``.
        of_state: The same of the state before. Shape: ``(G, H)``.
        input_bias: Shape: ``(G,)``.
        state_bias: Shape: ``(G,)``.
        most_kept: As `MOST_KEPT`.
    """

    def __init__(
        self,
        embeddings: FloatArray,
        of_input: FloatArray,
        of_state: FloatArray,
        input_bias: FloatArray,
        state_bias: FloatArray,
        most_kept: int = MOST_KEPT,
    ) -> None:
        H = of_state.shape[1]
        # sigmoid(x) is (1 + tanh(x / 2)) / 2: with these halves, all three gates are tangents.
        scale_G = np.repeat(np.array([0.5, 0.5, 1], dtype=np.float32), H)
        # The candidate's bias of the state is within the product with the reset gate, the others' are not.
        bias_G = input_bias + np.where(np.arange(3 * H) < 2 * H, state_bias, 0)
        self._embeddings, self._bias_G = embeddings, bias_G * scale_G
        self._of_input_DG = (of_input * scale_G[:, None]).T
        self._of_state_HG = np.ascontiguousarray((of_state * scale_G[:, None]).T)
        self._candidate_bias_H = np.ascontiguousarray(state_bias[2 * H :])
        self._kept = self._from_items(embeddings) if len(embeddings) * 3 * H <= most_kept else None

    def _from_items(self, embeddings: FloatArray) -> FloatArray:
        """What reaches the gates from items. Shape: ``(..., D)`` to ``(..., G)``."""
        from_items: FloatArray = embeddings @ self._of_input_DG + self._bias_G
        return from_items

    def renew(self, items_B: IntArray) -> None:
        """Work out anew what reaches the gates from items whose embeddings have changed. Shape: ``(B,)``."""
        if self._kept is not None:
            for item in items_B:  # one by one, so that an item's are the same to the bit beside whichever others
                self._kept[item] = self._from_items(self._embeddings[item])

    def after(self, states_BH: FloatArray, items_B: IntArray) -> FloatArray:
        """States after one more item each. Shape: ``(B, H)`` and ``(B,)`` to ``(B, H)``.

        Raises:
            IndexError: If there is no such item.
            ValueError: If there are not as many items as states.
        """
        self._insist_on_known(items_B)
        if len(states_BH) != len(items_B):
            raise ValueError(f"{len(items_B)} items for {len(states_BH)} states")
        return self._after(states_BH, items_B)

    def _insist_on_known(self, items: IntArray) -> None:
        """Refuse item numbers that would be looked up outside of the array: compiled loops do not look."""
        if items.size and not 0 <= items.min() <= items.max() < len(self._embeddings):
            raise IndexError(
                f"item numbers from {items.min()} to {items.max()}; there are 0 to {len(self._embeddings) - 1}"
            )

    def _after(self, states_BH: FloatArray, items_B: IntArray) -> FloatArray:
        after_BH = np.empty((len(items_B), self._of_state_HG.shape[0]), dtype=np.float32)
        for start in range(0, len(items_B), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            states, items = states_BH[rows], items_B[rows]
            if self._kept is None:
                table, places = self._from_items(self._embeddings[items]), np.arange(len(items))
            else:
                table, places = self._kept, items
            _gate(table, places, states @ self._of_state_HG, self._candidate_bias_H, states, after_BH[rows])
        return after_BH

    def through(self, windows_BT: IntArray, lengths_B: IntArray) -> FloatArray:
        """States after windows whose items stand in front. Shape: ``(B, T)`` and ``(B,)`` to ``(B, H)``.

        Raises:
            IndexError: If there is no such item.
        """
        self._insist_on_known(windows_BT)
        longest_first = np.argsort(-lengths_B, kind="stable")
        items_TB = np.ascontiguousarray(windows_BT[longest_first].T)
        n_left_T = np.searchsorted(-lengths_B[longest_first], -np.arange(len(items_TB)))
        sorted_BH = np.zeros((len(lengths_B), self._of_state_HG.shape[0]), dtype=np.float32)
        for items, n in zip(items_TB, n_left_T.tolist(), strict=True):
            sorted_BH[:n] = self._after(sorted_BH[:n], items[:n])
        states_BH = np.empty_like(sorted_BH)
        states_BH[longest_first] = sorted_BH
        return states_BH


@compiled_without_nan
def _gate(
    from_items: FloatArray,
    places_B: IntArray,
    from_states_BG: FloatArray,
    candidate_bias_H: FloatArray,
    states_BH: FloatArray,
    after_BH: FloatArray,
) -> None:
    """What gates make of the states before, put in place."""
    H = states_BH.shape[1]
    for b in range(len(places_B)):
        item_G, state_G, before, after = from_items[places_B[b]], from_states_BG[b], states_BH[b], after_BH[b]
        for i in range(H):
            reset = _HALF * _tanh(item_G[i] + state_G[i]) + _HALF
            update = _HALF * _tanh(item_G[H + i] + state_G[H + i]) + _HALF
            candidate = _tanh(item_G[2 * H + i] + reset * (state_G[2 * H + i] + candidate_bias_H[i]))
            after[i] = candidate + update * (before[i] - candidate)


@compiled_without_nan
def _tanh(x: Any) -> Any:
    """Hyperbolic tangent, without a call and a branch, so that one instruction does it for many channels."""
    x = min(max(x, -_ONE), _ONE)
    s = x * x
    above = ((((_P5 * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    below = (((((_Q6 * s + _Q5) * s + _Q4) * s + _Q3) * s + _Q2) * s + _Q1) * s + _Q0
    return x * above / below
