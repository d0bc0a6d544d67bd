"""The cost of a pass with experts switched off, and of one that restarts at a later layer, as ratios to a plain pass.

    python analyses/benchmarks/ablation.py
    python analyses/benchmarks/ablation.py --layers 16 --width 512

The model is the random one of `capture.py` (OLMoE's architecture, E = 64, k = 8). Each round times every method once,
in an order that changes from round to round; a ratio is the median over rounds of the ratio within a round. A condition
switches off one expert of one layer. What storing costs is paid once a batch, whatever the number of conditions.

The second part measures what `specialize ablate` does: the time of a group of conditions on two batches, their number
of windows as above, with the losses and with storing, divided by the number of conditions, and by that of a plain pass
of the model over the same batches.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch

from capture import DEVICE, VOCABULARY, build_model, compare
from specialize.capture import Checkpoint, Interventions, Restart, restartable
from specialize.capture.ablation import AblationRunner
from specialize.capture.batches import pad_windows
from specialize.choices import InterventionMode
from specialize.manifest import versions, write_json
from specialize.trace.ablation import Condition
from specialize.tracing.windows import Window

EXPERT = 7
LENGTH = 256
CONDITION = "specialize ablate, a condition"
GROUP = 16  # conditions that are run together, half as many as specialize ablate would


def make_ways(layers: int, width: int, batch: int) -> dict[str, Callable[[], object]]:
    model = build_model(layers=layers, width=width)
    inputs = {"input_ids": torch.randint(0, VOCABULARY, (batch, LENGTH), device=DEVICE), "use_cache": False}
    interventions = Interventions(model)
    middle = layers // 2
    assert restartable(model, inputs, interventions.points)
    restart = Restart(model, interventions.points)
    with restart.storing(), torch.inference_mode():
        model(**inputs)
    other = Restart(model, interventions.points)

    @torch.inference_mode()
    def plain() -> object:
        return model(**inputs)

    def applied(mode: InterventionMode) -> Callable[[], object]:
        def run() -> object:
            with interventions.applied([(middle, EXPERT)], mode=mode):
                return plain()

        return run

    def restarted(layer: int) -> Callable[[], object]:
        def run() -> object:
            with restart.at(layer), interventions.applied([(layer, EXPERT)]):
                return plain()

        return run

    def storing() -> object:
        with other.storing():
            return plain()

    ways: dict[str, Callable[[], object]] = {"plain": plain, "plain again": plain}
    ways |= {mode: applied(mode) for mode in get_args(InterventionMode)}
    ways |= {"storing for all layers": storing}
    return ways | {f"drop, restarted at layer {layer} of {layers}": restarted(layer) for layer in range(layers)}


def make_runner_ways(layers: int, width: int, batch: int) -> dict[str, Callable[[], object]]:
    model = build_model(layers=layers, width=width)
    rng = np.random.default_rng(0)
    spans = np.zeros((LENGTH, 2), np.int32)
    windows = [
        Window(number, rng.integers(0, VOCABULARY, LENGTH).astype(np.int32), 0, spans) for number in range(2 * batch)
    ]
    runner = AblationRunner(Checkpoint("random", model, None, {}), windows, batch_tokens=batch * LENGTH)
    baseline = runner.run_baseline(lambda tokens: None).losses
    names = [point.spec.name for point in runner.interventions.points]
    passes = [pad_windows(windows[first : first + batch]) for first in (0, batch)]
    assert runner.num_batches == len(passes)

    @torch.inference_mode()
    def plain() -> None:
        for ids, mask in passes:
            model(input_ids=ids.to(DEVICE), attention_mask=mask.to(DEVICE), use_cache=False)

    def conditions(layer: int, *, restart: bool) -> Callable[[], object]:
        group = [Condition(((names[layer], expert),)) for expert in range(GROUP)]

        def run() -> object:
            runner.can_restart = restart
            return runner.run_conditions(group, baseline, lambda tokens: None)

        return run

    assert runner.can_restart
    ways: dict[str, Callable[[], object]] = {"plain": plain, "plain again": plain}
    ways |= {f"{CONDITION}, no restart": conditions(layers // 2, restart=False)}
    places = range(0, layers, max(1, layers // 4))
    return ways | {f"{CONDITION}, restart at layer {at} of {layers}": conditions(at, restart=True) for at in places}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time  # other processes do not matter to the latter
    rows = []
    ways = make_ways(given.layers, given.width, given.batch)
    for row in compare(ways, to="plain", rounds=given.rounds, clock=clock):
        rows.append({"what": f"forward pass, {given.batch} x {LENGTH} tokens"} | row)
        print(f"{row['way']:<40} {row['ratio']:.3f}", flush=True)
    ways = make_runner_ways(given.layers, given.width, given.batch)
    for row in compare(ways, to="plain", rounds=max(1, given.rounds // 3), clock=clock):
        share = 1 / GROUP if str(row["way"]).startswith(CONDITION) else 1
        numbers = {key: value * share for key, value in row.items() if isinstance(value, float)}
        rows.append({"what": f"two batches, {given.batch} x {LENGTH} tokens each"} | row | numbers)
        print(f"{row['way']:<60} {numbers['ratio']:.3f}", flush=True)
    name = "gpu" if DEVICE == "cuda" else "cpu"
    pd.DataFrame(rows).to_csv(given.results / f"ablation-{name}.csv", index=False, float_format="%.4f")
    model = {"layers": given.layers, "width": given.width, "experts": 64, "top_k": 8, "vocabulary": VOCABULARY}
    facts = {"model": model, "threads": torch.get_num_threads(), "rounds": given.rounds, "versions": versions()}
    write_json(given.results / f"ablation-{name}.json", facts)


if __name__ == "__main__":
    main()
