"""Gate weights of imports are finite, in every format that has them."""

import numpy as np
import pandas as pd
import pytest

from specialize.errors import TraceError
from specialize.trace.imports import import_trace

EXPERTS = np.stack([np.stack([np.random.default_rng(i).permutation(8)[:2] for _ in range(3)]) for i in range(20)])
WEIGHTS = np.random.default_rng(1).random((20, 3, 2)).astype(np.float32)


def as_arrays(folder, weights):
    np.savez(folder / "a.npz", experts=EXPERTS, weights=weights)
    return folder / "a.npz"


def as_table(folder, weights):
    columns = {f"experts_{layer}": list(EXPERTS[:, layer]) for layer in range(3)}
    columns |= {f"weights_{layer}": list(weights[:, layer]) for layer in range(3)}
    pd.DataFrame({"document": np.repeat([0, 1], 10)} | columns).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize("write", [as_arrays, as_table])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70_000.0])
def test_a_weight_that_is_not_finite_is_named_with_its_place(write, value, tmp_path):
    weights = WEIGHTS.copy()
    weights[12, 1, 0] = value
    path = write(tmp_path, weights)
    message = rf"layer 1: expected a finite gate weight within half precision, got {value}"
    with pytest.raises(TraceError, match=message) as caught:
        import_trace("arrays", path, tmp_path / "run", num_experts=8)
    assert str(path.name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("write", [as_arrays, as_table])
def test_finite_weights_are_imported_as_they_are(write, tmp_path):
    path = write(tmp_path, WEIGHTS)
    trace = import_trace("arrays", path, tmp_path / "run", num_experts=8)
    np.testing.assert_array_equal(trace.weights(1), WEIGHTS[:, 1].astype(np.float16).astype(np.float32))
