import numpy as np
import pandas as pd
import pytest

from specialize.errors import MeasurementError
from specialize.plot import expert_prediction

CHANCE = {"next_layer_recall": 0.2, "lru_hit_rate": 0.3, "same_token_overlap": np.nan}


def planted(run="toy"):
    rows = [
        {"run": run, "routing": routing, "layer": layer, "metric": metric, "value": value + layer / 100,
         "label_set": "cache_size" if "rate" in metric else None, "label": "8" if "rate" in metric else None,
         "ci_low": 0.4, "ci_high": 0.6, "null_mean": CHANCE.get(metric)}
        for routing in ("learned", "random")
        for metric, value in (("next_layer_recall", 0.5), ("lru_hit_rate", 0.6), ("same_token_overlap", 0.7),
                              ("any_token_overlap", 0.1))
        for layer in (2, 1, 0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_lines_are_the_values_and_dotted_lines_are_chance():
    lines = {line.get_gid(): np.array(line.get_xydata(), dtype=float) for line in expert_prediction(planted()).lines}
    metrics = ("next_layer_recall", "lru_hit_rate", "same_token_overlap")
    assert set(lines) == {f"{kind}-{metric}" for kind in ("value", "chance") for metric in metrics}
    np.testing.assert_allclose(lines["value-lru_hit_rate"], [[0, 0.6], [1, 0.61], [2, 0.62]])
    np.testing.assert_allclose(lines["value-next_layer_recall"], [[1, 0.5], [2, 0.51], [3, 0.52]])  # that is predicted
    np.testing.assert_allclose(lines["chance-next_layer_recall"][:, 1], 0.2)
    np.testing.assert_allclose(lines["chance-same_token_overlap"][:, 1], [0.1, 0.11, 0.12])  # of any two tokens


def test_rows_of_a_run_without_tokens_are_refused():
    with pytest.raises(MeasurementError, match=r"expected rows of next_layer_recall, .* got none"):
        expert_prediction(pd.DataFrame({"metric": ["load"], "value": [0.1], "layer": [0]}))
    with pytest.raises(MeasurementError, match="run: the frame holds 2"):
        expert_prediction(pd.concat([planted(), planted("other")]))
