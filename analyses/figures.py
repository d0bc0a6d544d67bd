"""Draw every figure of figures/, each with its data (CSV) and its provenance (JSON).

    python -m analyses.figures -o figures [--demo demo-report]

The figures of the studies are drawn from their tables, in seconds; those of the demo from its runs, given with --demo.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from analyses.benchmarks import cost
from analyses.calibration import draw as calibration
from analyses.design_choices import figures as design_choices
from analyses.drawing import FORMATS, StudyFigure, draw_planned
from analyses.function import figures as function
from analyses.real_models import figures as real_models

import specialize

COMMAND = "make figures"
HERE = Path(__file__).parent
LONG_FIGURES = ("design-long-curves", "design-long-progress")  # the others show little of so few models
DEMO_RUNS = ("token", "sequence")
DEMO_FIGURES = (
    *("plane-gold-topic", "profile-upos", "profile-gold-topic", "heatmap-1-token-upos", "forest-1-token-bertopic"),
    *("tokens-2-sequence", "load-1-token", "coactivation-1-token", "flow-1-token", "prediction-1-token"),
    *("repeats-1-token-gold-topic", "overlap-1-token-gold-topic"),
)


def plan_studies() -> Iterator[StudyFigure]:
    """Yield the figures of all studies."""
    yield from cost.plan_figures(HERE / "benchmarks" / "results")
    yield from calibration.plan_figures(HERE / "calibration" / "results")
    yield from real_models.plan_figures(HERE / "real_models" / "results")
    yield from function.plan_figures(HERE / "function" / "results")
    for preset, stem in (("cpu", "design"), ("gpu", "design-gpu"), ("long", "design-long")):
        results = HERE / "design_choices" / "results" / preset
        for figure in design_choices.plan_figures(results, preset=preset, stem=stem):
            if preset != "long" or figure.name in LONG_FIGURES:
                yield figure


def draw_demo(demo: Path, folder: Path) -> list[Path]:
    """Draw the figures of the runs in the folder `demo`, made by `specialize demo`; return the paths of the images."""
    runs = [demo / name for name in DEMO_RUNS]
    return specialize.figures(runs, folder, only=DEMO_FIGURES, formats=FORMATS, command=COMMAND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="folder made by `specialize demo`")
    given = parser.parse_args()
    drawn = draw_planned(plan_studies(), given.output, command=COMMAND)
    if given.demo:
        drawn += draw_demo(given.demo, given.output)
    for path in drawn:
        print(path)


if __name__ == "__main__":
    main()
