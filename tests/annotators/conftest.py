"""A byte-level tokenizer, and a stand-in for a trace."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import ByteLevelBPETokenizer


class FakeTrace:
    """What annotations need of a trace."""

    def __init__(self, path, documents, tokens):
        self.path = path
        self.text_digest = "0"
        self.num_documents = len(documents)
        self.num_tokens = len(tokens)
        self._documents = documents
        self._tokens = tokens

    def documents(self, *, labels_only=False):
        return self._documents.drop(columns="text", errors="ignore") if labels_only else self._documents

    def tokens(self):
        return self._tokens


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level BPE with few merges, so that words, and characters beyond ASCII, fall to pieces."""
    trained = ByteLevelBPETokenizer()
    text = "the cat does not sit on the mat, they don't know why; naïve cafés in Zürich open at 10:30"
    trained.train_from_iterator([text] * 20, vocab_size=330, show_progress=False)
    return trained


@pytest.fixture
def make_trace(tmp_path, tokenizer):
    def make(texts, **labels):
        rows = [
            (document, start, end)
            for document, text in enumerate(texts)
            for start, end in tokenizer.encode(text).offsets
        ]
        tokens = pd.DataFrame(rows, columns=["document", "char_start", "char_end"], dtype=np.int32)
        documents = pd.DataFrame({"id": [f"d{i}" for i in range(len(texts))], "text": texts, **labels})
        return FakeTrace(Path(tmp_path), documents, tokens)

    return make


@pytest.fixture
def themed_documents():
    """Ninety short documents of three themes that share no content word."""
    themes = {
        "sea": ["ship", "sailor", "harbour", "wave", "anchor", "tide", "captain", "deck", "island", "storm"],
        "kitchen": ["bread", "oven", "flour", "butter", "recipe", "onion", "soup", "spoon", "kettle", "salt"],
        "sky": ["planet", "star", "comet", "orbit", "telescope", "galaxy", "moon", "eclipse", "meteor", "sun"],
    }
    draw = random.Random(0)
    rows = [
        (f"{theme}-{i}", " ".join(draw.choices(words, k=25)) + ".", theme)
        for i in range(30)
        for theme, words in themes.items()
    ]
    return pd.DataFrame(rows, columns=["id", "text", "theme"])
