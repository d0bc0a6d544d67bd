"""A tiny model with a dense layer, its hooks' trace of a corpus, and a local server of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

import specialize
from serving.local_server import LocalServer, Oracle, Plan, serve
from specialize.trace import RoutingTrace
from tiny_olmoe import train_unigram

WORDS = ["river", "water", "stones", "violin", "orchestra", "songs", "cold", "old", "The", "plays", "runs", "é", "木"]


def make_texts() -> list[str]:
    """Three hundred documents: some of them repeated, one without text, one of thousands of tokens."""
    texts = [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 3 + row % 6)) for row in range(298)]
    texts[100:110] = texts[20:30]
    long = " ".join(WORDS[(7 * step + step // 11) % len(WORDS)] for step in range(1000))
    return [*texts[:50], "", *texts[50:150], long, *texts[150:], " \n "]


@pytest.fixture(scope="package")
def texts() -> list[str]:
    return make_texts()


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_unigram(texts)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=8,
        num_experts_per_tok=2,
        mlp_only_layers=[0],
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = Qwen3MoeForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # sharper routing than at initialization
            parameter.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")
def hooked(checkpoint: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> RoutingTrace:
    """What the hooks record, one sequence at a time."""
    run = tmp_path_factory.mktemp("hooks") / "run"
    return specialize.trace_corpus(
        checkpoint, texts, run, context=48, batch_tokens=1, weights=False, device="cpu", dtype="float32"
    )


@pytest.fixture(scope="package")
def running(checkpoint: Path) -> Iterator[LocalServer]:
    model = Qwen3MoeForCausalLM.from_pretrained(checkpoint, dtype="float32").eval()
    with serve(Oracle(model, [1, 2], 3)) as server:
        yield server


@pytest.fixture
def server(running: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """The server, without faults at first; requests that fail are repeated soon."""
    running.plan = Plan()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("SPECIALIZE_API_KEY", raising=False)
    monkeypatch.setattr("specialize.serving.client.FIRST_DELAY", 0.001)
    yield running
    running.plan.released.set()
