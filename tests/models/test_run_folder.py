"""The folder of a training: damaged files are refused, complete runs left alone, killed ones resumed."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from listening import Listener
from specialize.errors import ConfigError, OutputError, SpecializeError, TrainingError
from specialize.lock import locked
from specialize.models import GPTMoEForCausalLM, training
from specialize.models.settings import read_train_config
from specialize.models.training import train
from tiny_training import Interrupter, write_training


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = write_training(tmp_path_factory.mktemp("training"))
    text = path.read_text().replace("steps = 30", "steps = 12\nsnapshots = [6]")
    path.write_text(text.replace("_every = 10", "_every = 5"))
    return read_train_config(path)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """Run folders: one complete, one interrupted after a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    result = train(config, folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, folder / "part", reporter=Interrupter(8))
    (folder / "result.json").write_text(json.dumps(result.as_dict()))
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """Copy a run folder; return the path of the copy."""

    def copy(name):
        return shutil.copytree(trained / name, tmp_path / "run")

    return copy


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(config, folder, kind=TrainingError):
    """Train in a damaged folder; return the error, after which no file has changed."""
    before = contents(folder)
    with pytest.raises(kind) as caught:
        train(config, folder)
    assert contents(folder) == before
    assert not list(folder.rglob(".*"))
    message = str(caught.value).replace(str(folder), "RUN")
    assert len(message.splitlines()) == 1
    return message


def flip(path):
    data = bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(len(data) * 8)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def swap_for_a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = (flip, truncate, empty, swap_for_a_folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("checkpoint.safetensors", "delete it to train from the start"),
        ("data/train.npz", "delete RUN/data to make it again from the corpus"),
        ("data/validation.npz", "delete RUN/data to make it again from the corpus"),
        ("data/data.json", "delete RUN/data to make it again from the corpus"),
        ("data/tokenizer.json", "delete RUN/data to make it again from the corpus"),
        ("data/tokenizer_config.json", "delete RUN/data to make it again from the corpus"),
    ],
)
def test_a_damaged_file_of_an_unfinished_run_is_named(config, copied, name, remedy, damage):
    run = copied("part")
    damage(run / name)
    message = refused(config, run)
    assert message.startswith(f"RUN/{name}: ")
    assert message.endswith(remedy)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "evaluation.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_of_a_finished_model_is_named(config, copied, name, damage):
    run = copied("whole")
    damage(run / "model" / name)
    message = refused(config, run)
    assert message.startswith(f"RUN/model/{name}: ")
    assert message.endswith("; delete RUN/model to write it again from the checkpoint")


def test_what_was_damaged_is_made_again_once_it_is_deleted(config, copied, trained):
    run = copied("whole")
    empty(run / "model" / "model.safetensors")
    empty(run / "data" / "train.npz")
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "data")
    train(config, run)
    before, after = contents(trained / "whole"), contents(run)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name][1] != after[name][1]} <= {"metrics.csv"}


@pytest.mark.parametrize("name", ["data/train.npz", "data/SHA256SUMS", "model/evaluation.json", "model/config.json"])
def test_a_missing_file_is_named(config, copied, name):
    run = copied("part" if name.startswith("data") else "whole")
    (run / name).unlink()
    assert refused(config, run).startswith(f"RUN/{name}: ")


def test_damaged_snapshots_and_settings_are_named(config, copied):
    run = copied("whole")
    flip(run / "snapshots" / "step-6" / "model.safetensors")
    assert refused(config, run).startswith("RUN/snapshots/step-6/model.safetensors: the file is damaged")
    with pytest.raises(TrainingError, match=r"the file is damaged .*; restore it, or delete SHA256SUMS"):
        GPTMoEForCausalLM.from_pretrained(run / "snapshots" / "step-6")
    for text in ("", "[" * 100_000, '{"model_type": "olmoe"}', (run / "config.json").read_text().replace("12", "-12")):
        (run / "config.json").write_text(text)
        assert refused(config, run, ConfigError).startswith(
            "RUN/config.json: expected the settings of a training run, got: "
        )


def test_checksums_name_no_file_elsewhere(config, copied):
    run = copied("whole")
    (run / "model" / "SHA256SUMS").write_text(f"{'0' * 64}  ../../secret\n")
    assert refused(config, run).startswith("RUN/model/SHA256SUMS: expected the checksums of the files beside it")


def test_a_complete_run_is_left_as_it_is(config, copied, trained):
    run = copied("whole")
    os.remove(run / "checkpoint.safetensors")
    before, listener = contents(run), Listener()
    result = train(config, run, reporter=listener)
    assert contents(run) == before
    assert listener.notes == [f"{run}: this training is complete; nothing was changed"]
    assert result.as_dict() == json.loads((trained / "result.json").read_text())
    assert (run / "model" / "README.md").write_text("edited")
    train(config, run)


def test_another_description_writes_the_card_again(config, copied):
    run = copied("whole")
    described = config.model_copy(update={"description": "of six words"})
    train(described, run)
    assert "of six words" in (run / "model" / "README.md").read_text()
    before = contents(run)
    train(described, run)
    assert contents(run) == before


def test_files_of_another_run_are_not_taken_for_those_of_this_one(config, copied, tmp_path):
    other = config.model_copy(update={"seed": 4})
    train(other, tmp_path / "other")
    run = copied("part")
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", run)
    assert "got that of a run with other settings" in refused(config, run)
    shutil.copytree(tmp_path / "other" / "model", run / "model")
    assert refused(config, run).startswith("RUN/model: expected the model of this run, got one with other settings")
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "data")
    shutil.copytree(tmp_path / "other" / "data", run / "data")
    message = refused(config, run, ConfigError)
    assert message.startswith("RUN/data holds tokens of other settings (data.split_seed: 4 there, 3 now); ")
    message = refused(other, run, ConfigError)
    assert message == "RUN holds a run with other settings (seed: 3 there, 4 now); choose another folder"


def test_tokens_are_those_of_the_corpus_as_it_is(config, copied, trained, tmp_path):
    run = copied("part")
    (run / "checkpoint.safetensors").unlink()
    corpus = tmp_path / "moved.jsonl"

    def of(path):
        return config.model_copy(update={"data": config.data.model_copy(update={"corpus": str(path)})})

    for name in ("config.json", "metrics.csv"):
        (run / name).unlink()
    shutil.rmtree(run / "snapshots")
    with pytest.raises(SpecializeError, match="found none"):
        train(of(corpus), run)
    text = Path(config.data.corpus).read_text()
    corpus.write_text(text + '\n{"id": "new", "text": "alpha beta"}')
    message = refused(of(corpus), run, ConfigError)
    assert message.startswith(f"RUN/data holds tokens of '{config.data.corpus}', not of {corpus}; ")
    pattern = corpus.with_name("mov*.jsonl")
    assert refused(of(pattern), run, ConfigError).startswith(message.split(", not of")[0])
    corpus.write_text(text)
    train(of(corpus), run)
    weights = [folder / "model" / "model.safetensors" for folder in (run, trained / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def rewrite(path, change):
    """Change the tensors and metadata of a checkpoint as an earlier version wrote it, without a checksum."""
    tensors, metadata = load_file(path), {"step": "5", "history": "[]"}
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


MODEL = "model/model.norm.weight"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda t, m: m.pop("step"), "no 'step' in its metadata"),
        (lambda t, m: m.update(step="five"), "invalid literal"),
        (lambda t, m: m.update(step="13"), "step 13 of 12"),
        (lambda t, m: m.update(history="["), "Expecting value"),
        (lambda t, m: m.update(history="[1]"), "evaluations of another form"),
        (lambda t, m: m.update(history='{"step": 1}'), "evaluations of another form"),
        (lambda t, m: t.pop(MODEL), "other tensors than those of the model"),
        (lambda t, m: t.update(more=torch.zeros(1)), "other tensors than those of the model, such as 'more'"),
        (lambda t, m: t.update({MODEL: t[MODEL][:-1].clone()}), "other tensors than those of the model"),
        (lambda t, m: t.update({MODEL: t[MODEL].half()}), "other tensors than those of the model"),
        (lambda t, m: t[MODEL].fill_(torch.nan), "NaN or infinite values"),
    ],
)
def test_what_is_no_checkpoint_of_the_run_is_refused_without_a_checksum(config, copied, change, found):
    run = copied("part")
    rewrite(run / "checkpoint.safetensors", change)
    assert f"expected the checkpoint of this run, got: {found}" in refused(config, run)


def test_folders_of_an_earlier_version_are_resumed(config, copied, trained):
    run = copied("part")
    for name in ("data/SHA256SUMS", "data/data.json"):
        (run / name).unlink()
    rewrite(run / "checkpoint.safetensors", lambda tensors, metadata: None)
    result = train(config, run)
    assert result.as_dict() == json.loads((trained / "result.json").read_text())
    (run / "model" / "SHA256SUMS").unlink()
    assert train(config, run) == result
    truncate(run / "model" / "evaluation.json")
    assert "evaluation.json: expected an evaluation of the model, got: " in refused(config, run)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("offsets"),
        lambda arrays: arrays.update(tokens=arrays["tokens"].astype(np.float32)),
        lambda arrays: arrays.update(tokens=arrays["tokens"][:-1]),
        lambda arrays: arrays.update(tokens=arrays["tokens"][None]),
        lambda arrays: arrays.update(tokens=arrays["tokens"][:0], offsets=arrays["offsets"][:1]),
        lambda arrays: arrays.update(offsets=arrays["offsets"][::-1]),
        lambda arrays: arrays.update(offsets=arrays["offsets"] - 1),
        lambda arrays: arrays.update(guides=np.array(["a"])),
        lambda arrays: arrays.update(tokens=np.full_like(arrays["tokens"], 60_000)),
        lambda arrays: arrays.update(tokens=np.array([{}], dtype=object)),
    ],
)
def test_arrays_that_are_no_tokens_are_refused_without_a_checksum(config, copied, change):
    run = copied("part")
    for name in ("SHA256SUMS", "data.json"):
        (run / "data" / name).unlink()
    path = run / "data" / "train.npz"
    arrays = dict(np.load(path))
    change(arrays)
    np.savez(path, **arrays)
    message = refused(config, run)
    assert message.startswith("RUN/data/train.npz: expected ")
    assert message.endswith("; delete RUN/data to make it again from the corpus")


def test_a_training_that_diverges_stops_before_it_is_saved(config, copied, monkeypatch):
    rate = training.learning_rate
    monkeypatch.setattr(training, "learning_rate", lambda step, _: rate(step, _) if step < 6 else 1e30)
    run = copied("part")
    before = contents(run)["checkpoint.safetensors"]
    with pytest.raises(TrainingError) as caught:
        train(config, run)
    message = str(caught.value)
    assert message.startswith(f"{run}: training diverged at step 8 (training loss nan, ")
    assert message.endswith("the checkpoint of step 5 is kept; lower training.learning_rate, and choose another folder")
    assert contents(run)["checkpoint.safetensors"] == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "memory ran out; lower training.batch_size or "),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you"),
            "memory ran out; lower training.batch_size or ",
        ),
        (MemoryError(), "memory ran out; lower training.batch_size or "),
        (
            RuntimeError("CUDA error: unspecified\nSee"),
            "training failed (CUDA error: unspecified); run the same command ",
        ),
    ],
)
def test_what_torch_raises_is_one_line(config, copied, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(GPTMoEForCausalLM, "forward", fail)
    message = refused(config, copied("part"))
    assert message.startswith(f"RUN: {said}")
    assert message.endswith("; the checkpoint of step 5 is kept")


def test_one_process_trains_in_a_folder(config, copied):
    run = copied("part")
    with (
        locked(run / ".lock", on_busy=pytest.fail),
        pytest.raises(TrainingError, match="another process is training in this folder; wait for it to finish"),
    ):
        train(config, run)


def test_processes_that_need_the_same_tokens_wait_for_each_other(config, trained, tmp_path):
    """Another process prepares the data while this one waits."""
    held = locked(tmp_path / ".tokens.lock", on_busy=pytest.fail)
    held.__enter__()

    class Other(Listener):
        def say(self, message):
            super().say(message)
            shutil.copytree(trained / "whole" / "data", tmp_path / "tokens")
            held.__exit__(None, None, None)

    other = Other()
    other.progress = Interrupter(1).progress
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", data=tmp_path / "tokens", reporter=other)
    assert other.notes == [f"{tmp_path / 'tokens'}: waiting for another process that prepares these data …"]


def test_a_full_disk_keeps_the_checkpoint(config, copied):
    resource = pytest.importorskip("resource")
    run = copied("part")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"could not be written .* what was written before is kept"):
            train(config, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    train(config, run)


@pytest.fixture(scope="module")
def killed(config, tmp_path_factory):
    """What processes leave that are killed at the moment before something that they wrote gets its name."""
    folder = tmp_path_factory.mktemp("killed")
    run, replace = folder / "run", os.replace

    def copy_and_replace(source, target):
        state = folder / "left" / os.path.relpath(target, run).replace("/", "-")
        shutil.rmtree(state, ignore_errors=True)  # of the checkpoint before
        shutil.copytree(run, state)
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", copy_and_replace)
        train(config, run)
    return folder / "left"


@pytest.mark.parametrize("writing", ["data", "config.json", "checkpoint.safetensors", "snapshots/step-6", "model"])
def test_what_a_killed_process_left_is_no_part_of_the_run(config, trained, killed, tmp_path, writing):
    run = shutil.copytree(killed / writing.replace("/", "-"), tmp_path / "run")
    assert list(run.rglob("*.partial"))
    train(config, run)
    before, after = contents(trained / "whole"), contents(run)
    assert before.keys() == after.keys()
    differing = {name for name in before if before[name][1] != after[name][1]}
    assert differing <= {"metrics.csv", "checkpoint.safetensors", "model/evaluation.json", "model/SHA256SUMS"}  # rates
    assert not list(run.rglob(".*"))
