"""Numbers of things are whole, in every stage: a fraction is refused, not rounded or compared in silence."""

import pytest

import specialize
from specialize.errors import SpecializeError

REQUIRED = [
    ("syntax", "skip_positions"),
    ("syntax", "seed"),
    ("syntax", "processes"),
    ("topics", "seed"),
    ("annotate", "skip_positions"),
    ("routing", "seed"),
    ("vocabulary", "min_count"),
    ("vocabulary", "top"),
    ("vocabulary", "permutations"),
    ("vocabulary", "seed"),
    ("probe", "folds"),
    ("probe", "max_tokens"),
    ("trace_corpus", "seed"),
]
OPTIONAL = [  # or None
    ("syntax", "permutations"),
    ("topics", "window"),
    ("topics", "num_topics"),
    ("topics", "min_topic_size"),
    ("trace_corpus", "batch_tokens"),
    ("trace_corpus", "context"),
    ("trace_corpus", "stride"),
    ("trace_corpus", "limit"),
]


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [(*each, value) for each in REQUIRED for value in (2.5, True, "3", None)]
    + [(*each, value) for each in OPTIONAL for value in (2.5, True, "3")],
)
def test_what_is_not_a_whole_number_is_refused(tmp_path, stage, name, value):
    (tmp_path / "config.json").write_text("{}")  # of a checkpoint that is never loaded
    more = {"annotate": ("labels.csv",), "trace_corpus": (["some text"], tmp_path / "run")}.get(stage, ())
    with pytest.raises(SpecializeError, match=rf"^{name}: expected a whole number, got {value!r}$"):
        getattr(specialize, stage)(tmp_path, *more, **{name: value})
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("command", ["syntax", "topics", "routing", "vocabulary", "probe"])
def test_a_negative_seed_is_one_line(call, tmp_path, command):
    code, out, err = call(command, tmp_path, "--seed", -1)
    assert (code, out) == (2, "")
    assert err == "specialize: seed: expected a number of at least 0, got -1\n"
