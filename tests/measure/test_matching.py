import numpy as np
import pytest

from planted.stacks import StackedRun, StackRouter
from planted.streams import PlantedRun
from specialize.errors import MeasurementError
from specialize.measure.runs.matching import check_same_corpus, pair_routers, same_tokens

DOCUMENTS = np.array([0, 0, 1], dtype=np.int32)
EXPERTS = np.zeros((3, 1), dtype=np.int16)


def run(**options):
    return PlantedRun(options.pop("documents", DOCUMENTS), {}, num_experts=2, **options)


def stacked(*routers):
    return StackedRun(DOCUMENTS, [(router, EXPERTS) for router in routers])


def router(layer, name, **options):
    return StackRouter(layer, name, 2, 1, **options)


def pairs(*traces):
    return [(routing, one.name, other.name) for routing, one, other in pair_routers(*traces)]


def test_one_digest_is_one_corpus_whatever_the_tokens():
    check_same_corpus(run(), run(documents=np.array([0, 1, 1, 1], dtype=np.int32)))


def test_without_a_digest_document_ids_decide():
    check_same_corpus(run(digest=None), run())
    with pytest.raises(MeasurementError, match="got different documents"):
        check_same_corpus(run(digest=None), run(ids=["d0", "another"]))


def test_another_digest_passes_only_with_the_same_ids_and_tokens():
    """Label columns are in the digest: a corpus that gained one is still of the same text."""
    check_same_corpus(run(), run(digest="with labels"))
    for other in (
        run(digest="other", token_ids=np.array([0, 0, 7], dtype=np.int32)),
        run(digest="other", ids=["d0", "another"]),
    ):
        with pytest.raises(MeasurementError, match="got different documents"):
            check_same_corpus(run(), other)


def test_tokens_are_the_same_by_document_and_id():
    assert same_tokens(run(), run())
    assert not same_tokens(run(), run(documents=np.array([0, 1, 1], dtype=np.int32)))
    assert not same_tokens(run(), run(documents=np.array([0, 0, 0, 1], dtype=np.int32)))
    assert not same_tokens(run(), run(token_ids=np.array([0, 1, 0], dtype=np.int32)))
    assert same_tokens(run(), run(token_ids=np.array([-1, 0, -1], dtype=np.int32)))  # of some the id is not known


def test_routers_are_paired_by_stack_number_and_order_not_by_name():
    one = stacked(router(0, "enc", stack="encoder"), router(0, "a.up"), router(0, "a.down"), router(1, "a.only"))
    other = stacked(router(0, "b.first"), router(0, "b.second"), router(0, "b.enc", stack="encoder"), router(2, "b"))
    assert pairs(one, other) == [
        ("learned", "enc", "b.enc"),
        ("learned", "a.up", "b.first"),
        ("learned", "a.down", "b.second"),
    ]


def test_random_routers_are_paired_where_both_traces_have_them():
    one = stacked(router(0, "a"), router(0, "a", routing="random"))
    other = stacked(router(0, "b"), router(0, "b", routing="random"))
    assert pairs(one, other) == [("learned", "a", "b"), ("random", "a", "b")]
    assert pairs(one, stacked(router(0, "b"))) == [("learned", "a", "b")]


def test_in_one_trace_each_router_has_its_own_control():
    random_routers = [router(0, name, routing="random") for name in ("down", "up")]
    own = stacked(router(0, "up"), router(0, "down"), router(1, "none"), *random_routers)
    assert pairs(own, None) == [("learned − random", "up", "up"), ("learned − random", "down", "down")]


def test_random_routers_beside_no_router_are_none():
    with pytest.raises(MeasurementError, match="expected random routers to compare with, got none"):
        pairs(stacked(router(0, "a"), router(7, "b", routing="random")), None)
