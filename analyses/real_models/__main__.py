"""Measure the routing of real models that others have recorded, and write the tables of the figures.

    python -m analyses.real_models --data FOLDER -o WORK

FOLDER holds the recordings, see README.md; one that is absent is left out. Run folders and reports are written into
WORK, tables into ``results/``. What is in WORK already is not measured again.
"""

import argparse
from pathlib import Path

from analyses.real_models import gpt_oss, others, recording

from specialize.manifest import versions, write_json

HERE = Path(__file__).parent
PERMUTATIONS, SEED = 100, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of the recordings")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of runs and reports")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the tables")
    parser.add_argument("--only", nargs="*", choices=list(STUDIES), default=list(STUDIES), help="all by default")
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        folder, study = STUDIES[name]
        if not (given.data / folder).exists():
            print(f"{name} is left out: {given.data / folder} is absent")
            continue
        print(f"{name} …", flush=True)
        for table, frame in study(given.data, given.output, permutations=PERMUTATIONS, seed=SEED).items():
            path = given.results / f"{name.replace('-', '_')}_{table}.csv"
            frame.to_csv(path, index=False, float_format="%.6g")
    write_json(given.results / "about.json", {"permutations": PERMUTATIONS, "seed": SEED, "versions": versions()})


STUDIES = {
    "gpt-oss": (recording.FOLDER, gpt_oss.study),
    "deepseek": ("esft", others.study_deepseek),
    "mixtral": ("usage", others.study_mixtral),
    "qwen": ("usage", others.study_qwen),
    "olmoe": ("usage", others.study_olmoe),
    "prompts": ("route_trace", others.study_prompts),
}


if __name__ == "__main__":
    main()
