"""A checkpoint folder and a corpus of one's own: another family and another tokenizer than the demo's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tiny_olmoe import save_olmoe, train_unigram

SENTENCES = {
    "rivers": ["The river carries cold water to the sea .", "A stream runs over old stones and sand ."],
    "music": ["She plays the violin in a famous orchestra .", "The band wrote several popular songs ."],
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "own.jsonl"
    lines = []
    for i in range(40):
        topic = ("rivers", "music")[i % 2]
        body = " ".join(SENTENCES[topic][(i // 2 + j) % 2] for j in range(3)) + f" {i}."  # no copy of another one
        lines.append(json.dumps({"name": f"n{i}", "body": body, "theme": topic}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_unigram(sentence for group in SENTENCES.values() for sentence in group)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    return save_olmoe(tmp_path_factory.mktemp("checkpoints") / "olmoe", tokenizer)


@pytest.fixture(scope="session")
def dense_checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "dense"
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def traced(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> Callable[..., Path]:
    """Trace a corpus with a checkpoint; gives the run folder."""

    def trace(checkpoint: object, corpus: object, *options: object) -> Path:
        code, _, err = call("trace", checkpoint, corpus, "-o", tmp_path / "run", *options)
        assert code == 0, err
        return tmp_path / "run"

    return trace
