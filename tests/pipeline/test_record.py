"""A user's own forward loop: what is recorded is what `trace_corpus` records of the same texts."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForSeq2SeqLM

import specialize
from capture.test_run import TEXTS, make_checkpoint
from listening import Listener
from specialize.capture import passes
from specialize.errors import CaptureError, OutputError
from specialize.pipeline.record import record
from specialize.pipeline.trace import trace_corpus
from specialize.trace import open_trace, validate_trace
from specialize.trace.token_text import TokenDecoder

SHORT = [text[:60] for text in TEXTS]


@pytest.fixture(scope="module")
def tiny():
    return make_checkpoint()


def loop(tiny, texts, *, size=2, side="right", tokenizer=None) -> None:
    """Run texts through the model in padded batches."""
    tokenizer = tokenizer or tiny.tokenizer
    tokenizer.padding_side = side
    for start in range(0, len(texts), size):
        batch = tokenizer(texts[start : start + size], padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            tiny.model(**batch)


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_recorded_is_what_a_trace_records(tiny, tmp_path, side, monkeypatch):
    monkeypatch.setattr(passes, "tokens_of_a_shard", lambda *_: 40)
    how = {"control": "random-router", "seed": 3}
    listener = Listener()
    extras = ("norms", "logits")
    with record(tiny.model, tiny.tokenizer, tmp_path / "own", extras=extras, reporter=listener, **how) as recording:
        loop(tiny, SHORT, side=side)
    trace = open_trace(tmp_path / "own")
    expected = trace_corpus(tiny, SHORT, tmp_path / "run", logits=True, norms=True, **how)
    assert all(check.problem is None for check in validate_trace(trace.path))
    assert len(trace.manifest["shards"]) == 2
    assert trace.contents == expected.contents == ("weights", "logits", "norms")
    assert trace.documents().equals(expected.documents())
    assert trace.tokens().equals(expected.tokens())
    assert trace.manifest["corpus"]["digest"] == expected.manifest["corpus"]["digest"]
    assert (trace.layers, trace.random_routers) == (expected.layers, expected.random_routers)
    for spec in (*trace.layers, *trace.random_routers):
        experts = trace.experts(spec.name, routing=spec.routing)
        np.testing.assert_array_equal(experts, expected.experts(spec.name, routing=spec.routing))
        weights = trace.weights(spec.name, routing=spec.routing)
        np.testing.assert_allclose(weights, expected.weights(spec.name, routing=spec.routing), rtol=2e-3)
        assert len(np.unique(weights)) > 0.3 * weights.size
    for spec in trace.layers:
        np.testing.assert_allclose(
            trace.router_logits(spec.layer), expected.router_logits(spec.layer), rtol=2e-3, atol=2e-3
        )
        np.testing.assert_allclose(trace.output_norms(spec.layer), expected.output_norms(spec.layer), rtol=4e-3)
    assert (recording.num_documents, recording.num_tokens) == (5, trace.num_tokens)
    assert listener.notes == [f"{tmp_path / 'own'}: recorded {trace.num_tokens} tokens in 5 documents"]


def test_special_tokens_at_the_ends_are_run_but_not_recorded(tiny, tmp_path):
    tokenizer = make_checkpoint().tokenizer
    tokenizer.add_special_tokens({"bos_token": "<s>", "sep_token": "</s>"})
    first, last = tokenizer.bos_token_id, tokenizer.sep_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", first), ("</s>", last)]
    )
    model = make_checkpoint().model
    model.resize_token_embeddings(last + 1)
    wide = type(tiny)("wide", model.eval(), tokenizer, tiny.facts)
    assert tokenizer("x")["input_ids"][::2] == [first, last]
    with record(model, tokenizer, tmp_path / "own"):
        loop(wide, SHORT)
        loop(wide, ["", " "])  # nothing to record
    trace = open_trace(tmp_path / "own")
    expected = trace_corpus(wide, SHORT, tmp_path / "run")
    assert trace.tokens().equals(expected.tokens())
    assert trace.tokens()["position"].min() == 1
    for spec in trace.layers:
        np.testing.assert_array_equal(trace.experts(spec.layer), expected.experts(spec.layer))


def test_a_sequence_that_begins_in_the_middle_of_a_character_has_places(tiny, tmp_path):
    ids = tiny.tokenizer("Umlaute: ü und ö.")["input_ids"]
    whole = torch.tensor([ids])
    accent = next(place for place, number in enumerate(ids) if "\ufffd" in tiny.tokenizer.decode([number]))
    listener = Listener()
    with record(tiny.model, tiny.tokenizer, tmp_path / "own", reporter=listener), torch.no_grad():
        tiny.model(whole)
        tiny.model(input_ids=whole[:, accent + 1 :])
    trace = open_trace(tmp_path / "own")
    text, cut = trace.documents()["text"]
    tokens = trace.tokens().set_index("document")[["char_start", "char_end"]]
    moved = tokens.loc[0].to_numpy()[accent + 1 :] - text.index("ü")
    np.testing.assert_array_equal(tokens.loc[1].to_numpy(), moved)
    assert cut == "\ufffd und ö."
    assert len(listener.notes) == 1


def test_tokens_that_cannot_be_placed_are_counted(tiny, tmp_path, monkeypatch):
    plain = TokenDecoder._decode
    monkeypatch.setattr(TokenDecoder, "_encode", lambda self, text: ([], np.empty((0, 2), np.int32)))
    monkeypatch.setattr(TokenDecoder, "_decode", lambda self, ids: plain(self, ids) if len(ids) > 8 else "?" * len(ids))
    listener = Listener()
    with record(tiny.model, tiny.tokenizer, tmp_path / "own", reporter=listener):
        loop(tiny, SHORT[:2])
    assert open_trace(tmp_path / "own").tokens()["char_start"].min() == -1
    assert re.fullmatch(
        r"note: \d+ tokens in 2 of 2 documents have unknown character positions: .*", listener.notes[-1]
    )


def test_an_exception_leaves_nothing(tiny, tmp_path):
    (tmp_path / "empty").mkdir()

    def fail(run: Path) -> None:
        with record(tiny.model, tiny.tokenizer, run):
            loop(tiny, SHORT)
            raise ZeroDivisionError

    for name in ("new", "empty"):
        with pytest.raises(ZeroDivisionError):
            fail(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not any((tmp_path / "empty").iterdir())
    assert not any(module._forward_hooks for module in tiny.model.modules())


def test_a_pass_that_fails_is_left_out(tiny, tmp_path):
    with record(tiny.model, tiny.tokenizer, tmp_path / "own"):
        broken = tiny.model.model.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
        try:
            with pytest.raises(ZeroDivisionError):
                loop(tiny, ["Not this one."])
        finally:
            broken.remove()
        loop(tiny, SHORT)
    assert open_trace(tmp_path / "own").documents()["text"].tolist() == SHORT


def test_a_folder_that_holds_something_is_kept(tiny, tmp_path):
    (tmp_path / "precious").write_text("x")
    with (
        pytest.raises(OutputError, match="expected a new or empty folder to write to, got one that is not empty"),
        record(tiny.model, tiny.tokenizer, tmp_path),
    ):
        raise AssertionError("not reached")


def no_pass(model, tokenizer) -> None:
    """Run nothing."""


def only_padding(model, tokenizer) -> None:
    model(input_ids=torch.full((2, 4), tokenizer.pad_token_id))


def generate(model, tokenizer) -> None:
    model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False, pad_token_id=0)


def generate_without_cache(model, tokenizer) -> None:
    model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False, pad_token_id=0, use_cache=False)


def embeddings(model, tokenizer) -> None:
    model(inputs_embeds=torch.zeros(1, 3, model.config.hidden_size))


def square_mask(model, tokenizer) -> None:
    model(input_ids=torch.tensor([[5, 6]]), attention_mask=torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (no_pass, "nothing was recorded: expected at least one forward pass"),
        (only_padding, "nothing was recorded"),
        (generate, "got one with a key-value cache, as in generate"),
        (generate_without_cache, "the sequences of the last forward pass with one more token"),
        (embeddings, "expected forward passes with input_ids"),
        (square_mask, r"expected an attention_mask \[batch, length\]"),
    ],
)
def test_what_cannot_be_recorded_is_one_line(tiny, tmp_path, run, message):
    with pytest.raises(CaptureError, match=message) as caught, record(tiny.model, tiny.tokenizer, tmp_path / "own"):
        run(tiny.model, tiny.tokenizer)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_models_and_tokenizers_that_do_not_fit(tiny, tmp_path):
    config = AutoConfig.for_model(
        "switch_transformers", vocab_size=300, d_model=16, d_ff=16, d_kv=8, num_layers=2, num_decoder_layers=2,
        num_heads=2, num_experts=4, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1,
    )  # fmt: skip
    for model, tokenizer, message in (
        (AutoModelForSeq2SeqLM.from_config(config).eval(), tiny.tokenizer, "got an encoder-decoder; use trace_corpus"),
        (tiny.model, None, "expected the tokenizer of the loaded model"),
        (tiny.model, object(), "expected a fast tokenizer"),
        (torch.nn.Linear(2, 2), tiny.tokenizer, "expected a transformers model"),
    ):
        with pytest.raises(CaptureError, match=message), record(model, tokenizer, tmp_path / "own"):
            raise AssertionError("not reached")
    with (
        pytest.raises(CaptureError, match="extras: expected any of"),
        record(tiny.model, tiny.tokenizer, tmp_path / "own", extras=("norm",)),
    ):
        raise AssertionError("not reached")
    assert list(tmp_path.iterdir()) == []


def test_syntax_and_routing_are_measured_on_it(tiny, tmp_path):
    with record(tiny.model, tiny.tokenizer, tmp_path / "own"):
        loop(tiny, SHORT * 3, size=4, side="left")
    frame = specialize.syntax(tmp_path / "own", tags=("class",), permutations=5)
    assert {"letters", "digits"} <= set(frame["label"].dropna())
    assert len(specialize.routing(tmp_path / "own", permutations=5))
