"""Files of others are data: none of them is run as code."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import specialize
from specialize.annotators.embedding import embed_texts
from specialize.capture import load_checkpoint
from specialize.errors import SpecializeError
from tiny_olmoe import save_olmoe, train_unigram

SOURCE = Path(specialize.__file__).parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_olmoe(tmp_path_factory.mktemp("model") / "whole", train_unigram(["the river runs over old stones"] * 9))


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """A checkpoint with a module that leaves a mark where it is imported."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    shutil.copytree(whole, tmp_path / "model")
    (tmp_path / "model/theirs.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'mark')!r}).touch()\nclass Theirs:\n    pass\n"
    )
    yield tmp_path / "model"
    assert not (tmp_path / "mark").exists()


def add(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def refuse(read, message: str) -> None:
    with pytest.raises(SpecializeError, match=message) as caught:
        read()
    assert "\n" not in str(caught.value)


class Touch:
    """Pickled, it calls a function when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_are_tensors_alone(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"theirs": Touch(tmp_path / "mark")}, folder / "pytorch_model.bin")
    refuse(lambda: load_checkpoint(folder), "could not be loaded as a language model: Weights only load failed")
    torch.save(weights, folder / "pytorch_model.bin")
    assert load_checkpoint(folder).model.config.num_experts == 4


def test_code_of_a_checkpoint_is_not_run(folder):
    add(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]})
    add(folder / "config.json", auto_map={"AutoModelForCausalLM": "theirs.Theirs"})
    assert load_checkpoint(folder).model.config.num_experts == 4  # by the classes of transformers
    add(folder / "config.json", model_type="theirs", auto_map={"AutoConfig": "theirs.Theirs"})
    refuse(lambda: load_checkpoint(folder), "could not be loaded as a language model: The repository .* custom code")


def test_code_of_an_embedding_model_is_not_run(folder):
    parts = [{"idx": 0, "name": "0", "path": "", "type": "theirs.Theirs"}]
    (folder / "modules.json").write_text(json.dumps(parts))
    refuse(lambda: embed_texts(["One.", "Two."], embedding=str(folder)), "references the module class 'theirs.Theirs'")


def test_the_package_reads_no_pickles():
    unsafe = re.compile(r"\b(pickle|joblib|dill|marshal|shelve)\b[.\s]|torch\.load|allow_pickle=True|\b(eval|exec)\(")
    found = [
        f"{path.name}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text().splitlines()
        if unsafe.search(line) and not re.search(r'"""|\.eval\(\)|pickle, and', line)
    ]
    assert found == []
