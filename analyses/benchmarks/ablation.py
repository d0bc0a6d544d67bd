"""The cost of a pass with experts switched off, and of one that restarts at a later layer, as ratios to a plain pass.

    python analyses/benchmarks/ablation.py
    python analyses/benchmarks/ablation.py --layers 16 --width 512

The model is the random one of `capture.py` (OLMoE's architecture, E = 64, k = 8). Each round times every method once,
in an order that changes from round to round; a ratio is the median over rounds of the ratio within a round. A condition
switches off one expert of one layer. What storing costs is paid once a batch, whatever the number of conditions.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from capture import DEVICE, VOCABULARY, build_model, compare
from specialize.capture import Interventions, Restart, restartable
from specialize.choices import InterventionMode
from specialize.manifest import versions, write_json

EXPERT = 7
LENGTH = 256


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
    name = "gpu" if DEVICE == "cuda" else "cpu"
    pd.DataFrame(rows).to_csv(given.results / f"ablation-{name}.csv", index=False, float_format="%.4f")
    model = {"layers": given.layers, "width": given.width, "experts": 64, "top_k": 8, "vocabulary": VOCABULARY}
    facts = {"model": model, "threads": torch.get_num_threads(), "rounds": given.rounds, "versions": versions()}
    write_json(given.results / f"ablation-{name}.json", facts)


if __name__ == "__main__":
    main()
