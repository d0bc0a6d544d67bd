"""The demo: what the model cards state holds for the weights that are shipped."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import specialize
import specialize.models
from specialize.demo import CHECKPOINTS, checkpoint_path, write_corpus
from specialize.models.settings import read_train_config


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = write_corpus(tmp_path_factory.mktemp("demo") / "corpus.jsonl", limit=120)
    return pd.read_json(path, lines=True)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_model_card_describes_a_trained_model_that_uses_its_experts(name):
    folder = checkpoint_path(name)
    evaluation = json.loads((folder / "evaluation.json").read_text())["evaluation"]
    assert evaluation["is_causal"]
    assert evaluation["perplexity"] <= 0.25 * evaluation["unigram_perplexity"]
    for load, entropy in zip(evaluation["load"], evaluation["load_entropy"], strict=True):
        assert entropy == pytest.approx(-sum(p * math.log2(p) for p in load if p))
        assert entropy >= 0.6 * math.log2(8)
    card = (folder / "README.md").read_text()
    assert f"| perplexity | {evaluation['perplexity']:.1f} |" in card
    assert f"| unigram perplexity on the same tokens | {evaluation['unigram_perplexity']:.1f} |" in card
    assert (folder / "model.safetensors").stat().st_size <= 12e6
    assert read_train_config(folder / "train.toml").model["routing_unit"] == name


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_shipped_weights_know_english_better_than_unigrams(name, corpus):
    """On text that was not in the training, of another kind than it."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint_path(name), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_path(name))
    ids = [tokenizer(text)["input_ids"][:256] for text in corpus["text"]]
    windows = [torch.tensor([row]) for row in ids if len(row) > 64]
    frequency = np.bincount(np.concatenate(ids), minlength=len(tokenizer)) + 1.0
    unigram = np.log(frequency / frequency.sum())  # fitted to this very text: the harder comparison
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(model(window).logits[0, 31:-1], window[0, 32:], reduction="none")
            for window in windows
        ]
    of_unigrams = np.concatenate([-unigram[window[0, 32:].numpy()] for window in windows])
    assert len(of_unigrams) > 5000
    assert torch.cat(losses).mean() < of_unigrams.mean() - math.log(1.5)


def test_only_the_routing_differs():
    settings = [read_train_config(checkpoint_path(name) / "train.toml") for name in CHECKPOINTS]
    assert settings[0].data == settings[1].data.model_copy(update={"corpus": settings[0].data.corpus})
    assert settings[0].tokenizer == settings[1].tokenizer
    assert settings[0].training == settings[1].training
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_experts")
    assert all(settings[0].model[key] == settings[1].model[key] for key in shared)
    tokenizers = {(checkpoint_path(name) / "tokenizer.json").read_bytes() for name in CHECKPOINTS}
    assert len(tokenizers) == 1


def test_the_corpus_is_drawn_the_same_way_each_time(corpus, tmp_path):
    again = pd.read_json(write_corpus(tmp_path / "corpus.jsonl", limit=120), lines=True)
    pd.testing.assert_frame_equal(again, corpus)
    assert corpus.columns.tolist() == ["id", "text", "gold_topic"]
    assert corpus["id"].is_unique
    assert corpus["gold_topic"].nunique() > 8
    assert not corpus["gold_topic"].is_monotonic_increasing


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_attach_sees_the_routing_unit(name):
    model = AutoModelForCausalLM.from_pretrained(checkpoint_path(name))
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=torch.arange(100, 200).reshape(2, 50))
    for layer in recorder.take():
        decisions = {tuple(choice) for choice in layer.experts[:50].tolist()}
        assert (len(decisions) == 1) == (name == "sequence")
