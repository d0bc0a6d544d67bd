"""What becomes of the curves: the report, the figures, and the trainings of this package."""

import pytest
import torch
from safetensors.torch import load_file

import specialize
from monitoring.conftest import train
from specialize.measure.results.curves import read_curves, read_snapshots
from specialize.models.settings import read_train_config
from tiny_training import Interrupter, write_training

FIGURES = ("parity", "theme", "saturation", "saturation-to-previous", "load-entropy", "dead-experts")


def test_reports_and_figures_show_the_curves(model, sample, tmp_path):
    run = tmp_path / "watched"
    with specialize.monitor(model, sample, run, every=2, permutations=3) as monitor:
        train(model, 4, monitor=monitor)
    page = specialize.report(run, tmp_path / "report", formats=["png"]).read_text()
    assert '<section id="training">' in page
    for name in FIGURES:
        assert f'id="training-{name}"' in page
    unwatched = specialize.report(sample, tmp_path / "other", formats=["png"]).read_text()
    assert 'id="training"' not in unwatched


@pytest.fixture
def training(tmp_path):
    path = write_training(tmp_path)
    text = path.read_text().replace("steps = 30", "steps = 12\nsnapshots = [3, 6]")
    path.write_text(text.replace("checkpoint_every = 10", "checkpoint_every = 5"))
    (tmp_path / "heldout.jsonl").write_text(
        "".join(
            f'{{"id": "h{number}", "text": "alpha beta gamma delta river stone", "side": "{number % 2}"}}\n'
            for number in range(40)
        )
    )
    return path


def test_trainings_of_this_package_are_watched(training, tmp_path, one_thread, call):
    config = read_train_config(training)
    specialize.train(config, tmp_path / "plain")
    with pytest.raises(KeyboardInterrupt):
        specialize.train(config, tmp_path / "run", sample=tmp_path / "heldout.jsonl", reporter=Interrupter(8))
    code, _, error = call("train", training, "-o", tmp_path / "run", "--sample", tmp_path / "heldout.jsonl")
    assert code == 0, error
    plain, run = (load_file(tmp_path / name / "model/model.safetensors") for name in ("plain", "run"))
    assert all(torch.equal(plain[name], run[name]) for name in plain)
    run = tmp_path / "run" / "monitor"
    assert read_snapshots(run).steps == [0, 3, 6, 12]  # those of the settings, not where it was resumed
    assert set(read_curves(run)["label_set"].dropna()) == {"side"}

    code, _, error = call("train", training, "-o", tmp_path / "other", "--sample", training, "--every", 5)
    assert code == 2
    assert error.splitlines()[-1].startswith("specialize: ")
    assert not (tmp_path / "other").exists()
