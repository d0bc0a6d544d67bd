"""What the numbers of a report do not show."""

import numpy as np
import pytest

from planted.manifests import edit_manifest
from reporting.planted_runs import make_run
from specialize.annotation import Annotation
from specialize.annotators.store import save_annotation
from specialize.errors import AnnotationError
from specialize.reporting.caveats import list_caveats
from specialize.reporting.page import write_report
from specialize.reporting.reading import read_runs
from specialize.reporting.verdict import judge_runs
from specialize.trace import open_trace


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


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"language_source": "detected"}, []),
        ({"language_source": "unknown"}, ["run: the language of the texts was neither given nor detected. They were"]),
        (
            {"language_source": "detected", "documents_without_pipeline": {"de": 3, "it": 1}},
            ["run: documents in languages without a tagger have no parts of speech: 3 in de, 1 in it."],
        ),
    ],
)
def test_languages_that_the_tagger_does_not_know_are_among_the_limitations(tmp_path, facts, expected):
    path = make_run(tmp_path / "run")
    trace = open_trace(path)
    codes = np.zeros(trace.num_tokens, dtype=np.int32)
    save_annotation(trace, Annotation("upos", "token", ("NOUN",), codes, {"pipeline": "en_core_web_sm"} | facts))
    runs = read_runs([path])
    caveats = [each for each in list_caveats(runs, [], judge_runs(runs, [])) if "language" in each]
    assert len(caveats) == len(expected)
    assert all(caveat.startswith(start) for caveat, start in zip(caveats, expected, strict=True))
    page = write_report([path], tmp_path / "report")
    assert "en_core_web_sm" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["cut", "another text", "a folder", "a file for the folder"])
def test_tags_of_which_it_cannot_be_told_how_they_were_made_are_an_error(tmp_path, damage):
    path = make_run(tmp_path / "run")
    trace = open_trace(path)
    codes = np.zeros(trace.num_tokens, dtype=np.int32)
    stored = save_annotation(trace, Annotation("upos", "token", ("NOUN",), codes, {"pipeline": "p"}))
    if damage == "cut":
        stored.write_bytes(stored.read_bytes()[:100])
    elif damage == "another text":
        stored.write_bytes(stored.read_bytes().replace(trace.text_digest.encode(), b"0" * 64))
    else:
        stored.unlink()
        if damage == "a folder":
            stored.mkdir()
        else:
            stored.parent.rmdir()
            stored.parent.write_text("")
    with pytest.raises(AnnotationError, match=r"annotations.*: expected|expected labels of the text"):
        read_runs([path])
