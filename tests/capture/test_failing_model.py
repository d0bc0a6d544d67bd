"""A model that raises an exception in the middle of a corpus is one line, and what was finished is kept."""

import json

import pytest

from capture.test_run import SMALL, TEXTS, make_checkpoint
from specialize.capture import trace_documents
from specialize.corpus import open_corpus
from specialize.errors import CaptureError


@pytest.fixture(scope="module")
def checkpoint():
    return make_checkpoint()


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8")
    return open_corpus(path)


@pytest.mark.parametrize("error", [RuntimeError("shapes do\nnot match"), KeyError("rope"), AssertionError()])
def test_a_model_that_fails_in_the_middle_is_one_line_and_is_resumed(checkpoint, corpus, tmp_path, error):
    whole = trace_documents(checkpoint, corpus, tmp_path / "whole", options=SMALL)
    passes = []

    def fail_later(*_):
        passes.append(1)
        if len(passes) > 3:  # the first is the verification pass
            raise error

    handle = checkpoint.model.get_input_embeddings().register_forward_pre_hook(fail_later)
    try:
        with pytest.raises(
            CaptureError, match=r"the model failed in a forward pass over .* shards .* are kept"
        ) as caught:
            trace_documents(checkpoint, corpus, tmp_path / "run", options=SMALL)
    finally:
        handle.remove()
    assert "\n" not in str(caught.value)
    assert type(error).__name__ in str(caught.value)
    resumed = trace_documents(checkpoint, corpus, tmp_path / "run", options=SMALL)
    assert resumed.manifest["shards"] == whole.manifest["shards"]
