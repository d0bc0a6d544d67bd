import numpy as np
import pytest

from specialize.errors import MeasurementError
from specialize.measure import jackknife, mutual_information
from specialize.measure.base.blocks import block_tokens, divide, estimate_blocks


def test_documents_without_tokens_are_passed_over():
    cut = block_tokens([1, 1, 4, 9, 9, 9], num_blocks=2)
    assert cut.documents.tolist() == [0, 0, 1, 2, 2, 2]
    assert sorted(cut.blocks.tolist()) in ([0, 0, 1], [0, 1, 1])
    assert cut.token_blocks.tolist() == cut.blocks[[0, 0, 1, 2, 2, 2]].tolist()
    assert cut.num_blocks == 2
    kept = block_tokens([1, 1, 4, 9, 9, 9], groups=[7, 5, 7, 7, 6, 7, 7, 7, 7, 5], num_blocks=2)
    assert kept.blocks[0] == kept.blocks[2] != kept.blocks[1]
    with pytest.raises(MeasurementError, match="documents must be below 9, got 9"):
        block_tokens([1, 1, 4, 9, 9, 9], groups=range(9))
    assert block_tokens([]).num_blocks == 0


@pytest.mark.parametrize("documents", [[0, 2, 1], [-1, 0]])
def test_documents_must_be_in_order(documents):
    with pytest.raises(MeasurementError, match="non-decreasing numbers from 0"):
        block_tokens(documents)


def test_a_corrected_estimate_is_the_jackknife():
    tables = np.random.default_rng(0).poisson(5.0, (12, 3, 4)).astype(float)
    expected = jackknife(tables, mutual_information)
    got = estimate_blocks(
        tables, lambda t: mutual_information(t)[..., None], unit="bits", n_tokens=7, n_documents=3, corrected=True
    )[0]
    for name in ("value", "ci_low", "ci_high"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), abs=1e-12)
    assert (got.ci_kind, got.n_tokens, got.n_documents) == (expected.ci_kind, 7, 3)


def test_as_counted_or_corrected_with_null_or_chance():
    tables = np.random.default_rng(1).poisson(5.0, (12, 1, 3)).astype(float)

    def statistic(counts):
        return divide(counts[..., 0, :1], counts[..., 0, 1:2])

    null = np.array([[0.1], [9.0], [0.2]])
    got = estimate_blocks(tables, statistic, unit="ratio", n_tokens=1, n_documents=1, null=null)[0]
    assert got.value == tables[:, 0, 0].sum() / tables[:, 0, 1].sum()
    assert got.p_value == pytest.approx(2 / 4)
    assert got.null_mean == pytest.approx(3.1)
    closed = estimate_blocks(tables, statistic, unit="ratio", n_tokens=1, n_documents=1, chance=np.array([0.5]))[0]
    assert closed.null_mean == 0.5
    assert np.isnan(closed.p_value)


def test_dividing_by_nothing():
    np.testing.assert_array_equal(divide(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])
