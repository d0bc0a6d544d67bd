"""A run imported from the responses of a server is measured as the run of the model that answered."""

import numpy as np
import pandas as pd
import pytest

import specialize
from capture.test_run import make_checkpoint
from planted.served import vllm_base64, write_lines

SUBJECTS = ("The old sailor", "A small café in Zürich", "Nobody", "My two sisters", "This naïve plan")
VERBS = ("slowly painted", "doesn't like", "bought", "will never see", "carried")
OBJECTS = ("the wooden boat.", "three red apples — again!", "10 letters, a map and “keys”.")


@pytest.fixture(scope="module")
def texts():
    drawn = np.random.default_rng(0).permutation([(s, v, o) for s in SUBJECTS for v in VERBS for o in OBJECTS])
    return [" ".join(parts) for parts in drawn[:30]]


def test_tags_of_an_imported_run_are_those_of_the_traced_one(tmp_path, texts, one_thread):
    checkpoint = make_checkpoint()
    traced = specialize.trace_corpus(checkpoint, texts, tmp_path / "traced")
    tokens = traced.tokens()
    experts = np.stack([traced.experts(router.layer) for router in traced.layers], axis=1)
    lines = []
    for document, rows in tokens.groupby("document"):
        prompt = rows["token_id"].tolist()
        lines.append(vllm_base64(str(document), prompt, [7], experts[rows.index]))
    path = write_lines(tmp_path / "responses.jsonl", lines)
    checkpoint.tokenizer.save_pretrained(tmp_path / "tokenizer")
    served = specialize.import_trace(
        "vllm",
        path,
        tmp_path / "served",
        tokenizer=tmp_path / "tokenizer",
        num_experts=traced.layers[0].num_experts,
        layers=[router.layer for router in traced.layers],
    )
    assert served.documents()["text"].tolist() == texts == traced.documents()["text"].tolist()
    pd.testing.assert_frame_equal(served.tokens(), tokens)
    frames = [specialize.syntax(run, tags=("upos",), language="en", permutations=5) for run in (traced, served)]
    expected, found = (frame.drop(columns=["run", "router"]).reset_index(drop=True) for frame in frames)
    assert {"NOUN", "VERB", "DET"} <= set(found["label"].dropna())
    pd.testing.assert_frame_equal(found, expected)
