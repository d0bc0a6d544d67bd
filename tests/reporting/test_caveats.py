"""What the numbers of a report do not show."""

import pytest

from planted.manifests import edit_manifest
from reporting.planted_runs import make_run
from specialize.reporting.caveats import list_caveats
from specialize.reporting.reading import read_runs
from specialize.reporting.verdict import judge_runs


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        (
            {"missing_weights": {"number": 1, "names": ["model.layers.1.gate\x1b[31m"]}},
            ["run: the checkpoint lacked 1 weight of the model (model.layers.1.gate [31m). They were random, so "],
        ),
        (
            {"missing_weights": {"number": 1, "names": ["a"]}, "unused_weights": {"number": 5, "names": list("bcdef")}},
            ["run: the checkpoint lacked 1 weight of the model (a). ",
             "run: the checkpoint has 5 weights in its layers that the model did not use (b, c, d, …). "],
        ),
    ],
)  # fmt: skip
def test_weights_that_were_missing_or_unused_are_among_the_limitations(tmp_path, facts, expected):
    path = make_run(tmp_path / "run")
    edit_manifest(path, lambda manifest: manifest | {"model": manifest["model"] | facts})
    runs = read_runs([path])
    caveats = [each for each in list_caveats(runs, [], judge_runs(runs, [])) if "checkpoint" in each]
    assert len(caveats) == len(expected)
    assert all(caveat.startswith(start) for caveat, start in zip(caveats, expected, strict=True))
