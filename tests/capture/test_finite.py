"""Recorded values that are not finite, and ids that name no expert, are errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import specialize
from capture.test_run import SMALL, TEXTS, make_checkpoint
from capture_models import build
from specialize.capture import find_routers, trace_documents
from specialize.capture.extras import predictions
from specialize.capture.invalid import find_invalid
from specialize.corpus import open_corpus
from specialize.errors import CaptureError
from specialize.trace import RouterSpec, open_trace

SPEC = RouterSpec(layer=1, name="second", num_experts=4, top_k=2)


def spoil(model, token_id: int, *, layer: int = 1, value: float = torch.nan) -> None:
    """Give one slot of every token of this id a gate weight that is not finite."""
    read = {}

    def note(module, arguments, keywords):
        read["ids"] = keywords["input_ids"] if "input_ids" in keywords else arguments[0]

    def change(module, arguments):
        hidden, experts, weights = arguments
        weights = weights.clone()
        weights[read["ids"].flatten() == token_id, 1] = value
        return hidden, experts, weights

    model.model.register_forward_pre_hook(note, with_kwargs=True)
    model.model.layers[layer].mlp.experts.register_forward_pre_hook(change)


def seen_by_the_verification_pass(model) -> set[int]:
    read = []
    handle = model.model.embed_tokens.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    find_routers(model)
    handle.remove()
    return set(read[0].flatten().tolist())


@pytest.mark.parametrize("layer", [0, 2])
def test_a_router_without_finite_weights_is_refused_before_anything_is_written(layer, tmp_path):
    broken = make_checkpoint()
    with torch.no_grad():
        broken.model.model.layers[layer].mlp.gate.weight.fill_(torch.nan)
    name = rf"model\.layers\.{layer}\.mlp\.experts"
    message = rf"^{name}: expected finite gate weights, got nan for token 0 of the verification pass; .*float32$"
    for refused in (
        lambda: find_routers(broken.model),
        lambda: specialize.attach(broken.model),
        lambda: specialize.trace_corpus(broken, TEXTS, tmp_path / "run"),
    ):
        with pytest.raises(CaptureError, match=message):
            refused()
    assert not (tmp_path / "run").exists()
    assert not any(module._forward_hooks for module in broken.model.modules())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_the_first_token_of_a_trace_is_named(value, tmp_path):
    checkpoint = make_checkpoint()
    corpus = open_corpus(TEXTS)
    tokens = trace_documents(checkpoint, corpus, tmp_path / "right", options=SMALL).tokens()
    # in several sequences, the first of them not the longest, which is run first
    known = seen_by_the_verification_pass(checkpoint.model)
    lengths = tokens.groupby("sequence")["position"].transform("size")
    rare = tokens[~tokens["token_id"].isin(known) & (tokens["document"] > 0)]
    counts = rare.groupby("token_id")["sequence"].agg(["nunique", "first"])
    early = [sequence for sequence in counts["first"] if lengths[tokens["sequence"] == sequence].iloc[0] < 16]
    token_id = counts[(counts["nunique"] > 1) & counts["first"].isin(early)].index[0]
    spoil(checkpoint.model, token_id, value=value)
    first = tokens[tokens["token_id"] == token_id].iloc[0]
    got = "nan" if np.isnan(value) else "inf"  # as stored, in half precision
    message = (
        rf"^model\.layers\.1\.mlp\.experts: expected finite gate weights, got {got} for document {first.document} "
        rf"\(numbered from 0\), position {first.position}; "
    )
    with pytest.raises(CaptureError, match=message) as caught:
        trace_documents(checkpoint, corpus, tmp_path / "run", options=SMALL)
    assert "\n" not in str(caught.value)


def test_what_is_taken_is_finite_and_padding_may_be_anything():
    model = build("olmoe")
    ids = torch.arange(20, 32).reshape(2, 6)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    spoil(model, 31, layer=2)  # padding
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        assert np.isfinite(recorder.take()[2].weights).all()
        model(input_ids=ids, attention_mask=mask)
        assert np.isnan(recorder.take(keep_padding=True)[2].weights).any()
        model(input_ids=ids)
        with pytest.raises(CaptureError, match=r"^model\.layers\.2\.mlp\.experts: .* nan for sequence 1, position 5; "):
            recorder.take()
        model(input_ids=ids[:1])  # and what follows is taken alone
        assert len(recorder.take()[0].experts) == 6


def test_what_is_recorded_is_finite(tmp_path):
    checkpoint = make_checkpoint()
    encoded = [torch.tensor([checkpoint.tokenizer(text)["input_ids"][:8]]) for text in TEXTS[:3]]
    bad = next(i for i in encoded[1].flatten().tolist() if i not in encoded[0] and i not in encoded[2])
    place = encoded[1].flatten().tolist().index(bad)
    spoil(checkpoint.model, bad)
    message = rf"layers\.1\..* got nan for document 1 \(numbered from 0\), position {place}; "

    @torch.no_grad()
    def record_all() -> None:
        with specialize.record(checkpoint.model, checkpoint.tokenizer, tmp_path / "none"):
            for ids in encoded:
                checkpoint.model(input_ids=ids)

    with pytest.raises(CaptureError, match=message):
        record_all()
    assert not (tmp_path / "none").exists()
    with torch.no_grad(), specialize.record(checkpoint.model, checkpoint.tokenizer, tmp_path / "rest") as recording:
        for ids in encoded:
            try:
                checkpoint.model(input_ids=ids)
            except CaptureError:
                assert ids is encoded[1]
    assert recording.num_documents == open_trace(tmp_path / "rest").num_documents == 2


RIGHT = {
    "experts": np.array([[0, 1], [3, -1], [2, 0]], np.int16),
    "weights": np.array([[0.5, 0.5], [1, 0], [-0.1, 2]], np.float16),
    "logits": np.array([[0, 1, 2, 3], [-np.inf, 1, 2, 3], [4, 4, 4, 4]], np.float16),
    "norms": np.array([[1, 2], [3, 0], [0, 65504]], np.float16),
}


@pytest.mark.parametrize(
    ("column", "place", "value", "problem"),
    [
        ("experts", (2, 0), 4, r"second: expected expert ids of 0 to 3, or -1 for none, got 4"),
        ("experts", (2, 0), -2, r"second: expected expert ids of 0 to 3, or -1 for none, got -2"),
        ("weights", (2, 1), np.nan, "second: expected finite gate weights, got nan"),
        ("weights", (2, 0), -np.inf, "second: expected finite gate weights, got -inf"),
        ("weights", (1, 1), np.nan, None),  # of a slot without an expert
        ("logits", (2, 3), np.nan, "second: expected finite router logits, got nan"),
        ("logits", (2, 2), np.inf, "second: expected finite router logits, got inf"),
        ("logits", (2, 2), -np.inf, None),  # excludes an expert
        ("norms", (2, 1), np.nan, "second: expected finite output norms of at most 65504 (half precision), got nan"),
        ("norms", (2, 0), np.inf, "second: expected finite output norms of at most 65504 (half precision), got inf"),
        ("norms", (1, 1), np.nan, None),  # of a slot without an expert
    ],
)
def test_what_is_invalid(column, place, value, problem):
    columns = {name: values.copy() for name, values in RIGHT.items()}
    columns[column][place] = value
    found = find_invalid([SPEC], [columns], lambda index: f"token {index}")
    assert (found and found.problem) == problem
    if found:
        assert found.where == "token 2"
        assert str(found.error()).startswith(f"{problem} for token 2; the weights of the model are damaged")


def test_predictions_from_logits_that_are_not_finite_are_invalid():
    logits = torch.tensor([[0, 1, 2], [0, torch.nan, 3], [torch.inf, 0, 1], [-torch.inf, 4, 5], [0, 2, torch.nan]])
    best, losses = predictions(logits[None], torch.tensor([[0, 1, 2, 0, 1]]), torch.ones(1, 5))
    assert best.tolist() == [2, -1, -1, 2, -1]
    assert losses.isfinite().tolist() == [True, False, False, True, False]  # the last one has no next token
    recorded = {"predicted_token_id": best.numpy(), "next_token_loss": losses.numpy()}
    right = {name: np.repeat(values[:1], 5, axis=0) for name, values in RIGHT.items()}
    found = find_invalid([SPEC], [right, recorded], lambda index: f"token {index}", np.array([5, 5, 4, 4, 4]))
    assert (found.problem, found.where) == ("predictions: expected finite logits, got nan", "token 2")
    recorded["predicted_token_id"][[1, 2, 4]] = 0
    assert find_invalid([SPEC], [right, recorded], str) is None


@pytest.mark.parametrize("spoiled", ["norms", "predictions"])
def test_extras_of_a_trace_are_finite(spoiled, tmp_path):
    checkpoint = make_checkpoint()
    first = trace_documents(checkpoint, open_corpus(TEXTS), tmp_path / "right", options=SMALL).tokens().iloc[0]
    if spoiled == "norms":
        with torch.no_grad():
            checkpoint.model.model.layers[1].mlp.experts.down_proj *= 1e12
    else:
        checkpoint.model.lm_head.register_forward_hook(lambda module, given, output: output * torch.nan)
    what = r"model\.layers\.1\.mlp\.experts: expected finite output norms" if spoiled == "norms" else "predictions"
    with pytest.raises(CaptureError, match=rf"^{what}.*, got (inf|nan) for document {first.document} "):
        trace_documents(checkpoint, open_corpus(TEXTS), tmp_path / "run", options=replace(SMALL, **{spoiled: True}))


def test_the_first_sequence_comes_before_the_first_router_and_that_before_the_first_token():
    first, second = ({name: values.copy() for name, values in RIGHT.items()} for _ in range(2))
    specs = [SPEC, RouterSpec(layer=2, name="third", num_experts=4, top_k=2)]
    first["weights"][2, 0] = second["weights"][0, 0] = np.nan

    def find(sequences):
        return find_invalid(specs, [first, second], str, None if sequences is None else np.array(sequences))

    assert (find(None).problem[:6], find(None).where) == ("second", "2")  # the third router follows the second
    assert (find([5, 5, 5]).problem[:6], find([5, 5, 5]).where) == ("second", "2")
    assert (find([3, 4, 7]).problem[:5], find([3, 4, 7]).where, find([3, 4, 7]).sequence) == ("third", "0", 3)
    assert (find([7, 4, 3]).problem[:6], find([7, 4, 3]).where, find([7, 4, 3]).sequence) == ("second", "2", 3)
