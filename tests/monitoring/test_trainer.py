"""The callback in transformers.Trainer: gradient accumulation, checkpointing, resuming and logging."""

import warnings

import pytest
import torch
from transformers import OlmoeForCausalLM, Trainer, TrainerCallback, TrainingArguments

import specialize
from monitoring.conftest import build_model
from specialize.errors import ConfigError
from specialize.measure.results.curves import read_curves, read_snapshots

PREFIX = "specialize/"


class Ids(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        ids = torch.randint(0, 20, (16,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


class Heard(TrainerCallback):
    """Receives logs as the integrations with TensorBoard and others do, before callbacks that are added later."""

    def __init__(self):
        self.heard = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.heard.append((state.global_step, dict(logs)))


def make_trainer(world, folder, *, heard=None, model=None, **settings):
    arguments = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "activation_checkpointing": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
        "dataloader_pin_memory": False,
    }
    model = model or OlmoeForCausalLM.from_pretrained(world / "model", attention_dropout=0.1)
    callbacks = [heard] if heard else []
    return Trainer(model, TrainingArguments(folder, **(arguments | settings)), train_dataset=Ids(), callbacks=callbacks)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_the_trainer_trains_as_without_it(world, sample, tmp_path, one_thread):
    plain = make_trainer(world, tmp_path / "plain")
    plain.train()
    heard = Heard()
    watched = make_trainer(world, tmp_path / "watched", heard=heard)
    callback = specialize.SpecializationCallback(sample, tmp_path / "run", every=2, permutations=3)
    callback.add_to(watched)
    watched.train()
    assert len(losses(plain)) == 4
    assert losses(watched) == losses(plain)
    pairs = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)

    assert read_snapshots(tmp_path / "run").steps == [0, 2, 4]  # optimizer steps, of two batches each
    logged = [(step, logs) for step, logs in heard.heard if any(name.startswith(PREFIX) for name in logs)]
    assert [step for step, _ in logged] == [0, 2, 4]
    curves = read_curves(tmp_path / "run")
    own = curves[(curves["step"] == 2) & (curves["metric"] == "dead_experts")]["value"].sum()
    assert logged[1][1]["specialize/dead_experts/sum"] == own
    tokens = specialize.open_trace(tmp_path / "run").num_tokens
    assert set(curves[curves["metric"] == "load"]["n_tokens"]) == {tokens}  # recomputed passes are not counted


def test_a_training_that_is_resumed_goes_on(world, sample, tmp_path, one_thread):
    how = {"every": 1, "permutations": 0}
    settings = {"save_strategy": "steps", "save_steps": 2, "activation_checkpointing": False}
    first = make_trainer(world, tmp_path / "out", model=build_model(), **settings)
    specialize.SpecializationCallback(sample, tmp_path / "run", **how).add_to(first)
    first.train()
    before = read_curves(tmp_path / "run")
    again = make_trainer(world, tmp_path / "out", model=build_model(), **settings)
    specialize.SpecializationCallback(sample, tmp_path / "run", **how).add_to(again)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert read_snapshots(tmp_path / "run").steps == [0, 1, 2, 3, 4]
    after = read_curves(tmp_path / "run")
    assert (before["value"] - after["value"]).abs().max() == 0


def test_a_callback_without_its_trainer_says_what_is_missing(world, sample, tmp_path, one_thread):
    trainer = make_trainer(world, tmp_path / "out", max_steps=1)
    trainer.add_callback(specialize.SpecializationCallback(sample, tmp_path / "run", permutations=0))
    with pytest.warns(UserWarning, match=r"call add_to\(trainer\)"):
        trainer.train()
    assert read_snapshots(tmp_path / "run").steps == [0, 1]


def test_unknown_options_are_named():
    with pytest.raises(ConfigError, match=r"got 'evry'\. Did you mean 'every'\?"):
        specialize.SpecializationCallback("runs/held-out", "runs/training", evry=10)
    with warnings.catch_warnings(), pytest.raises(ConfigError, match="got 'first_step'"):
        specialize.SpecializationCallback("runs/held-out", "runs/training", first_step=10)
