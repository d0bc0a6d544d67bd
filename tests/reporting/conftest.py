import pytest

from reporting.planted_runs import make_pair
from specialize.reporting import write_report


@pytest.fixture(scope="session")
def pair_runs(tmp_path_factory):
    """Return the folders of a token-level and a sequence-level run with everything measured."""
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def pair(pair_runs):
    """Return the same folders and the page of their report."""
    return pair_runs, write_report(pair_runs, pair_runs[0].parent / "out", formats=("png",))
