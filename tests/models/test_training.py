import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from listening import Listener
from specialize.errors import ConfigError
from specialize.models import GPTMoEForCausalLM, preparation
from specialize.models.data import TokenStore, batches, is_held_out
from specialize.models.settings import read_train_config
from specialize.models.training import learning_rate, train
from tiny_training import CONFIG, Interrupter, write_training


@pytest.fixture
def config_path(tmp_path):
    return write_training(tmp_path)


def test_training_learns_and_leaves_a_model(config_path, tmp_path):
    config_path.write_text(config_path.read_text().replace("steps = 30", "steps = 70"))
    listener = Listener()
    result = train(read_train_config(config_path), tmp_path / "run", reporter=listener)
    assert result.perplexity < 0.5 * result.unigram_perplexity
    assert [(step.title, step.done, step.total) for step in listener.steps] == [
        ("training", step, 70) for step in range(1, 71)
    ]
    assert re.fullmatch(r"[\d,]+ tokens/s, loss \d+\.\d{3}", listener.steps[0].rate)
    assert re.fullmatch(r"[\d,]+ tokens/s, loss \d+\.\d{3}, held-out perplexity \d+\.\d", listener.steps[-1].rate)
    assert len(result.load) == 2
    for load, entropy in zip(result.load, result.load_entropy, strict=True):
        assert math.isclose(sum(load), 1, rel_tol=1e-6)
        assert math.isclose(entropy, -sum(p * math.log2(p) for p in load if p), rel_tol=1e-6)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    ids = tokenizer("alpha beta gamma", return_tensors="pt")["input_ids"]
    assert "delta" in tokenizer.decode(model.generate(ids, max_new_tokens=4, do_sample=False)[0])
    card = (tmp_path / "run/model/README.md").read_text()
    assert f"| perplexity | {result.perplexity:.1f} |" in card
    assert str(tmp_path) not in card + (tmp_path / "run/model/evaluation.json").read_text()


@pytest.mark.parametrize(
    ("capability", "dtype", "notes"),
    [("AVX2", "bfloat16", 1), ("AVX2", "float32", 0), ("AVX512", "bfloat16", 0), ("DEFAULT", "bfloat16", 0)],
)
def test_a_processor_without_bfloat16_is_said_once(config_path, tmp_path, monkeypatch, capability, dtype, notes):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    settings = config_path.read_text().replace("steps = 30", "steps = 5")
    config_path.write_text(settings.replace('\ndtype = "float32"', f'\ndtype = "{dtype}"'))
    listener = Listener()
    train(read_train_config(config_path), tmp_path / "run", reporter=listener)
    said = [note for note in listener.notes if "no bfloat16 instructions" in note]
    assert len(said) == notes
    assert all('dtype = "float32" in [training]' in note for note in said)


@pytest.mark.parametrize(("router", "unit"), [("learned", "sequence"), ("rerandomized", "token")])
def test_an_interrupted_run_ends_with_the_same_weights(config_path, tmp_path, router, unit):
    config_path.write_text(CONFIG.format(router=router, unit=unit))
    config = read_train_config(config_path)
    train(config, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", reporter=Interrupter(17))
    listener = Listener()
    train(config, tmp_path / "parts", reporter=listener)
    assert [step.done for step in listener.steps] == list(range(11, 31))  # from the checkpoint at step 10
    whole, parts = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_frozen_router_stays_as_it_was_drawn(config_path, tmp_path):
    config_path.write_text(CONFIG.format(router="frozen", unit="token").replace("steps = 30", "steps = 6"))
    config = read_train_config(config_path)
    train(config, tmp_path / "run")
    torch.manual_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/data")
    drawn = GPTMoEForCausalLM(config.configure_model(vocab_size=len(tokenizer))).state_dict()
    trained = load_file(tmp_path / "run/model/model.safetensors")
    routers = [key for key in drawn if "router" in key]
    assert len(routers) == 2
    assert all(torch.equal(drawn[key], trained[key]) for key in routers)
    assert not torch.equal(drawn["model.tokens.weight"], trained["model.tokens.weight"])


def test_groups_fall_on_one_side():
    sides = {(f"book{i // 5}", is_held_out(f"book{i // 5}#{i}", share=0.3, separator="#", seed=0)) for i in range(500)}
    assert len(sides) == 100
    assert 15 < sum(held_out for _, held_out in sides) < 45


def test_windows_never_cross_a_document():
    lengths = np.array([3, 25, 10, 41])
    store = TokenStore(np.arange(79, dtype=np.uint16), np.concatenate([[0], lengths.cumsum()]))
    for seed in (None, (0, 0), (0, 1)):
        starts = store.windows(10, shuffle_seed=seed)
        assert len(starts) == 2 + 1 + 4
        document = np.searchsorted(store.offsets, starts, side="right") - 1
        assert (starts + 10 <= store.offsets[document + 1]).all()


def test_batches_depend_on_the_seed_and_the_step_alone():
    store = TokenStore(np.arange(100, dtype=np.uint16), np.array([0, 40, 100]))
    stream = batches(store, length=10, size=2, seed=1)
    whole = [next(stream) for _ in range(12)]
    resumed = batches(store, length=10, size=2, seed=1, first_step=7)
    for expected in whole[7:]:
        np.testing.assert_array_equal(next(resumed), expected)
    assert not np.array_equal(whole[0], next(batches(store, length=10, size=2, seed=2)))


def test_learning_rate_warms_up_and_falls(config_path):
    settings = read_train_config(config_path).training
    rates = [learning_rate(step, settings) for step in range(settings.steps)]
    assert rates[:5] == pytest.approx([2e-3, 4e-3, 6e-3, 8e-3, 1e-2])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(1e-3, rel=0.1)


def test_snapshots_are_the_model_as_it_was(config_path, tmp_path):
    text = config_path.read_text()
    config_path.write_text(text + "snapshots = [10, 30]\n")
    train(read_train_config(config_path), tmp_path / "long")
    config_path.write_text(text.replace("steps = 30", "steps = 30\nsnapshots = [20]"))
    with pytest.raises(KeyboardInterrupt):
        train(read_train_config(config_path), tmp_path / "short", reporter=Interrupter(10))
    early, last = (load_file(tmp_path / f"long/snapshots/step-{step}/model.safetensors") for step in (10, 30))
    stored = load_file(tmp_path / "short" / "checkpoint.safetensors")
    model = load_file(tmp_path / "long" / "model" / "model.safetensors")
    assert all(torch.equal(last[name], model[name]) for name in model)
    assert any(not torch.equal(early[name], last[name]) for name in early)
    same = [torch.equal(stored[f"model/{name}"], early[name]) for name in early if f"model/{name}" in stored]
    assert same
    assert all(same)
    AutoModelForCausalLM.from_pretrained(tmp_path / "long" / "snapshots" / "step-10")


def test_runs_share_their_data_and_their_split(config_path, tmp_path, monkeypatch):
    text = config_path.read_text().replace('group_separator = "#"', 'group_separator = "#"\nsplit_seed = 5')
    text = text.replace("steps = 30", "steps = 6")
    config_path.write_text(text)
    train(read_train_config(config_path), tmp_path / "one", data=tmp_path / "data")
    monkeypatch.setattr(preparation, "open_corpus", lambda *args, **kwargs: pytest.fail("read again"))
    config_path.write_text(text.replace("seed = 3", "seed = 4", 1))
    train(read_train_config(config_path), tmp_path / "two", data=tmp_path / "data")
    assert not (tmp_path / "one" / "data").exists()
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_a_guided_router_sends_each_label_to_its_expert(tmp_path):
    """Two languages of one letter set each: the router learns to tell them, and needs no label to do so."""
    rng = np.random.default_rng(0)
    with (tmp_path / "corpus.jsonl").open("w") as file:
        for i in range(120):
            letters = "abcde" if i % 2 else "vwxyz"
            text = " ".join("".join(rng.choice(list(letters), 4)) for _ in range(40))
            file.write(json.dumps({"id": f"b{i}", "text": text, "lang": letters[0]}) + "\n")
    text = CONFIG.format(router="guided", unit="sequence").replace("num_experts = 4", "num_experts = 2")
    path = tmp_path / "guided.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"expected data\.guide_column with as many values as num_experts = 2"):
        train(read_train_config(path), tmp_path / "without")
    path.write_text(text.replace("[data]", '[data]\nguide_column = "lang"'))
    train(read_train_config(path), tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    for sample, expert in (("dabc cabd ebca abcd deab", 0), ("wxyz zyvw vwxy yzwx xwvz", 1)):
        with torch.no_grad():
            logits = model(**tokenizer(sample, return_tensors="pt")).router_logits
        assert [layer[0].argmax().item() for layer in logits] == [expert] * len(logits)


def test_a_guide_that_documents_lack_is_an_error(tmp_path):
    with (tmp_path / "corpus.jsonl").open("w") as file:
        for i in range(40):
            label = {"lang": "ab"[i % 2]} if i != 7 else {}
            file.write(json.dumps({"id": f"b{i}", "text": "abcd efgh " * 40} | label) + "\n")
    text = CONFIG.format(router="guided", unit="sequence").replace("num_experts = 4", "num_experts = 2")
    text = text.replace("steps = 30", "steps = 6")
    path = tmp_path / "guided.toml"
    path.write_text(text.replace("[data]", '[data]\nguide_column = "lang"'))
    with pytest.raises(ConfigError, match="expected a value of lang for every document, got none for 'b7'"):
        train(read_train_config(path), tmp_path / "run")
    path.write_text(text.replace('"guided"', '"learned"'))
    train(read_train_config(path), tmp_path / "learned", data=tmp_path / "data")
    path.write_text(text.replace("[data]", '[data]\nguide_column = "lang"'))
    with pytest.raises(ConfigError, match=r"other settings \(data\.guide_column: None there, 'lang' now\)"):
        train(read_train_config(path), tmp_path / "guided", data=tmp_path / "data")
