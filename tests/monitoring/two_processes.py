"""Trains a model in one of several processes with DistributedDataParallel, and watches it.

python two_processes.py RANK PROCESSES STORE SAMPLE RUN
"""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import specialize
from monitoring.conftest import build_model
from specialize.errors import MeasurementError, TraceError


def train_watched(model: torch.nn.Module, sample: str, run: str) -> list[bool]:
    """Train for two steps; return after which of them this process received numbers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ids = torch.randint(0, 150, (4, 16), generator=torch.Generator().manual_seed(0))
    received = []
    with specialize.monitor(model, sample, run, every=1, permutations=3, batch_tokens=200) as monitor:
        for _ in range(2):  # every process has the same batch, so that their number does not matter
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            received.append(monitor.step() is not None)
    return received


def main() -> None:
    rank, processes, store, sample, run = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(processes))
    model = DistributedDataParallel(build_model(dropout=0.0))
    assert train_watched(model, sample, run) == 2 * [rank == "0"]
    try:
        train_watched(model, sample, run)  # from step 0 again: what the first process refuses, no process waits for
    except (MeasurementError, TraceError) as error:
        assert ("snapshots up to step 2" in str(error)) == (rank == "0")  # noqa: PT017
    else:
        raise AssertionError("expected an error in every process")
    # a clean exit can wait forever: gloo's thread, which is joined with the interpreter locked, may ask for that lock
    os._exit(0)


if __name__ == "__main__":
    main()
