"""What else writes runs: a loop of one's own, a training that is watched, experts that are switched off, imports."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import specialize
from remote.buckets import digests
from tiny_olmoe import save_olmoe, train_unigram

TEXTS = [f"{first} {second} and the {first} ." for first in ("sea", "sun", "stone") for second in ("sun", "river")] * 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_olmoe(tmp_path_factory.mktemp("checkpoints") / "tiny", train_unigram(TEXTS))


@pytest.fixture
def both(fresh, tmp_path):
    """Two roots, one of them in memory, and a function that compares the runs below them."""
    files = fsspec.filesystem("memory")

    def compare(run: str) -> None:
        files.get(f"/memory-bucket/{run}", str(tmp_path / "got" / run), recursive=True)
        assert digests(tmp_path / "got" / run) == digests(tmp_path / run)
        shutil.rmtree(tmp_path / "got")

    yield (str(tmp_path), "memory://memory-bucket"), compare
    files.rm("/memory-bucket", recursive=True)


def test_a_loop_of_ones_own_is_recorded_at_an_address(checkpoint, both, one_thread):
    roots, compare = both
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    for root in roots:
        with specialize.record(model, tokenizer, f"{root}/mine"), torch.no_grad():
            model(**tokenizer(TEXTS[0], return_tensors="pt"))
    compare("mine")
    again = specialize.record(model, tokenizer, f"{roots[1]}/mine")
    with pytest.raises(specialize.errors.OutputError, match=r"^memory://memory-bucket/mine: expected a new or"), again:
        pass


def test_a_training_is_watched_into_an_address(checkpoint, both, one_thread):
    roots, compare = both
    samples = [{"text": text, "kind": str(number % 2)} for number, text in enumerate(TEXTS)]
    import pandas as pd

    for root in roots:
        torch.manual_seed(0)
        model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]

        def train(first: int, end: int, *, root=root, model=model, tokenizer=tokenizer, optimizer=optimizer, ids=ids):
            how = {"tokenizer": tokenizer, "every": 1, "permutations": 2, "num_blocks": 4, "first_step": first}
            with specialize.monitor(model, pd.DataFrame(samples), f"{root}/watched", **how) as monitor:
                for _ in range(first, end):
                    model(input_ids=ids, labels=ids).loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    monitor.step()

        train(0, 2)
        train(1, 2)  # resumed from an earlier step: a snapshot is dropped
    compare("watched")


def test_experts_are_switched_off_at_an_address(checkpoint, both, one_thread):
    roots, compare = both
    for root in roots:
        specialize.trace_corpus(str(checkpoint), TEXTS, f"{root}/traced", context=16)
        for experts in ([0], [0, 1]):
            how = {"experts": experts, "documents": 6, "permutations": 2}
            specialize.ablate(str(checkpoint), f"{root}/traced", **how)
    compare("traced")


def test_imports_go_to_addresses(both, tmp_path):
    roots, compare = both
    experts = np.random.default_rng(0).integers(0, 4, (20, 2, 1))
    np.savez(tmp_path / "own.npz", experts=experts, document=np.repeat([0, 1], 10))
    for root in roots:
        specialize.import_trace("arrays", tmp_path / "own.npz", f"{root}/imported", num_experts=4)
    compare("imported")
