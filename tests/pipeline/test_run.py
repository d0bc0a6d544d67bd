"""All stages in order: names and settings of every stage are checked before the first begins."""

import pytest

import specialize
from specialize.errors import AnnotationError, MeasurementError


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"embedding": "nope/nope"}, AnnotationError, "sentence-transformers"),
        ({"num_topics": 1}, AnnotationError, "at least 2 topics"),
        ({"language": "german!"}, AnnotationError, "expected a language code"),
        ({"pipeline": "xx_nowhere_sm"}, AnnotationError, "got 'xx_nowhere_sm'; install it"),
        ({"tags": ["upso"]}, AnnotationError, "Did you mean 'upos'"),
        ({"pieces": "middle"}, AnnotationError, "pieces: expected one of"),
        ({"rule": "weights"}, MeasurementError, "rule: expected one of"),
        ({"permutations": 0}, MeasurementError, "permutations: expected a number of at least 1"),
    ],
)
def test_what_a_later_stage_refuses_is_found_before_a_model_is_loaded(tmp_path, monkeypatch, options, error, message):
    def look_up(name):
        raise AnnotationError(f"expected the name or path of a sentence-transformers model, got {name!r}")

    pytest.importorskip("spacy")
    monkeypatch.setattr("specialize.annotators.embedding._is_stored", look_up)
    monkeypatch.setattr("specialize.pipeline.run.trace_corpus", lambda *_, **__: pytest.fail("traced"))
    with pytest.raises(error, match=message):
        specialize.run("model", ["a text"], tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []
