"""An expert that the tokens of one label need is found by switching experts off; labels at random are not."""

import numpy as np
import pytest

import specialize
from planted.needed_expert import EACH, LABELS, NEEDED, make_model, make_texts, make_tokenizer
from specialize.annotation import Annotation
from specialize.annotators.store import save_annotation
from specialize.measure import measure_selectivity
from specialize.trace.ablation import AblationStore, Condition

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = tuple(f"label {number}" for number in range(LABELS))
SEVERAL = 299  # permutations


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "run"
    trace = specialize.trace_corpus(make_model(), make_texts(40, 40), folder, tokenizer=make_tokenizer())
    codes = (trace.tokens(["token_id"])["token_id"].to_numpy() // EACH).astype(np.int32)
    save_annotation(trace, Annotation("group", "token", NAMES, codes))
    return trace


@pytest.fixture(scope="module")
def frame(run):
    return specialize.ablate(
        make_model(), run, tokenizer=make_tokenizer(), labels=["group=label 0", "group=label 1"], random=99,
        permutations=SEVERAL,
    )  # fmt: skip


def test_the_label_that_needs_an_expert_is_found(frame):
    rows = frame[(frame["label_set"] == "group") & (frame["metric"] == "effect_selectivity") & frame["expert"].notna()]
    assert len(rows) == 2 * 8 * LABELS
    planted = (rows["layer"] == NEEDED[0]) & (rows["expert"] == NEEDED[1]) & (rows["label"] == NAMES[0])
    assert rows.loc[planted, "p_value"].item() <= 0.01
    # bits: the logit of the usual next word, which comes at 4 of 5 places, falls from 6 to 2
    assert 0.5 < rows.loc[planted, "value"].item() < 1.5
    # the other experts harm all labels alike, or none; and this one harms the others less
    assert rows.loc[~planted, "p_value"].min() > 0.01


def test_it_is_found_among_random_sets_of_the_same_load(frame, run):
    sets = frame[(frame["label_set"] == "group") & frame["expert"].isna()]
    rows = sets[sets["metric"] == "effect_selectivity"].set_index("label")
    assert rows.loc[NAMES[0], "p_value"] == pytest.approx(1 / 100)
    assert rows.loc[NAMES[1], "p_value"] > 0.01
    experts = {each.label: each.experts for each in AblationStore(run.path).sets}
    needed = (run.layers[NEEDED[0]].name, NEEDED[1])
    assert needed in experts[NAMES[0]]
    assert needed not in experts[NAMES[1]]
    above = sets[sets["metric"] == "effect_selectivity_above_random_sets"].set_index("label")
    assert above.loc[NAMES[0], "ci_low"] > 0


def test_a_per_use_effect_tells_function_from_exposure(frame):
    rows = frame[(frame["label_set"] == "group") & (frame["layer"] == NEEDED[0]) & (frame["expert"] == NEEDED[1])]
    found = rows.pivot(index="label", columns="metric", values="value")
    assert found.loc[NAMES[0], "exposure"] == 1
    # a quarter of the words of each other label use the expert, which does nothing for them
    assert found.loc[list(NAMES[1:]), "exposure"].between(0.1, 0.4).all()
    assert found.loc[list(NAMES[1:]), "per_use_effect"].abs().max() < 0.01
    assert (found["indirect_effect"] == 0).all()  # attention adds nothing


def test_labels_at_random_are_rejected_at_the_level_of_the_test(frame, run):
    """The change with an odd expert switched off is large and uneven, at words that use it; labels do not matter."""
    store, tokens = AblationStore(run.path), run.tokens(["document"])["document"].to_numpy()
    change = store.changes(Condition.of([(run.layers[0].name, 1)], "drop", 0))
    rng, rejected = np.random.default_rng(0), 0
    for number in range(400):
        # runs of words with the same label, as topics have, of all lengths
        codes = np.repeat(rng.integers(0, 3, len(tokens)), rng.geometric(0.3, len(tokens)))[: len(tokens)]
        found = measure_selectivity(change, codes, tokens, level="token", num_labels=3, permutations=99, seed=number)
        rejected += found.p_value[0] <= 0.05
    assert 0.03 <= rejected / 400 <= 0.07
