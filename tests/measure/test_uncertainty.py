import dataclasses

import numpy as np
import pytest

from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.layer import measure_layer
from specialize.measure.estimators.uncertainty import measure_uncertainty


@pytest.mark.parametrize("level", ["token", "document"])
def test_the_estimate_is_that_of_the_whole_measurement(level):
    draw = np.random.default_rng(0)
    documents = np.repeat(np.arange(40), 25)
    codes = draw.integers(-1, 4, 1000 if level == "token" else 40)
    experts = np.stack([draw.integers(0, 3, 1000), 3 + draw.integers(0, 3, 1000)], axis=1)
    experts[:, 0] = np.where(
        draw.random(1000) < 0.5, (codes if level == "token" else codes[documents]) % 3, experts[:, 0]
    )
    how = {"level": level, "num_labels": 4, "permutations": 15, "seed": 3}
    whole = measure_layer(codes, experts, documents, num_experts=6, **how).uncertainty_coefficient
    alone = measure_uncertainty(LayerInput.of(experts, documents, num_experts=6), codes, **how)
    assert alone.value > 0.05
    for field in dataclasses.fields(whole):
        one, other = (getattr(each, field.name) for each in (whole, alone))
        assert one == pytest.approx(other, rel=1e-9) if isinstance(one, float) else one == other, field.name
