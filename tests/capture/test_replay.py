"""A run is traced again: another pass over its token ids, with what was generated."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

import specialize
from listening import Listener
from specialize.errors import CorpusError, SpecializeError, TraceError
from specialize.measure import read_results
from specialize.trace import validate_trace
from tiny_olmoe import save_olmoe, train_unigram

WORDS = ("river", "stone", "violin", "market", "winter", "engine", "letter", "garden", "the", "of", "and", "runs")
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
IDS = [5, 9, 20, 7, 5, 6, 30]


def make_texts(count, longest=12):
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, draw.integers(2, longest))) for _ in range(count)]


def save(folder, texts):
    """A model whose tokenizer, of these texts, begins each sequence with <s>."""
    tokenizer = train_unigram([*texts, "user: assistant: "])
    tokenizer.chat_template = TEMPLATE
    begin = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = begin
    return save_olmoe(folder, tokenizer, num_experts=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """Two models whose tokenizer opens sequences with <s>, and runs of the first of every kind."""
    folder = tmp_path_factory.mktemp("replay")
    trainer = save(folder / "model", make_texts(60))
    model = AutoModelForCausalLM.from_pretrained(trainer)
    with torch.no_grad():
        model.model.layers[-1].mlp.gate.weight.mul_(-1)  # the opposite experts, in the last layer alone
    changed = save(folder / "changed", make_texts(60))
    model.save_pretrained(changed)
    texts = make_texts(40)
    table = pd.DataFrame({"text": texts, "kind": ["a", "b"] * 20, "thread": [f"t{n // 2}" for n in range(40)]})
    chats = [{"id": f"c{n}", "messages": [{"role": "user", "content": text}]} for n, text in enumerate(texts[:20])]
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)), encoding="utf-8")
    specialize.trace_corpus(trainer, table, folder / "generated", generate=8, group="thread", batch_tokens=256)
    specialize.trace_corpus(trainer, folder / "chats.jsonl", folder / "answers", generate=8)
    specialize.trace_corpus(trainer, texts, folder / "overlapping", context=12, stride=5)
    specialize.trace_corpus(trainer, texts, folder / "cut", context=12)
    return folder


def attach_to_each(checkpoint, trace):
    """Experts by layer of each sequence alone: what the hooks of a pass over its ids record."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    tokens = trace.tokens()
    found = [[] for _ in trace.layers]
    for _, own in tokens.groupby("document", sort=False):
        ids = own["token_id"].to_numpy()
        for _, window in own.groupby("sequence", sort=False):
            first, count = int(window["position"].iloc[0]), len(window)
            opening = [1] if own["position"].iloc[0] else []  # <s>
            end = int(np.flatnonzero(own["sequence"] == window["sequence"].iloc[0])[-1]) + 1
            before = ids[end - count - (first - len(opening)) : end - count]
            sequence = torch.tensor([[*opening, *before, *window["token_id"]]])
            with torch.inference_mode(), specialize.attach(model) as recorder:
                model(input_ids=sequence)
            for layer, recorded in enumerate(recorder.take()):
                found[layer].append(recorded.experts[-count:])
    return [np.concatenate(each) for each in found]


@pytest.mark.parametrize("name", ["generated", "answers", "overlapping", "cut"])
def test_it_has_the_tokens_of_the_run_and_the_routing_of_the_model(name, folder, tmp_path):
    rollout = specialize.open_trace(folder / name)
    trace = specialize.trace_corpus(folder / "changed", folder / name, tmp_path / "run", batch_tokens=128)
    assert trace.tokens().equals(rollout.tokens())
    assert trace.documents().equals(rollout.documents())
    assert trace.group_column == rollout.group_column
    if name in ("generated", "answers"):
        assert set(trace.tokens()["phase"]) == {"prefill", "generation"}
    if name == "answers":
        assert set(trace.tokens()["role"]) == {"user", "assistant", "template"}
    for layer, experts in enumerate(attach_to_each(folder / "changed", rollout)):
        np.testing.assert_array_equal(trace.experts(layer), experts)
    entry = trace.manifest["corpus"]
    assert entry["replay_of"] == {"run": str(folder / name), "digest": rollout.digest}
    assert all(check.problem is None for check in validate_trace(trace.path))


def test_the_same_model_agrees_and_one_changed_router_differs_in_its_layer(folder, tmp_path):
    rollout = folder / "generated"
    specialize.trace_corpus(folder / "model", rollout, tmp_path / "same")
    specialize.trace_corpus(folder / "changed", rollout, tmp_path / "changed")
    for other, expected in (("same", {0: 1.0, 1: 1.0}), ("changed", {0: 1.0})):
        frame = specialize.compare(rollout, tmp_path / other, output=tmp_path)
        overall = frame[frame["label_set"].isna()].set_index(["metric", "layer"])["value"]
        assert {layer: overall["saturation", layer] for layer in expected} == expected
        assert {layer: overall["first_expert_agreement", layer] for layer in expected} == expected
        assert {overall["mismatched_tokens", layer] for layer in expected} == {0.0}
        assert overall["gate_weight_difference", 0] < 1e-3
    assert overall["saturation", 1] < 0.5
    assert frame.loc[frame["metric"] == "mismatched_tokens_in_any_layer", "value"].min() > 0.9


def test_shares_by_label_are_those_of_a_loop_over_tokens(folder, tmp_path):
    rollout = specialize.open_trace(folder / "answers")
    trace = specialize.trace_corpus(folder / "changed", rollout, tmp_path / "run")
    frame = specialize.compare(rollout, trace, output=tmp_path)
    tokens = rollout.tokens()
    ends = [0, 3, 15, 63]
    tokens["position"] = [sum(place > end for end in ends) for place in tokens["position"]]
    names = {"position": ["0", "1 to 3", "4 to 15", "16 to 63"]}
    rows = frame[(frame["metric"] == "saturation") & frame["label_set"].notna()]
    assert set(rows["label_set"]) == {"position", "phase", "role"}
    assert rows["ci_kind"].str.startswith("95 %").any()
    for layer in (0, 1):
        one, two = rollout.experts(layer), trace.experts(layer)
        tokens["same"] = [len(set(a.tolist()) & set(b.tolist())) / 2 for a, b in zip(one, two, strict=True)]
        for label_set in ("position", "phase", "role"):
            expected = tokens.groupby(label_set, observed=True)["same"].mean()
            own = rows[(rows["layer"] == layer) & (rows["label_set"] == label_set)].set_index("label")["value"]
            labels = [names[label_set][code] if label_set in names else code for code in expected.index]
            assert own.to_dict() == pytest.approx(dict(zip(labels, expected, strict=True)))
    stored = read_results(tmp_path, "against-run")
    assert len(stored) == len(frame)


def test_it_is_resumed_and_grows_with_the_run(folder, tmp_path):
    rollout, run = folder / "generated", tmp_path / "run"
    few = specialize.trace_corpus(folder / "model", rollout, run, limit=10)
    assert few.num_documents == 10
    whole = specialize.trace_corpus(folder / "model", rollout, run)
    assert whole.num_documents == 40
    assert whole.tokens().equals(specialize.open_trace(rollout).tokens())
    listener = Listener()
    specialize.trace_corpus(folder / "model", rollout, run, reporter=listener)
    assert f"{run}: the trace is complete already" in listener.notes
    with pytest.raises(SpecializeError, match=r"choose another folder"):
        specialize.trace_corpus(folder / "model", folder / "cut", run)
    path = run / "trace" / "routing-00000.arrow"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    again = specialize.trace_corpus(folder / "model", rollout, run, repair=True)
    assert path.read_bytes() == content
    assert again.digest == whole.digest


def import_run(folder, **columns):
    """A run of two documents of four and three tokens, from arrays."""
    experts = np.random.default_rng(0).permuted(np.tile(np.arange(8), (7, 2, 1)), axis=2)[:, :, :2]
    np.savez(folder / "in.npz", experts=experts, document=[0, 0, 0, 0, 1, 1, 1], **columns)
    return specialize.import_trace("arrays", folder / "in.npz", folder / "imported", num_experts=8)


def test_texts_that_are_not_known_stay_unknown(folder, tmp_path):
    imported = import_run(tmp_path, token_id=np.array(IDS))
    trace = specialize.trace_corpus(folder / "model", imported, tmp_path / "run")
    assert trace.documents()["text"].isna().all()
    assert trace.tokens().equals(imported.tokens())
    for layer, experts in enumerate(attach_to_each(folder / "model", imported)):
        np.testing.assert_array_equal(trace.experts(layer), experts)
    frame = specialize.compare(imported, trace, output=tmp_path)
    assert "mismatched_tokens_in_any_layer" in set(frame["metric"])


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({}, r"document '0': expected the ids of all tokens, which are read again, got 4 unknown ones \(-1\)"),
        ({"token_id": [5, 9, -1, 7, 5, 6, 30]}, "got 1 unknown ones"),
        ({"token_id": [5, 9, 20, 7, 5, 6, 9999]}, r"expected token ids below \d+, the number of embeddings .*9,999"),
        ({"token_id": IDS, "position": [0, 1, 3, 4, 0, 1, 2]}, "document '0': expected every token .* position 3"),
        ({"token_id": IDS, "position": [0, 1, 2, 3, 4, 5, 6]}, "position 0 or 1, after what the tokenizer adds, .* 4"),
        ({"token_id": IDS, "position": [98, 99, 100, 101, 0, 1, 2]}, "sequences of at most 64 tokens, .* one of 102"),
    ],
)
def test_what_cannot_be_read_again_is_one_line(columns, match, folder, tmp_path):
    imported = import_run(tmp_path, **{name: np.array(each) for name, each in columns.items()})
    with pytest.raises(TraceError, match=match) as caught:
        specialize.trace_corpus(folder / "model", imported, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"text_column": "text"}, {"labels": ["kind"]}, {"unit": "line"}, {"sample": 5}, {"stride": 3},
        {"max_tokens": 3}, {"generate": 3}, {"chat_template": "{{ messages }}"},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_options_for_texts_are_refused(options, folder, tmp_path):
    [name] = options
    with pytest.raises(TraceError, match=f"^{name}: expected it only with a corpus of texts, got it with the run"):
        specialize.trace_corpus(folder / "model", folder / "cut", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_paths_and_lengths_that_do_not_fit_are_refused(folder, tmp_path):
    cut = folder / "cut"
    with pytest.raises(TraceError, match=r"at most 5 tokens, as --context says, got one of 12: leave --context out"):
        specialize.trace_corpus(folder / "model", cut, tmp_path / "run", context=5)
    with pytest.raises(TraceError, match="expected another folder than that of the run"):
        specialize.trace_corpus(folder / "model", cut, cut)
    with pytest.raises(CorpusError, match="expected one run alone, or paths of documents, got a run among several"):
        specialize.trace_corpus(folder / "model", [cut, folder / "chats.jsonl"], tmp_path / "run")
    np.save(tmp_path / "usage.npy", np.full((3, 2, 8), 1 / 8))
    usage = specialize.import_trace("usage", tmp_path / "usage.npy", tmp_path / "usage")
    with pytest.raises(TraceError, match="expected the experts of each token, got usage by document"):
        specialize.trace_corpus(folder / "model", usage, tmp_path / "run")


def test_a_model_with_another_tokenizer_is_noticed(folder, tmp_path):
    other = shutil.copytree(folder / "model", tmp_path / "other")
    state = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = state["model"]["vocab"]
    vocabulary[2:] = np.random.default_rng(0).permutation(vocabulary[2:]).tolist()  # other ids of the same pieces
    state["model"]["vocab"] = [[piece, float(score)] for piece, score in vocabulary]
    (other / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    listener = Listener()
    specialize.trace_corpus(other, folder / "generated", tmp_path / "run", reporter=listener)
    assert any("is it the run of a model with another tokenizer?" in message for message in listener.notes)
    listener = Listener()
    specialize.trace_corpus(folder / "model", folder / "generated", tmp_path / "same", reporter=listener)
    assert not any("another tokenizer" in message for message in listener.notes)


def test_from_the_command_line(folder, tmp_path, call):
    code, _, err = call("trace", folder / "changed", folder / "generated", "-o", tmp_path / "run")
    assert code == 0, err
    code, table, _ = call("compare", folder / "generated", tmp_path / "run")
    assert code == 0
    by_layer, least, _ = table.split("\n\n")
    assert [line.split()[:2] for line in by_layer.splitlines() if line.split()[:1] == ["0"]] == [["0", "1.0000"]]
    assert "any" in by_layer.split()
    assert all(line.split()[0] == "1" for line in least.splitlines()[2:])  # the layer that was changed
    code, _, err = call("trace", folder / "model", folder / "generated", "-o", tmp_path / "no", "--stride", 3)
    assert code == 2
    [line] = [line for line in err.splitlines() if "stride" in line]
    assert "expected it only with a corpus of texts" in line
