"""Two Ray workers leave what one process leaves, also where one of them is killed."""

import json
import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

pytest.importorskip("ray")

import specialize
from listening import Listener
from specialize import manifest as manifests
from specialize.errors import CaptureError, CorpusError, EngineError
from specialize.events import SILENT
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_workers
from specialize.scale.worker import REPLACED
from specialize.trace.manifest import read_manifest
from specialize.trace.verified import forget
from tiny_olmoe import save_olmoe, train_unigram

WORKERS = {"engine": "ray", "workers": 2}
WORDS = {"rivers": ("water", "stone", "stream", "bank"), "music": ("violin", "band", "song", "tune")}
READING = {"batch_tokens": 256, "context": 32, "control": "random-router", "control_draws": 2}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere:port"])
def test_a_cluster_that_does_not_answer_is_one_line(address):
    """First, while no cluster is used by this process."""
    engine = open_workers(EngineOptions("ray", address=address))
    with pytest.raises(EngineError, match=rf"expected a Ray cluster at {address}, got none \(.+\)$"), engine:
        pytest.fail("opened")


@pytest.fixture(scope="module")
def workers():
    """An engine with two workers, which every stage that asks for one is given."""
    listener = Listener()
    with open_workers(EngineOptions(**WORKERS), reporter=listener) as engine:
        assert listener.notes == [f"ray: {engine.division}"]
        yield engine


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    draw = np.random.default_rng(0)
    lines = []
    for number in range(48):
        theme = ("rivers", "music")[number % 2]
        words = draw.choice(WORDS[theme], size=(8, 2))
        text = " ".join(f"The {one} carries a {other} ." for one, other in words)
        lines.append(json.dumps({"id": f"n{number}", "text": f"{text} {number}", "theme": theme}))
    path = tmp_path_factory.mktemp("corpus") / "own.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, corpus) -> Path:
    tokenizer = train_unigram(json.loads(line)["text"] for line in corpus.read_text().splitlines())
    return save_olmoe(tmp_path_factory.mktemp("checkpoints") / "olmoe", tokenizer)


@pytest.fixture(scope="module")
def local(checkpoint, corpus, tmp_path_factory):
    """The run of one process."""
    return specialize.trace_corpus(checkpoint, corpus, tmp_path_factory.mktemp("runs") / "local", **READING)


@pytest.fixture(autouse=True)
def one_revision(monkeypatch):
    monkeypatch.setattr(manifests, "_git_revision", lambda: None)


def read_trace(run: Path) -> tuple[dict[str, bytes], dict[str, object]]:
    """The bytes of a trace, and its manifest without how it was made."""
    kept = {key: value for key, value in read_manifest(run).items() if key not in ("merged_from", "versions")}
    return {path.name: path.read_bytes() for path in sorted((run / "trace").iterdir())}, kept


def test_results_come_in_order_and_arrays_can_be_written_to(workers):
    start = np.arange(3)

    def add(item):
        start[:] += item  # of this worker's copy
        return start + 0, os.getcwd(), os.environ["OMP_NUM_THREADS"]

    results = list(workers.map(add, [10, 20, 30]))
    assert [array[0] >= item for (array, *_), item in zip(results, (10, 20, 30), strict=True)] == [True] * 3
    results[0][0][:] = 1
    assert {(folder, threads) for _, folder, threads in results} == {(os.getcwd(), "1")}
    assert start.tolist() == [0, 1, 2]


def test_an_error_of_the_user_comes_at_once_and_is_not_tried_again(workers, tmp_path):
    def fail(item):
        with (tmp_path / "tried").open("a") as file:
            file.write("once\n")
        raise CorpusError("a.jsonl, line 3: expected JSON")

    with pytest.raises(CorpusError) as caught:
        list(workers.map(fail, [1]))
    assert str(caught.value) == "a.jsonl, line 3: expected JSON"
    assert (tmp_path / "tried").read_text() == "once\n"


def test_what_belongs_to_this_process_is_not_sent(workers, tmp_path):
    with (tmp_path / "file").open("wb") as file, pytest.raises(EngineError, match="this cannot be sent to workers"):
        list(workers.map(lambda item: file.write(item), [b"a"]))


@pytest.fixture
def kill_a_worker(workers, tmp_path, monkeypatch):
    """Let a worker kill itself, once, after it has traced some documents; return the file that it makes before."""
    marked, original = tmp_path / "killed", workers.map_reporting

    def map_reporting(function, items, receive):
        class Killing:  # defined here, because workers do not have this module
            def __init__(self, reporter):
                self.say, self._reporter = reporter.say, reporter

            @contextmanager
            def progress(self, title, unit):
                with self._reporter.progress(title, unit) as update:

                    def count(done, total, rate=None):
                        update(done, total, rate)
                        if title == "tracing" and done > 8 and not marked.exists():
                            marked.touch()
                            os.kill(os.getpid(), signal.SIGKILL)

                    yield count

        def run(item, reporter):
            return function(item, Killing(reporter))

        return original(run, items, receive)

    monkeypatch.setattr(workers, "map_reporting", map_reporting)
    return marked


@pytest.mark.slow
def test_a_worker_that_is_killed_resumes_its_part(workers, kill_a_worker, checkpoint, corpus, local, tmp_path):
    listener, run = Listener(), tmp_path / "run"
    trace = specialize.trace_corpus(checkpoint, corpus, run, **READING, **WORKERS, reporter=listener)
    assert kill_a_worker.exists()
    assert REPLACED in listener.notes
    assert trace.digest == local.digest
    assert read_trace(run) == read_trace(local.path)
    assert [entry["part"] for entry in read_manifest(run)["merged_from"]] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "run"]
    done = [(step.done, step.total) for step in listener.steps if step.title == "tracing"]
    assert done[-1] == (48, 48)
    assert any(0 < documents < 48 for documents, _ in done)


def test_parts_that_were_begun_are_resumed_however_many(workers, checkpoint, corpus, local, tmp_path):
    specialize.trace_corpus(checkpoint, corpus, tmp_path / "run", shard="2/3", **READING)
    specialize.trace_corpus(checkpoint, corpus, tmp_path / "run", **READING, **WORKERS)
    assert read_trace(tmp_path / "run") == read_trace(local.path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_trace_of_one_process_is_extended_by_one_worker(workers, checkpoint, corpus, tmp_path):
    fewer = {**READING, "limit": 20}
    for name, how in (("one", {}), ("other", WORKERS)):
        specialize.trace_corpus(checkpoint, corpus, tmp_path / name, **fewer)
        listener = Listener()
        specialize.trace_corpus(checkpoint, corpus, tmp_path / name, **READING, **how, reporter=listener)
        assert f"{tmp_path / name}: extending the trace from 20 to 48 documents" in listener.notes
    assert any("is not divided: one worker continues it" in note for note in listener.notes)
    assert read_trace(tmp_path / "one") == read_trace(tmp_path / "other")


def test_a_stop_before_the_first_shard_and_before_parts_are_removed(workers, checkpoint, corpus, local, tmp_path):
    run = tmp_path / "run"
    (run / "trace").mkdir(parents=True)
    (run / "trace" / ".lock").touch()
    (run / "trace" / ".documents.arrow.partial").touch()
    for number in (1, 2):
        specialize.trace_corpus(checkpoint, corpus, run, shard=f"{number}/2", **READING)
    shutil.copytree(f"{run}.part-2-of-2", tmp_path / "kept")
    specialize.trace_corpus(checkpoint, corpus, run, **READING, **WORKERS)
    shutil.copytree(tmp_path / "kept", f"{run}.part-2-of-2")
    forget()
    specialize.trace_corpus(checkpoint, corpus, run, **READING, **WORKERS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "run"]
    assert read_trace(run) == read_trace(local.path)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "how"), [("routing", {}), ("syntax", {"tags": ("upos", "word_part")})])
def test_frames_are_equal(workers, local, tmp_path, stage, how):
    run = tmp_path / "local"
    shutil.copytree(local.path, run)
    here = getattr(specialize, stage)(local.path, permutations=9, **how)
    there = getattr(specialize, stage)(run, permutations=9, **how, **WORKERS)
    assert_frame_equal(here, there, check_exact=True)
    assert set(here["routing"]) >= {"learned", "random"}


def test_a_dense_model_is_the_error_of_one_process(workers, corpus, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    dense = tmp_path / "dense"
    tokenizer = train_unigram(["The water carries a stone ."])
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(dense)
    tokenizer.save_pretrained(dense)
    messages = []
    for how in ({}, WORKERS):
        with pytest.raises(CaptureError) as caught:
            specialize.trace_corpus(dense, corpus, tmp_path / "run", **how)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense"]


def test_another_engine_than_the_open_one_is_refused(workers):
    other = open_workers(EngineOptions("ray", workers=1), reporter=SILENT)
    with pytest.raises(EngineError, match="workers: expected 2, as of the engine that is open, got 1"), other:
        pytest.fail("opened")
