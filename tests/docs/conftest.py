"""A folder in which the snippets of the documentation run: a tiny checkpoint, corpora, labels and runs."""

import csv
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import specialize
from docs.snippets import ROOT
from tiny_olmoe import save_olmoe, train_unigram

MODEL = "allenai/OLMoE-1B-7B-0924"  # here a folder of that name
THEMES = {
    "rivers": ["river", "water", "stream", "stones", "sand", "sea", "boat", "bank"],
    "music": ["violin", "orchestra", "band", "songs", "piano", "famous", "choir", "drum"],
}
TREEBANK = """# newdoc id = d{n}
# text = The cold river runs.
1\tThe\tthe\tDET\tDT\t_\t3\tdet\t_\t_
2\tcold\tcold\tADJ\tJJ\t_\t3\tamod\t_\t_
3\triver\triver\tNOUN\tNN\t_\t4\tnsubj\t_\t_
4\truns\trun\tVERB\tVBZ\t_\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# text = She plays songs.
1\tShe\tshe\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2\tplays\tplay\tVERB\tVBZ\t_\t0\troot\t_\t_
3\tsongs\tsong\tNOUN\tNNS\t_\t2\tobj\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

"""
TEMPLATE = "{% for message in messages %}The {{ message.role }}: {{ message.content }} {% endfor %}"
SETTINGS = """
[model]
hidden_size = 16
intermediate_size = 16
num_hidden_layers = 1
num_attention_heads = 2
num_experts = 2
num_experts_per_tok = 1
routing_prefix = 4

[tokenizer]
vocab_size = 300

[data]
corpus = "corpus.jsonl"
validation_share = 0.2

[training]
steps = 2
batch_size = 2
context_length = 16
warmup_steps = 1
dtype = "float32"
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it is before any snippet runs."""
    folder = tmp_path_factory.mktemp("world")
    texts = _write_corpora(folder)
    for name, seed in ((MODEL, 0), (f"{MODEL}-Instruct", 0), ("other-model", 1)):
        _save_checkpoint(folder / name, texts, seed)
    (folder / "token.toml").write_text(SETTINGS, encoding="utf-8")
    for name, model in (("olmoe", MODEL), ("other", "other-model")):
        specialize.trace_corpus(
            str(folder / model), folder / "corpus.jsonl", folder / "runs" / name, control="random-router", context=64
        )
    return folder


@pytest.fixture(scope="session")
def generators() -> Iterator[None]:
    """Makes the modules of docs/generate importable."""
    folder = str(ROOT / "docs" / "generate")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the working directory."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    return folder


def _write_corpora(folder: Path) -> list[str]:
    draw = random.Random(0)
    texts = []
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for number in range(60):
            theme = ("rivers", "music")[number % 2]
            text = " ".join(f"The {word} is old." for word in draw.choices(THEMES[theme], k=8))
            texts.append(text)
            file.write(json.dumps({"id": f"d{number}", "text": text, "theme": theme}) + "\n")
    for name, answers in (("questions", ()), ("chats", ("It is old.",))):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(40):
                said = [f"The {THEMES[('rivers', 'music')[number % 2]][number % 8]} is old.", *answers]
                roles = ("user", "assistant")
                turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
                file.write(json.dumps({"id": f"c{number}", "messages": turns}) + "\n")
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "half"], *([f"d{n}", ("one", "two")[n // 30]] for n in range(60))])
    (folder / "treebank.conllu").write_text(
        "".join(TREEBANK.replace("{n}", str(n)) for n in range(12)), encoding="utf-8"
    )
    return texts


def _save_checkpoint(folder: Path, texts: list[str], seed: int) -> None:
    tokenizer = train_unigram([*texts, "The cold river runs. She plays songs."])
    tokenizer.chat_template = TEMPLATE
    save_olmoe(folder, tokenizer, num_experts=8, seed=seed)
