"""The extra `capture` alone: a model is traced where no annotator is installed."""

import json
from pathlib import Path

import pytest

from install.fresh import make_environment
from specialize.demo import checkpoint_path
from specialize.trace import open_trace, validate_trace
from tiny_olmoe import save_olmoe

TEXTS = ("The river carries cold water to the sea.", "She plays the violin in a famous orchestra.")
SCRIPT = """
import importlib.util
import sys

import specialize

for name in ("spacy", "bertopic", "sentence_transformers", "umap", "hdbscan"):
    assert importlib.util.find_spec(name) is None, name
model, run, *texts = sys.argv[1:]
trace = specialize.trace_corpus(model, texts, run)
assert trace.num_documents == len(texts)
specialize.validate(run)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    return make_environment(tmp_path_factory.mktemp("node"), ["specialize[capture]"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small model of a family that transformers has, with the tokenizer of the demo."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint_path("token"))
    return save_olmoe(tmp_path_factory.mktemp("checkpoint"), tokenizer, hidden_size=16)


def test_a_corpus_is_traced_from_python(node, checkpoint, tmp_path):
    node.run("-c", SCRIPT, checkpoint, tmp_path / "run", *TEXTS)
    trace = open_trace(tmp_path / "run")
    assert list(trace.documents()["text"]) == list(TEXTS)
    assert [(router.num_experts, router.top_k) for router in trace.layers] == [(4, 2), (4, 2)]
    assert all(shard.problem is None for shard in validate_trace(trace.path))


@pytest.fixture(scope="module")
def traced(node, checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    node.run("-m", "specialize", "trace", checkpoint, folder / "corpus.jsonl", "-o", folder / "run")
    return folder / "run"


def test_a_corpus_is_traced_from_the_command_line(node, traced):
    node.run("-m", "specialize", "validate", traced)
    assert open_trace(traced).num_documents == len(TEXTS)


def test_tags_say_which_extra_brings_them(node, traced):
    done = node.run("-m", "specialize", "syntax", traced, fails=True)
    assert done.returncode == 2
    assert "pip install 'specialize[syntax]'" in done.stderr.splitlines()[-1]
