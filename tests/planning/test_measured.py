"""Extrapolation from short runs: planted costs are found again."""

from dataclasses import replace

import numpy as np
import pytest

from docs.snippets import ROOT
from specialize.planning import constants
from specialize.planning.architecture import read_architecture
from specialize.planning.computed import Job
from specialize.planning.measured import ShortRun, ShortRuns, count_padded, extrapolate, fit_line

SIZES = (1000, 2000, 6000)  # tokens of the samples


@pytest.fixture(scope="module")
def job():
    model = read_architecture(ROOT / "docs" / "how-to" / "configs" / "olmoe-1b-7b.json")
    return Job(
        architecture=model, documents=10_000, tokens=1_000_000, counted="measured", padding=1.1, padding_again=1.0,
        routers=model.routers(), contents=("weights",), batch_tokens=8192, weight_bytes=4, label_sets=1, ablated=0.1,
        conditions=64,
    )  # fmt: skip


def planted(seconds, *, steps=lambda tokens: {}, files=lambda tokens: {}, start=3.0, warming=7.0, conditions=0):
    runs = [
        ShortRun(
            documents=tokens // 100,
            tokens=tokens,
            padded=round(1.3 * tokens),
            seconds=seconds(tokens) + (warming if tokens == SIZES[0] else 0),
            cpu_seconds=2 * (seconds(tokens) + (warming if tokens == SIZES[0] else 0)),
            steps=steps(tokens),
            cpu_steps={title: 2 * value for title, value in steps(tokens).items()},
            host=500_000_000 + 10_000_000 * (tokens // 1000),
            device=0,
            devices=0,
            files=files(tokens),
        )
        for tokens in SIZES
    ]
    return ShortRuns(start, 2 * start, runs, conditions)


def test_time_is_a_line_and_warming_up_is_counted_once(job):
    found = extrapolate("syntax", planted(lambda tokens: 0.5 + 1e-3 * tokens), job)
    assert found.start.value == pytest.approx(3 + 7 + 0.5)
    assert found.work.value == pytest.approx(1e-3 * 1_000_000)
    assert found.cpu.value == pytest.approx(2 * found.seconds.value)
    assert found.seconds.basis == "measured"


def test_forward_passes_grow_with_padded_tokens(job):
    found = extrapolate("trace", planted(lambda tokens: 0.5 + 1.3e-3 * tokens), job)  # 1 ms a padded token
    assert found.work.value == pytest.approx(1e-3 * 1_100_000)


def test_time_that_falls_with_size_does_not_become_negative(job):
    found = extrapolate("syntax", planted(lambda tokens: 5 - 1e-4 * tokens), job)
    assert found.work.value == 0
    assert found.start.value > 0


def test_warming_up_has_one_condition(job):
    """Planted: a condition takes 2 s at any size, the first run 5 s more."""
    short = planted(lambda tokens: 32.0, steps=lambda tokens: {"switching off experts": 32.0}, conditions=16, warming=0)
    first = replace(short.runs[0], seconds=2.0 + 5, steps={"switching off experts": 2.0})
    found = extrapolate("ablate", replace(short, runs=[first, *short.runs[1:]]), job)
    assert found.seconds.value == pytest.approx(3 + 5 + 64 * 2.0)


def test_conditions_are_scaled_and_the_rest_of_an_ablation_is_not(job):
    steps = {"saliency": 1e-4, "switching off experts": 16 * 1e-4, "measuring": 16 * 1e-5}

    def cost(tokens):
        return {title: each * 1.3 * tokens for title, each in steps.items()}

    short = planted(lambda tokens: sum(cost(tokens).values()), steps=cost, conditions=16)
    found = extrapolate("ablate", short, job)
    tokens = 0.1 * 1_000_000
    assert found.work.value == pytest.approx(tokens * (1e-4 + 64 * 1.1e-4), rel=1e-6)


def test_bytes_grow_by_what_they_hold(job):
    def traced(tokens):
        return {
            "trace/documents.arrow": 100 + 2 * tokens,
            "trace/experts-0.arrow": 6 * tokens,
            "trace/headers.arrow": 700,
            "manifest.json": 5000,
        }

    found = extrapolate("trace", planted(lambda tokens: 1.0, files=traced), job).disk
    assert {name: amount.value for name, amount in found.items()} == pytest.approx(
        {"documents": 2_000_100, "experts": 6_000_000, "manifest": 5000, "headers": 700 * (5 + 7)}
    )  # five shards have 131,072 tokens, the next ones as many each

    def of_topics(tokens):  # rows for each topic, whose number grows with the root of the documents
        power = constants.TOPICS_POWER
        return {
            "topics/bertopic.csv": round(1e6 * (tokens / 1000) ** power),
            "topics/gold.csv": 300,
            "annotations/embeddings/e.npz": 15 * tokens,
        }

    found = extrapolate("topics", planted(lambda tokens: 1.0, files=of_topics), job).disk
    most = 5000 / 10  # documents from which the number of topics is estimated, by those of the first sample
    assert found["results by topic"].value == pytest.approx(1e6 * most**constants.TOPICS_POWER, rel=1e-3)
    assert found["results by topic"].basis == "assumed"
    assert found["results"].value == 300
    assert found["embeddings"].value == pytest.approx(15_000_000)


def test_bytes_of_an_ablation_grow_with_its_conditions_but_for_the_baseline(job):
    def ablated(tokens):
        return {
            "ablation/changes/a.arrow": 16 * 2 * tokens,
            "ablation/baseline.arrow": 4 * tokens,
            "ablation/upos.csv": 16 * 500,
            "ablation/next_bertopic.csv": round(16 * 100 * tokens**constants.TOPICS_POWER),
        }

    found = extrapolate("ablate", planted(lambda tokens: 1.0, files=ablated, conditions=16), job).disk
    assert {name: amount.value for name, amount in found.items()} == pytest.approx(
        {
            "changes": 64 * 2 * 100_000,
            "with all experts": 4 * 100_000,
            "results": 64 * 500,
            "results by topic": 64 * 100 * (100 * 5000) ** constants.TOPICS_POWER,  # of 100 tokens a document
        },
        rel=1e-3,
    )


def test_memory_starts_from_the_first_run_of_the_process(job):
    found = extrapolate("trace", planted(lambda tokens: 1.0), job)
    shard = 131_072 * 16 * (16 + 16)
    assert found.host.value == pytest.approx(510e6 + 3 * shard, rel=0.05)


@pytest.mark.parametrize(
    ("points", "fixed", "slope"),
    [
        ([(10, 7.0)], 0, 0.7),
        ([(10, 7.0), (20, 9.0)], 5, 0.2),
        ([(10, 1.0), (20, 9.0)], 0, 0.45),  # not below zero at the origin
        ([(10, 9.0), (20, 7.0)], 7, 0),
        ([(20, 7.0), (20, 8.0)], 0, 0.4),
    ],
)
def test_lines(points, fixed, slope):
    found = fit_line(points)
    assert (found.fixed, found.slope) == pytest.approx((fixed, slope))


def test_padding_is_that_of_batches_sorted_by_length():
    same = np.full(50, 100)
    assert count_padded(same, 1_000_000, batch_tokens=1000) == pytest.approx(1_000_000)
    mixed = np.array([10, 1000])  # a batch of all ten windows is padded to the longest
    assert count_padded(mixed, 5050, batch_tokens=10**6, largest=5050) > 7500
    assert count_padded(mixed, 10**7, batch_tokens=2000) == pytest.approx(10**7, rel=0.02)
