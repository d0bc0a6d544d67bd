"""Switch experts of the demo's checkpoints off, and write what becomes of the loss.

    python -m analyses.function --demo demo-report -o WORK

The runs of `make demo` are copied into WORK, where conditions that are there already are not run again; tables go to
``results/``.
"""

import argparse
import shutil
from pathlib import Path
from typing import get_args

import pandas as pd
from analyses.reporting import LineReporter

import specialize
from specialize.choices import InterventionMode
from specialize.demo import CHECKPOINTS, checkpoint_path
from specialize.manifest import versions, write_json
from specialize.trace.ablation import AblationStore

HERE = Path(__file__).parent
DOCUMENTS, RANDOM, PERMUTATIONS, SEED = 50, 20, 200, 0
LABELS = ("upos", "gold_topic")
RANKINGS = ("saliency", "load", "lift", "random")
SINGLE = ("effect", "exposure", "per_use_effect", "indirect_effect", "load", "saliency", "output_norm")
AGREEMENT = ("per_use_agreement", "total_agreement", "corrected_per_use_agreement", "corrected_total_agreement")
SETS = ("effect_selectivity", "effect_selectivity_above_random_sets")
COLUMNS = ("value", "ci_low", "ci_high", "ci_kind", "null_mean", "null_low", "null_high", "p_value", "n_permutations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo-report"), help="folder of `make demo`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the tables")
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    frames = [
        switch_off(name, given.demo / name, given.output / name, mode)
        for name in CHECKPOINTS
        for mode in get_args(InterventionMode)
    ]
    rows = pd.concat(frames, ignore_index=True)
    for table, frame in make_tables(rows).items():
        frame.to_csv(given.results / f"{table}.csv", index=False, float_format="%.6g")
    tokens = {name: len(AblationStore(given.output / name).baseline()) for name in CHECKPOINTS}
    about = {
        "documents": DOCUMENTS,
        "tokens": tokens,
        "random_sets": RANDOM,
        "permutations": PERMUTATIONS,
        "seed": SEED,
    }
    write_json(given.results / "about.json", about | {"versions": versions()})


def switch_off(name: str, demo: Path, run: Path, mode: InterventionMode) -> pd.DataFrame:
    """Switch off each expert of a checkpoint and, in mode drop, the sets that lead labels and those of rankings."""
    if not run.is_dir():
        shutil.copytree(demo, run, ignore=shutil.ignore_patterns("ablation"))
    whole = mode == "drop"
    frame = specialize.ablate(
        checkpoint_path(name),
        run,
        documents=DOCUMENTS,
        labels=LABELS if whole else None,
        random=RANDOM,
        rankings=RANKINGS if whole else None,
        mode=mode,
        seed=SEED,
        permutations=PERMUTATIONS,
        reporter=LineReporter(),
    )
    return frame.assign(checkpoint=name, mode=mode)


def make_tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of single experts, agreement, leading sets and removals."""
    single = rows[rows["expert"].notna() & rows["label"].isna() & rows["metric"].isin(SINGLE)]
    agreement = rows[rows["metric"].isin(AGREEMENT)]
    # sets of one expert, and with it its random sets, are there in every mode
    sets = rows[rows["expert"].isna() & rows["metric"].isin(SETS) & (rows["mode"] == "drop")]
    removals = rows[rows["metric"] == "removal_effect"]
    which = ["checkpoint", "mode"]
    return {
        "singles": single[[*which, "layer", "expert", "metric", *COLUMNS[:4]]],
        "agreement": agreement[[*which, "label_set", "label", "metric", "layer", *COLUMNS]],
        "sets": sets[[*which, "label_set", "label", "metric", *COLUMNS]],
        "removals": removals[[*which, "label_set", "label", *COLUMNS[:4]]],
    }


if __name__ == "__main__":
    main()
