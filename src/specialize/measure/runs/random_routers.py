"""The model's routers among random routers on the same hidden states: paired difference, and place."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from specialize.choices import SlotRule
from specialize.measure.base.blocks import Counted
from specialize.measure.base.estimate import make_estimates
from specialize.measure.base.information import uncertainty_coefficient
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.pairing import estimate_difference, pseudo_values
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.replicates import count_labels
from specialize.measure.runs.routers import Columns, random_draws, read_layer

if TYPE_CHECKING:
    from specialize.annotation import Annotation
    from specialize.trace import RouterSpec, RoutingTrace

DIFFERENCE = "difference of uncertainty_coefficient"
AMONG = "uncertainty_coefficient_among_random_routers"
DRAWS = "random_router_draws"
AGAINST = "learned − random"
_UNIT = "share of H(label)"


def random_router_rows(
    trace: "RoutingTrace",
    router: "RouterSpec",
    layer: LayerInput,
    annotation: "Annotation",
    *,
    places: Columns,
    rule: SlotRule,
    num_blocks: int,
) -> Iterator[pd.DataFrame]:
    """Yield the rows that compare U of a router with that of the random routers beside it; none where there are none.

    - ``difference of uncertainty_coefficient`` with the routing "learned − random": U of the learned router minus the
      mean over the random routers, paired over blocks of documents, see `estimate_difference`. The interval describes
      variation over documents for these random routers.
    - ``uncertainty_coefficient_among_random_routers``: U of the learned router; ``null_mean`` is the mean over the
      random routers, ``null_low`` and ``null_high`` are the smallest and the largest of them, and ``p_value`` is
      (1 + random routers with a value at least as large) / (1 + random routers). It is uniform, as a rank is, if the
      learned router is one more draw of the same kind.
    - ``random_router_draws``: how many random routers that are.

    Args:
        trace: an open trace.
        router: one of the model's routers.
        layer: its routing decisions.
        annotation: labels of tokens or documents.
        places: the columns of its tokens, see `read_columns`.
        rule: how a token's mass is spread over its slots, see `spread_mass`. By gate weights only the first random
            router is measured, because the others are stored without.
        num_blocks: maximum number of document blocks.
    """
    beside = random_draws(trace, router, rule=rule)
    if not beside:
        return

    def read() -> Iterator[LayerInput]:
        yield layer
        for spec in beside:
            yield read_layer(trace, spec, places, rule=rule)

    tables, n_tokens, n_documents = count_labels(read(), annotation, num_blocks=num_blocks)
    if not all(table.any() for table in tables):
        return
    learned, *others = (pseudo_values(table, uncertainty_coefficient) for table in tables)
    counted: Counted = {"n_tokens": n_tokens, "n_documents": n_documents}
    difference = estimate_difference(learned, np.mean(others, axis=0), unit=_UNIT, **counted).difference
    drawn = np.array([each.mean() for each in others])
    blocks = len(learned)
    error = learned.std(ddof=1) / np.sqrt(blocks) if blocks > 1 else np.nan
    among = make_estimates(learned.mean(), error, unit=_UNIT, num_blocks=blocks, null=drawn, **counted)[()]
    among = replace(among, null_low=float(drawn.min()), null_high=float(drawn.max()))  # of few, not percentiles
    named = {"layer": router.layer, "router": router.name}
    yield estimate_rows(difference, DIFFERENCE).assign(**named, routing=AGAINST)
    yield estimate_rows(among, AMONG).assign(**named, routing="learned")
    number = {"metric": [DRAWS], "value": [float(len(others))], "unit": ["count"], **counted}
    yield pd.DataFrame(number).assign(**named, routing="learned")
