"""A corpus and settings for trainings of a second, and their interruption."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from listening import Listener
from specialize.events import Update

CONFIG = """
seed = 3
[model]
hidden_size = 32
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_experts = 4
num_experts_per_tok = 1
router_type = "{router}"
routing_unit = "{unit}"
routing_prefix = 4
[tokenizer]
vocab_size = 300
[data]
corpus = "corpus.jsonl"
validation_share = 0.2
group_separator = "#"
[training]
steps = 30
batch_size = 8
context_length = 16
learning_rate = 1e-2
warmup_steps = 5
dtype = "float32"
saved_dtype = "float32"
evaluate_every = 10
checkpoint_every = 10
compare_from = 3
"""


def write_training(folder: Path) -> Path:
    """Write a corpus and the settings of a training to a folder; return the path of the settings."""
    rng = np.random.default_rng(0)
    words = ["alpha", "beta", "gamma", "delta", "river", "stone"]
    lines = []
    for i in range(60):  # each word tells the next: there is something to learn
        start = rng.integers(6)
        text = " ".join(words[(start + j) % 6] for j in range(40))
        lines.append(json.dumps({"id": f"book{i // 3}#{i}", "text": text}))
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    path = folder / "train.toml"
    path.write_text(CONFIG.format(router="learned", unit="token"))
    return path


class Interrupter(Listener):
    """Interrupts a training after a step."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        def update(done: int, total: int, rate: str | None = None) -> None:
            if done == self.last:
                raise KeyboardInterrupt

        yield update
