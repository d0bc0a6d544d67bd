"""A tiny model, a run of it as the sample with labels of tokens and documents, and a training loop."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import specialize
from specialize.annotation import Annotation
from specialize.annotators import save_annotation
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from tiny_olmoe import save_olmoe, train_unigram

THEMES = {
    "rivers": ["river", "water", "stream", "stones", "sand", "sea", "boat", "bank"],
    "music": ["violin", "orchestra", "band", "songs", "piano", "famous", "choir", "drum"],
}


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with corpus.jsonl, a checkpoint `model` and its run `sample`, which has the labels theme and half."""
    folder = tmp_path_factory.mktemp("monitoring")
    draw = random.Random(0)
    texts = []
    with (folder / "corpus.jsonl").open("w") as file:
        for number in range(40):
            theme = ("rivers", "music")[number % 2]
            texts.append(" ".join(f"The {word} is old." for word in draw.choices(THEMES[theme], k=6)))
            file.write(json.dumps({"id": f"d{number}", "text": texts[-1], "theme": theme}) + "\n")
    save_olmoe(folder / "model", train_unigram(texts), num_experts=8)
    trace = specialize.trace_corpus(folder / "model", folder / "corpus.jsonl", folder / "sample")
    ids = trace.tokens()["token_id"].to_numpy()
    codes = np.where(ids % 3 == 2, -1, ids % 3).astype(np.int32)  # the token id decides, a third has no label
    save_annotation(trace, Annotation("parity", "token", ("even", "odd"), codes))
    return folder


@pytest.fixture
def sample(world) -> Path:
    return world / "sample"


@pytest.fixture
def tokenizer(world):
    return specialize.load_checkpoint(str(world / "model")).tokenizer


@pytest.fixture
def model(world, one_thread) -> GPTMoEForCausalLM:
    """A model whose training draws random numbers: dropout, and routers that are drawn anew in every pass."""
    return build_model()


def build_model(**choices) -> GPTMoEForCausalLM:
    torch.manual_seed(1)
    sizes = {"vocab_size": 150, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2}
    how = {"num_attention_heads": 2, "max_position_embeddings": 64, "num_experts": 8, "num_experts_per_tok": 2}
    settings = {**sizes, **how, "dropout": 0.1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return GPTMoEForCausalLM(GPTMoEConfig(**(settings | choices))).train()


def train(model, steps: int, *, monitor=None, first: int = 0) -> list[float]:
    """Train a model for some steps and return the losses; the batches depend on the step, dropout on the generator."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for step in range(first, first + steps):
        ids = torch.randint(0, 150, (4, 16), generator=torch.Generator().manual_seed(step))
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if monitor is not None:
            monitor.step()
    return losses


def twin(model):
    """A model with the same weights."""
    return copy.deepcopy(model)
