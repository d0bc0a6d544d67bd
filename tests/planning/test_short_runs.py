"""Bytes of a trace by what it holds, as a plan extrapolates them."""

import numpy as np

from planted.stored import store_trace
from specialize.pipeline.pilot import list_files
from specialize.pipeline.short_runs import split_bytes


def test_shards_whose_experts_are_packed_and_others_are_counted_together(tmp_path):
    """A dropped slot in the second of two shards: its experts are stored as lists."""
    experts = np.random.default_rng(0).integers(0, 64, (4000, 8))
    experts[3000, 7] = -1
    store_trace(tmp_path, np.repeat(np.arange(40), 100), {0: experts}, num_experts=64, sizes=[2000, 2000])
    found = split_bytes(tmp_path, list_files(tmp_path))
    assert {"trace/documents.arrow", "trace/tokens-all.arrow", "trace/headers.arrow", "manifest.json"} < found.keys()
    assert 4000 * 6 < found["trace/experts-all.arrow"] < 4000 * 6.4  # 6 bits an id, and what zstd adds to lists
