"""A model continues documents: what it generates, how it is routed, and where it stands in the text."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import specialize
from capture_models import build
from listening import Listener
from specialize.capture import Checkpoint
from specialize.errors import AnnotationError, CaptureError, CorpusError, TraceError
from specialize.models.data import train_bpe
from specialize.trace import validate_trace
from tiny_olmoe import save_olmoe, train_unigram

WORDS = ("river", "stone", "violin", "market", "winter", "engine", "letter", "garden", "the", "a", "of", "and", "runs")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NEW = 12


def make_texts(count, longest=30):
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, draw.integers(2, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, one_thread):
    """A model whose end-of-sequence token comes now and then, with the template of a chat model."""
    tokenizer = train_bpe(make_texts(80), vocab_size=320, max_length=256)
    tokenizer.add_tokens(["<|user|>", "<|assistant|>", "<|end|>"], special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    folder = save_olmoe(tmp_path_factory.mktemp("model"), tokenizer, num_experts=8, hidden_size=32)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # sharper: it does not repeat a single token
    free = generate_by_hand(model, AutoTokenizer.from_pretrained(folder), make_texts(40))
    ids, counts = np.unique(np.concatenate([new for _, new in free]), return_counts=True)
    often = np.abs(counts / len(free) - 1).argmin()  # so that some sequences end early, and some do not
    model.generation_config.eos_token_id = int(ids[often])
    model.save_pretrained(folder)
    return folder


def generate_by_hand(model, tokenizer, texts, ends=()):
    """Prompt and new token ids of each text, alone, by the argmax of one forward pass after the other."""
    found = []
    for text in texts:
        prompt = ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for _ in range(NEW):
            with torch.inference_mode():
                best = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            ids = [*ids, best]
            if best in ends:
                break
        found.append((prompt, ids[len(prompt) :]))
    return found


@pytest.fixture(scope="module")
def continued(checkpoint, tmp_path_factory):
    texts = make_texts(40)
    run = tmp_path_factory.mktemp("continued") / "run"
    return texts, specialize.trace_corpus(checkpoint, texts, run, generate=NEW, batch_tokens=256, logits=True)


def test_what_is_generated_is_what_the_model_would_say_step_by_step(checkpoint, continued):
    texts, trace = continued
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    ends = [model.generation_config.eos_token_id]
    expected = generate_by_hand(model, AutoTokenizer.from_pretrained(checkpoint), texts, ends)
    tokens = trace.tokens()
    lengths = {len(new) for _, new in expected}
    assert NEW in lengths
    assert len(lengths) > 3
    for row, (prompt, new) in enumerate(expected):
        own = tokens[tokens["document"] == row]
        assert own["token_id"].tolist() == [*prompt, *new[:-1]]  # the last token was read by no layer
        assert own["phase"].tolist() == ["prefill"] * len(prompt) + ["generation"] * (len(new) - 1)
        assert own["position"].tolist() == list(range(len(own)))


def test_it_is_routed_as_in_a_pass_over_the_whole(checkpoint, continued):
    _, trace = continued
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    tokens = trace.tokens()
    for layer, router in enumerate(trace.layers):
        experts, weights, logits = trace.experts(layer), trace.weights(layer), trace.router_logits(layer)
        for row in range(0, 40, 7):
            own = np.flatnonzero(tokens["document"] == row)
            ids = torch.tensor([tokens["token_id"].to_numpy()[own].tolist()])
            with torch.inference_mode():
                raw = model(input_ids=ids, output_router_logits=True).router_logits[layer]
            best = raw.softmax(dim=-1).topk(router.top_k)
            np.testing.assert_array_equal(experts[own], best.indices)
            np.testing.assert_allclose(weights[own], best.values, atol=2e-3)
            np.testing.assert_allclose(logits[own], raw, atol=1e-2, rtol=1e-2)


def test_the_text_ends_with_what_was_generated(checkpoint, continued):
    texts, trace = continued
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokens = trace.tokens()
    for row, (text, whole) in enumerate(zip(texts, trace.documents()["text"], strict=True)):
        own = tokens[tokens["document"] == row]
        assert whole == tokenizer.decode(own["token_id"], clean_up_tokenization_spaces=False)
        assert whole.startswith(text)
        new = own[own["phase"] == "generation"]
        if len(new):
            assert new["char_start"].min() == len(text)
            assert new["char_end"].max() == len(whole)
            assert (new["char_start"] <= new["char_end"]).all()
    assert all(check.problem is None for check in validate_trace(trace.path))


def test_phases_and_roles_are_labels(checkpoint, tmp_path):
    rows = [{"messages": [{"role": "user", "content": text}]} for text in make_texts(60)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trace = specialize.trace_corpus(checkpoint, tmp_path / "chats.jsonl", tmp_path / "run", generate=NEW)
    tokens = trace.tokens()
    generated = tokens["phase"] == "generation"
    assert set(tokens["role"][generated]) == {"assistant"}
    assert set(tokens["role"][~generated]) == {"template", "user"}
    assert trace.documents()["text"][0].startswith(f"<|user|>{make_texts(1)[0]}<|end|><|assistant|>")
    frame = specialize.syntax(trace, tags=["role", "phase"], permutations=9)
    assert {"role", "phase"} <= set(frame["label_set"].dropna())


def test_a_trace_without_them_has_no_phases_and_roles(checkpoint, tmp_path):
    trace = specialize.trace_corpus(checkpoint, make_texts(5), tmp_path / "run")
    for name, what in (("role", r"conversations \(a column messages\)"), ("phase", r"generated tokens \(generate\)")):
        with pytest.raises(AnnotationError, match=f"expected a trace of {what}, from which '{name}'"):
            specialize.syntax(trace, tags=[name])


def test_a_document_that_leaves_no_room_is_read_from_its_end(checkpoint, tmp_path):
    texts = [*make_texts(3), " ".join(["river", "stone"] * 100)]
    listener = Listener()
    trace = specialize.trace_corpus(checkpoint, texts, tmp_path / "run", generate=NEW, reporter=listener)
    tokens = trace.tokens()
    own = tokens[tokens["document"] == 3]
    assert (own["phase"] == "prefill").sum() == 64 - NEW
    assert own["char_end"][own["phase"] == "prefill"].max() == len(texts[3])
    assert any("of which only the last tokens are read: 1 of 4" in note for note in listener.notes)


@pytest.mark.parametrize("text", ["<s>a river runs", "a river runs"])
def test_a_second_beginning_is_told(tmp_path, text):
    from tokenizers import processors

    tokenizer = train_unigram(make_texts(80))
    opening = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[opening]
    )
    folder, listener = save_olmoe(tmp_path / "model", tokenizer), Listener()
    specialize.trace_corpus(folder, [text, "the stone"], tmp_path / "run", reporter=listener)
    told = [note for note in listener.notes if "which the tokenizer adds itself: the model reads it twice" in note]
    assert len(told) == text.startswith("<s>")


def test_refusals(checkpoint, tmp_path):
    texts = make_texts(4)
    for how, error, message in (
        ({"generate": 64}, TraceError, "generate: expected fewer than 64 tokens, the length of a sequence"),
        ({"generate": 4, "predictions": True}, TraceError, "predictions: expected none with generate"),
        ({"generate": 4, "stride": 8}, TraceError, "stride: expected none with generate"),
        ({"generate": 0}, TraceError, "generate: expected a positive number, got 0"),
        ({"chat_template": "{{ messages }}"}, CaptureError, "chat_template: expected it only for conversations"),
    ):
        with pytest.raises(error, match=message):
            specialize.trace_corpus(checkpoint, texts, tmp_path / "run", **how)
        assert not (tmp_path / "run").exists()
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    (tmp_path / "chats.json").write_text(json.dumps(rows))
    with pytest.raises(CorpusError, match="document '0': expected a conversation that the model is to answer"):
        specialize.trace_corpus(checkpoint, tmp_path / "chats.json", tmp_path / "run", generate=4)
    model = build("olmoe").base_model
    with pytest.raises(CaptureError, match="generate: expected a decoder with a language-model head, got OlmoeModel"):
        specialize.trace_corpus(model, texts, tmp_path / "run", tokenizer=checkpoint, generate=4)
    assert not (tmp_path / "run").exists()


def test_more_documents_extend_it(checkpoint, tmp_path):
    texts = make_texts(30)
    how = {"generate": NEW, "batch_tokens": 256}
    specialize.trace_corpus(checkpoint, texts[:10], tmp_path / "run", **how)
    extended = specialize.trace_corpus(checkpoint, texts, tmp_path / "run", **how)
    whole = specialize.trace_corpus(checkpoint, texts, tmp_path / "whole", **how)
    assert extended.documents()["text"].tolist() == whole.documents()["text"].tolist()
    assert extended.tokens()["token_id"].tolist() == whole.tokens()["token_id"].tolist()


def test_damaged_shards_and_documents_are_generated_again(checkpoint, tmp_path):
    how = {"generate": NEW, "batch_tokens": 256}
    whole = specialize.trace_corpus(checkpoint, make_texts(30), tmp_path / "whole", **how)
    for name in ("documents.arrow", "tokens-00001.arrow"):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        (tmp_path / name / "trace" / name).write_bytes(b"broken")
        repaired = specialize.trace_corpus(checkpoint, make_texts(30), tmp_path / name, repair=True, **how)
        assert repaired.digest == whole.digest


def test_an_ablation_needs_texts(checkpoint, continued):
    _, trace = continued
    with pytest.raises(TraceError, match="expected a trace of texts, got one of tokens that the model generated"):
        specialize.ablate(checkpoint, trace)


def test_a_loaded_model_is_as_it_was(checkpoint, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    settings = model.generation_config.to_dict()
    facts = {"name": "mine", "revision": None, "dtype": "float32", "config_digest": "0", "config": {}}
    given = Checkpoint("mine", model, tokenizer, facts)
    specialize.trace_corpus(given, make_texts(4), tmp_path / "run", generate=2)
    assert model.generation_config.to_dict() == settings
