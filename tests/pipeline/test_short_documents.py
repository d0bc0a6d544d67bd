"""Documents of one token: what cannot be measured is absent, and every command ends without an exception."""

from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

import specialize
from planted.stored import store_trace
from specialize.errors import SpecializeError


def make_run(folder, count):
    experts = np.arange(2 * count).reshape(count, 2) % 4
    store_trace(
        folder,
        np.arange(count, dtype=np.int32),
        {0: experts, 1: experts[::-1]},
        num_experts=4,
        labels={"genre": ["ab"[row % 2] for row in range(count)]},
        texts=["hello"] * count,
    )
    return folder


def test_labels_of_single_tokens_are_measured(tmp_path):
    run = make_run(tmp_path / "run", 40)
    labels = pd.DataFrame({"token": range(40), "mine": ["ab"[row % 2] for row in range(40)]})
    frame = specialize.annotate(run, labels, permutations=9)
    assert {"mutual_information", "load", "skipped_positions"} <= set(frame["metric"])
    assert not frame["metric"].str.startswith("next_token").any()
    specialize.report(run, tmp_path / "report", formats=())


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("syntax", {"tags": ["position"]}),
        ("syntax", {"tags": ["upos"]}),
        ("topics", {"embedding": "tfidf"}),
        ("topics", {"fit": False}),
        ("routing", {}),
        ("vocabulary", {}),
        ("probe", {}),
        ("affinity", {}),
        ("compare", {}),
    ],
)
def test_every_stage_measures_or_says_why_not(tmp_path, stage, options, count):
    run = make_run(tmp_path / "run", count)
    how = {"permutations": 9} if stage not in ("affinity", "compare") else {}
    with suppress(SpecializeError):
        getattr(specialize, stage)(run, **how, **options)
