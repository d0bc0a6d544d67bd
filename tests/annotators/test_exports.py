import subprocess
import sys

import pytest

from specialize import annotators


def test_every_public_name_is_there_and_loads_neither_tagger_nor_topic_model():
    code = (
        "import sys; from specialize import annotators; names = [getattr(annotators, n) for n in annotators.__all__];"
        "assert len(names) == 11; print({'spacy', 'bertopic', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'annotate_nothing'"):
        annotators.annotate_nothing  # noqa: B018
