"""Numbers that come from the configuration, the size of the corpus and the data sheet of a device."""

import json
import random

import pytest

import specialize
from docs.snippets import ROOT
from specialize.errors import PlanError
from specialize.planning import constants
from specialize.planning.plan import Amount, StagePlan, add
from specialize.tracing.plan import bytes_per_token

CONFIGS = ROOT / "docs" / "how-to" / "configs"
OLMOE = CONFIGS / "olmoe-1b-7b.json"
SIZE = {"tokens": 10**9, "documents": 10**6}


@pytest.fixture(scope="module")
def olmoe():
    return specialize.plan(OLMOE, **SIZE, hardware="h100", hours=1, price_per_hour=2)


def test_time_of_forward_passes(olmoe):
    trace = olmoe.stage("trace")
    active = olmoe.architecture.active_parameters
    assert trace.work.value == pytest.approx(2 * active * 1e9 / (989e12 * constants.UTILISATION))
    assert trace.work.basis == "assumed"
    own = specialize.plan(OLMOE, **SIZE, tflops=100, utilisation=0.5).stage("trace")
    assert own.work.value == pytest.approx(2 * active * 1e9 / 50e12)


def test_bytes_are_those_that_a_trace_announces(olmoe):
    expected = bytes_per_token(olmoe.architecture.routers(), ["weights"])
    found = olmoe.stage("trace").disk
    assert {name: amount.value for name, amount in found.items()} == {
        name: pytest.approx(size * 1e9) for name, size in expected.items()
    }
    ids = specialize.plan(OLMOE, **SIZE, hardware="h100", weights=False).stage("trace")
    assert set(ids.disk) == {"documents", "tokens", "experts"}
    more = specialize.plan(OLMOE, **SIZE, hardware="h100", control="random-router", control_draws=3).stage("trace")
    assert more.disk["experts"].value == pytest.approx(4 * found["experts"].value)


def test_a_large_model_needs_several_devices_that_add_no_speed():
    found = specialize.plan(CONFIGS / "deepseek-v3.json", **SIZE, hardware="h200", stages=["trace"])
    trace = found.stage("trace")
    assert trace.device.value > 2 * 671e9
    assert trace.devices == -(-trace.device.value // (0.9 * 141e9))
    assert trace.device_hours.value == pytest.approx(trace.devices * trace.seconds.value / 3600)


def test_workers_end_in_time(olmoe):
    for stage in olmoe.stages:
        assert stage.start.value + stage.work.value / stage.workers <= 3600
        assert stage.workers == 1 or stage.start.value + stage.work.value / (stage.workers - 1) > 3600
        assert stage.device_hours.value == pytest.approx(
            stage.devices * (stage.workers * stage.start.value + stage.work.value) / 3600
        )
    assert olmoe.cost.value == pytest.approx(2 * olmoe.device_hours.value)


def test_a_wanted_time_below_the_start_of_a_worker_is_said():
    found = specialize.plan(OLMOE, **SIZE, hardware="h100", hours=0.001)
    assert found.stage("trace").workers is None
    assert any("no number of workers is enough for trace" in line for line in found.assumptions)


def test_what_is_unknown_is_not_a_number():
    notes = []

    class Notes:
        say = staticmethod(notes.append)

    found = specialize.plan(OLMOE, **SIZE, reporter=Notes())
    assert found.stage("trace").seconds is None
    assert found.stage("syntax").seconds is not None
    assert (found.seconds, found.device_hours, found.cost) == (None, None, None)
    assert any("--tflops" in note for note in notes)
    json.dumps(found.as_dict(), allow_nan=False)


def test_measuring_holds_parts_and_tagging_all_tokens():
    peaks = [
        specialize.plan(OLMOE, tokens=10**power, documents=10**6, hardware="h100", stages=["trace", "syntax"])
        for power in (8, 9)
    ]
    traced, tagged = ([each.stage(name).host.value for each in peaks] for name in ("trace", "syntax"))
    assert traced[0] == traced[1]
    assert tagged[1] - tagged[0] == pytest.approx(9e8 * (45 + constants.CHARACTERS))


def test_a_corpus_without_a_tokenizer_is_counted_by_its_characters(tmp_path):
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["stone", "river"], k=draw.randrange(20, 60))) for _ in range(300)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": text, "kind": "ab"[len(text) % 2]}) for text in texts))
    found = specialize.plan(OLMOE, corpus, hardware="h100")
    assert found.documents.value == 300
    assert found.tokens.value == pytest.approx(sum(map(len, texts)) / constants.CHARACTERS, rel=1e-3)
    assert found.tokens.basis == "assumed"
    cut = specialize.plan(OLMOE, corpus, hardware="h100", max_tokens=5)
    assert cut.tokens.value == 1500


def test_fewer_conditions_and_documents_of_an_ablation():
    whole, part = (
        specialize.plan(OLMOE, **SIZE, hardware="h100", stages="ablate", **how).stage("ablate")
        for how in ({}, {"ablated_documents": 1000, "conditions": 100})
    )
    assert part.disk["changes"].value == pytest.approx(1e6 * (4 + 100 * constants.CHANGE))
    assert whole.work.value / part.work.value == pytest.approx(1000 * 1024 / 100, rel=0.1)


def test_a_sum_is_known_as_well_as_its_weakest_part():
    measured, computed, assumed = (Amount(1.0, basis) for basis in ("measured", "computed", "assumed"))
    assert add([measured, computed]).basis == "computed"
    assert (measured + assumed + computed) == Amount(3.0, "assumed")
    stage = StagePlan("trace", measured, computed, None, None, {"a": measured, "b": assumed})
    assert (stage.seconds.basis, stage.bytes.basis) == ("computed", "assumed")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected a corpus, or its numbers of tokens and documents, got no tokens and no documents"),
        ({"tokens": 10}, "got no documents"),
        ({"tokens": 5, "documents": 10}, "at least one for each of the 10 documents"),
        (SIZE | {"tokens": 2.5}, "tokens: expected a whole number"),
        (SIZE | {"price_per_hour": -1}, "price_per_hour: expected a price of at least 0, got -1"),
        (SIZE | {"hours": 0}, "hours: expected a positive number, got 0"),
        (SIZE | {"tflops": float("nan")}, "tflops: expected a positive number"),
        (SIZE | {"utilisation": 30}, "utilisation: expected a share above 0, at most 1, got 30"),
        (SIZE | {"hardware": "h10"}, "Did you mean 'h100'"),
        (SIZE | {"stages": ["tracing"]}, "Did you mean 'trace'"),
        (SIZE | {"measure": True}, "measure: expected a corpus"),
    ],
)
def test_errors(given, message):
    with pytest.raises(PlanError) as error:
        specialize.plan(OLMOE, **given)
    assert message in str(error.value)
