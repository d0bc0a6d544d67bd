"""Two processes with DistributedDataParallel give the numbers of one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import specialize
from monitoring.conftest import build_model
from monitoring.two_processes import train_watched
from specialize.measure.results.curves import read_curves

HERE = Path(__file__).parent


def start(rank, processes, sample, folder):
    command = [sys.executable, HERE / "two_processes.py", rank, processes, folder / f"store-{processes}", sample]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*map(str, command), str(folder / f"run-{processes}")], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(sample, tmp_path, one_thread):
    started = [start(rank, 2, sample, tmp_path) for rank in range(2)]
    train_watched(build_model(dropout=0.0), sample, tmp_path / "run-1")
    for process in started:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    one, two = (read_curves(tmp_path / f"run-{processes}") for processes in (1, 2))
    assert sorted(one["step"].unique()) == [0, 1, 2]
    pd.testing.assert_frame_equal(one.assign(run=""), two.assign(run=""))
    first, second = (specialize.open_trace(tmp_path / f"run-{processes}") for processes in (1, 2))
    for layer in range(2):
        np.testing.assert_array_equal(first.experts(layer), second.experts(layer))
