"""Records to make findings and verdicts of."""

import dataclasses

from specialize.reporting.findings import Record

BASE = Record(
    run="toy", routing_unit="token", causal=True, routing="learned", label_set="upos", level="token", layer=2,
    metric="uncertainty_coefficient", value=0.2, ci_low=0.18, ci_high=0.22, null_mean=0.001, null_low=0.0005,
    null_high=0.002, p_value=1 / 201, n_permutations=200, n_tokens=1000, n_documents=60,
    ci_kind="95 % jackknife over 50 document blocks (Student t)",
)  # fmt: skip


def change(**changes):
    """Return the base record with other values."""
    return dataclasses.replace(BASE, **changes)
