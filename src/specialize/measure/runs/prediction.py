"""Rows of a router on what predicts its experts: a cache, the token id, the layer before."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.cache import cache_layer
from specialize.measure.estimators.next_layer import recall_layer
from specialize.measure.estimators.same_token import compare_same_tokens
from specialize.measure.results.rows import estimate_rows
from specialize.names import CACHE_SIZE

_CACHES = {"lru_hit_rate": "recent", "optimal_hit_rate": "optimal", "segment_coverage": "segments"}
_SAME = {
    "same_token_overlap": "same",
    "any_token_overlap": "any",
    "same_token_overlap_above_any": "difference",
}
_MOST_PERMUTATIONS = 99  # of caches, which take longer to count than all other measures of routing


def cache_rows(layer: LayerInput, cache_size: int | None, settings: dict[str, int]) -> Iterator[pd.DataFrame]:
    """Yield the rows of the hit rates of caches; ``cache_size`` is their number of experts, see `measure_cache`."""
    how = settings | {"permutations": min(settings["permutations"], _MOST_PERMUTATIONS)}
    measured = cache_layer(layer, capacity=cache_size, **how)
    for metric, name in _CACHES.items():
        rows = estimate_rows(getattr(measured, name), metric)
        yield rows.assign(label_set=CACHE_SIZE, label=str(measured.capacity))


def same_token_rows(layer: LayerInput, types: Any, settings: dict[str, int]) -> Iterator[pd.DataFrame]:
    """Yield the rows of the overlap of a token id's occurrences, for token ids [tokens]; none where none is repeated.

    Args:
        layer: the routing decisions of the router.
        types: integers [tokens], token ids, in memory or as a column; None where they are unknown.
        settings: permutations, num_blocks and seed.
    """
    measured = None if types is None else compare_same_tokens(layer, types, **settings)
    if measured is None:
        return
    for metric, name in _SAME.items():
        yield estimate_rows(getattr(measured, name), metric)


def recall_rows(layer: LayerInput, after: LayerInput, num_blocks: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of the recall of the next layer's experts."""
    measured = recall_layer(layer, after, num_blocks=num_blocks)
    yield estimate_rows(measured.recall, "next_layer_recall")
    yield estimate_rows(measured.above_load, "next_layer_recall_above_load")
