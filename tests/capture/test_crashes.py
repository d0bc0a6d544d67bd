"""Runs that are killed, run out of disk, or are started twice."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from capture.test_run import SMALL, TEXTS, make_checkpoint
from specialize.capture import TraceOptions, batches, trace_documents
from specialize.corpus import open_corpus
from specialize.errors import OutputError, TraceError
from specialize.trace import open_trace, validate_trace

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(("corpus_of", "trials"), [("texts", 12), ("answers", 4)])
def test_killed_at_random_points_it_ends_with_the_same_bytes(tmp_path, corpus_of, trials):
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kill_and_resume.py"), str(tmp_path), str(trials), corpus_of]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *done, summary = map(json.loads, answer.stdout.splitlines())
    assert summary["files"] > 10  # manifest, documents, and two files for each of several shards
    assert [(each["killed"], each["identical"]) for each in done] == [(True, True)] * 2 * trials
    assert len({each["shards"] for each in done}) > trials // 2  # killed in very different states


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS * 20), encoding="utf-8")
    return path


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path, corpus):
    """A limit on the size of files stands for the full disk: writing beyond it fails in the middle of a file."""
    checkpoint, options = make_checkpoint(), TraceOptions(context=64, batch_tokens=512, shard_tokens=800)
    run = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = trace_documents(checkpoint, open_corpus(corpus), tmp_path / "whole", options=options)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "whole/trace").glob("routing-*.arrow"))]
    assert len(sizes) > 3
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) - 1, before[1]))
    try:
        with pytest.raises(OutputError, match=r"routing-0000\d\.arrow: could not be written \(File too large\).*kept"):
            trace_documents(checkpoint, open_corpus(corpus), run, options=options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(run.rglob("*.partial"))
    assert all("interrupted" in check.problem for check in validate_trace(run) if check.problem)
    trace = trace_documents(checkpoint, open_corpus(corpus), run, options=options)
    assert trace.manifest | {"versions": None} == whole.manifest | {"versions": None}  # of git, which may change


def test_a_second_process_on_the_same_run_is_refused(tmp_path, corpus, monkeypatch):
    checkpoint = make_checkpoint()
    inside, leave = threading.Event(), threading.Event()
    original = batches.ShardTracer.trace

    def wait_in_the_middle(self, windows, **how):
        inside.set()
        leave.wait()
        return original(self, windows, **how)

    monkeypatch.setattr(batches.ShardTracer, "trace", wait_in_the_middle)
    first = threading.Thread(
        target=trace_documents, args=(checkpoint, open_corpus(corpus), tmp_path / "run"), kwargs={"options": SMALL}
    )
    first.start()
    try:
        while not inside.wait(1):
            assert first.is_alive()
        code = (
            "import sys; from pathlib import Path; from specialize.trace import TraceWriter; import json\n"
            "manifest = json.loads((Path(sys.argv[1]) / 'manifest.json').read_text())\n"
            "with TraceWriter(Path(sys.argv[1]), settings=manifest['settings'], provenance={}): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False
        )
        assert "another process is writing this trace" in second.stderr
        with pytest.raises(TraceError, match="another process is writing this trace"):
            trace_documents(make_checkpoint(), open_corpus(corpus), tmp_path / "run", options=SMALL)
    finally:
        leave.set()
        first.join()
    assert open_trace(tmp_path / "run").num_documents == len(TEXTS) * 20
