import subprocess
import sys

import pytest

from specialize import annotators


def test_every_public_name_is_there_and_loads_neither_tagger_nor_topic_model():
    code = (
        "import sys; from specialize import annotators; print(*(getattr(annotators, n).__name__ for n in "
        "annotators.__all__)); print({'spacy', 'bertopic', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert names.split() == annotators.__all__  # each name gives the thing of that name
    assert heavy == "set()"


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'annotate_nothing'"):
        annotators.annotate_nothing  # noqa: B018
