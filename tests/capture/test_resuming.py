"""A trace that was begun before: resumed, extended by more documents, repaired, or refused."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from capture.test_run import SMALL, TEXTS, make_checkpoint, run_bytes
from listening import Listener
from specialize import manifest as manifests
from specialize.annotation import Annotation
from specialize.annotators.store import load_annotation, save_annotation
from specialize.capture import TraceOptions, batches, trace_documents
from specialize.corpus import Corpus, Document, open_corpus
from specialize.corpus.document import Record
from specialize.errors import AnnotationError, CorpusError, OutputError, TraceError
from specialize.pipeline.stage import stored_annotations
from specialize.trace import open_trace, validate_trace
from specialize.trace.manifest import read_manifest, write_manifest
from specialize.trace.verified import forget

LINES = [{"id": f"d{i}", "text": text, "kind": "ab"[i % 2]} for i, text in enumerate([*TEXTS, *TEXTS[::-1]])]
CONTROLLED = replace(SMALL, control="random-router", control_draws=3, seed=2)


@pytest.fixture(scope="module")
def checkpoint():
    return make_checkpoint()


@pytest.fixture
def trace(checkpoint, tmp_path, monkeypatch):
    """Trace the first documents, of `lines`, into a run folder of this name."""

    monkeypatch.setattr(manifests, "_git_revision", lambda: None)  # a commit during a test would be another manifest

    def run(name="run", documents=None, *, options=SMALL, lines=LINES, reporter=None, **how):
        path = tmp_path / "corpus.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        corpus = open_corpus(path, limit=documents)
        forget()  # as another process
        how |= {} if reporter is None else {"reporter": reporter}
        return trace_documents(checkpoint, corpus, tmp_path / name, options=options, **how)

    return run


def interrupt(run: Path, *, shards: int) -> None:
    """Make of a complete trace one that was killed after so many shards, before the next was in the manifest."""
    manifest = read_manifest(run)
    write_manifest(run, manifest | {"complete": False, "shards": manifest["shards"][:shards]})


def shards_of(run: Path) -> list[dict]:
    return read_manifest(run, complete=False)["shards"]


def files_of(run: Path, shards: int) -> dict[str, bytes]:
    names = [name for shard in shards_of(run)[:shards] for name in shard["files"]]
    return {name: (run / "trace" / name).read_bytes() for name in names}


def test_a_trace_that_is_killed_early_keeps_what_it_has_done(trace, tmp_path, monkeypatch):
    options = TraceOptions(context=16, batch_tokens=48)  # a shard of the largest size would hold all
    whole = trace("whole", options=options)
    sizes = [shard["tokens"] for shard in whole.manifest["shards"]]
    assert sizes[0] <= 48
    for number in range(1, len(sizes) - 1):
        assert sum(sizes[:number]) - 16 < sizes[number] <= max(48, sum(sizes[:number]))
    original, done = batches.ShardTracer.trace, []

    def stop_in_the_third(self, windows, **how):
        done.append(len(windows))
        if len(done) == 3:
            raise KeyboardInterrupt
        return original(self, windows, **how)

    with monkeypatch.context() as patch:
        patch.setattr(batches.ShardTracer, "trace", stop_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            trace(options=options)
    assert [shard["tokens"] for shard in shards_of(tmp_path / "run")] == sizes[:2]
    trace(options=options)
    assert run_bytes(tmp_path / "run") == run_bytes(tmp_path / "whole")


def test_shards_of_an_earlier_version_stay_as_they_are(trace, tmp_path, monkeypatch):
    """They were all of the largest size, and the model was identified by its name."""
    with monkeypatch.context() as patch:
        patch.setattr("specialize.tracing.run.min", max, raising=False)
        whole = trace("whole", options=replace(SMALL, batch_tokens=32))
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "whole", run)
    manifest = read_manifest(run)
    settings = {key: value for key, value in manifest["settings"].items() if not key.endswith("s_digest")}
    settings.pop("tokenizer_digest")
    assert "weights_digest" not in settings
    manifest |= {"complete": False, "shards": manifest["shards"][:2], "settings": settings}
    write_manifest(run, manifest)
    trace(options=replace(SMALL, batch_tokens=32))
    assert shards_of(run)[:2] == whole.manifest["shards"][:2]
    assert read_manifest(run)["settings"] == whole.manifest["settings"]
    write_manifest(run, manifest | {"settings": settings | {"model": "another"}})
    with pytest.raises(TraceError, match=r"other settings \(model: 'another' there, 'tiny' now\)"):
        trace(options=replace(SMALL, batch_tokens=32))


def test_missing_shards_are_traced_in_batches_of_another_size_and_damaged_ones_in_their_own(trace, tmp_path):
    run = tmp_path / "run"
    whole = trace()
    interrupt(run, shards=2)
    other = replace(SMALL, batch_tokens=24)
    mixed = trace(options=other)
    assert mixed.manifest["settings"]["batch_tokens"] == 24
    used = [shard["batch_tokens"] for shard in mixed.manifest["shards"]]
    assert used == [64, 64] + [24] * (len(used) - 2)
    assert mixed.manifest["shards"][:2] == whole.manifest["shards"][:2]
    stored = run_bytes(run)
    listener = Listener()
    trace(options=SMALL, reporter=listener)
    assert listener.notes[-1] == f"{run}: the trace is complete already"
    for name in ("routing-00000.arrow", "tokens-00003.arrow"):
        (run / "trace" / name).unlink()
    trace(options=replace(SMALL, batch_tokens=100), repair=True)
    assert run_bytes(run) == stored


def test_batches_that_memory_did_not_suffice_for_are_not_tried_again(trace, tmp_path, monkeypatch):
    plan, tried = batches.plan_batches, []

    def out_of_memory_above_40_tokens(windows, *, tokens):
        tried.append(tokens)
        if tokens > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plan(windows, tokens=tokens)

    monkeypatch.setattr(batches, "plan_batches", out_of_memory_above_40_tokens)
    whole = trace()
    run, reduced = tmp_path / "run", tried[-1]
    assert {shard["reduced_from"] for shard in whole.manifest["shards"]} == {64}
    stored = run_bytes(run)
    interrupt(run, shards=2)
    tried.clear()
    trace()
    assert set(tried) == {reduced}
    assert run_bytes(run) == stored
    (run / "trace/routing-00001.arrow").unlink()
    trace(repair=True)
    assert run_bytes(run) == stored
    interrupt(run, shards=2)
    tried.clear()
    trace(options=replace(SMALL, batch_tokens=30))
    assert set(tried) == {30}
    assert "reduced_from" not in shards_of(run)[-1]


@pytest.mark.parametrize(
    "options", [SMALL, CONTROLLED, replace(SMALL, max_tokens=20)], ids=["plain", "control", "first tokens"]
)
def test_more_documents_extend_a_trace(trace, tmp_path, options):
    run = tmp_path / "run"
    part = trace(documents=4, options=options, command="the first")
    before, kept = files_of(run, 99), part.manifest["shards"]
    listener = Listener()
    extended = trace(options=options, command="the second", reporter=listener)
    assert f"{run}: extending the trace from 4 to 10 documents" in listener.notes
    assert (listener.steps[-1].done, listener.steps[-1].total) == (10, 10)
    assert extended.manifest["shards"][: len(kept)] == kept
    assert files_of(run, len(kept)) == before
    manifest = extended.manifest
    assert (manifest["settings"]["limit"], manifest["corpus"]["documents"], manifest["command"]) == (
        None, 10, "the second",
    )  # fmt: skip
    assert [(entry["documents"], entry["command"]) for entry in manifest["extended_from"]] == [(4, "the first")]
    assert [check.problem for check in validate_trace(run) if check.problem] == []
    whole = trace("whole", options=options)
    assert extended.documents().equals(whole.documents())
    assert extended.tokens().equals(whole.tokens())  # sequences are numbered as if all had been traced at once
    for spec in (*whole.layers, *whole.random_routers):
        ids = [each.experts(spec.name, routing=spec.routing) for each in (extended, whole)]
        np.testing.assert_array_equal(*ids)


def test_a_corpus_that_grew_extends_a_trace_whether_complete_or_not(trace, tmp_path):
    run = tmp_path / "run"
    kept = trace(lines=LINES[:5]).manifest["shards"]
    with_label = [*LINES[:7], *({**line, "more": "x"} for line in LINES[7:])]
    interrupt(run, shards=2)
    trace(lines=LINES[:7])
    final = trace(lines=with_label)
    assert final.manifest["shards"][:2] == kept[:2]
    assert [part["documents"] for part in final.manifest["extended_from"]] == [5, 7]
    assert final.documents()["more"].notna().tolist() == [False] * 7 + [True] * 3
    assert final.num_documents == 10
    whole = trace("whole", lines=with_label)
    assert final.tokens().equals(whole.tokens())


def test_a_limit_beyond_the_last_document_changes_nothing(trace, tmp_path):
    trace()
    before, listener = run_bytes(tmp_path / "run"), Listener()
    trace(documents=len(LINES), reporter=listener)
    assert listener.notes[-1].endswith("the trace is complete already")
    assert run_bytes(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("documents", "lines", "message"),
    [
        (
            3,
            LINES,
            r"expected at least the 6 documents that the trace in .* was begun with, got 3; choose another folder",
        ),
        (None, [*LINES[:2], LINES[9], *LINES[2:9]], "and any others after them, got others; choose another folder"),
        (None, [{**LINES[0], "kind": "b"}, *LINES[1:]], "and any others after them, got others; choose another folder"),
        (6, LINES[1:], "and any others after them, got others; choose another folder"),
    ],
    ids=["fewer", "one between", "another label", "as many others"],
)
def test_documents_that_do_not_begin_as_the_trace_does_are_refused(trace, tmp_path, documents, lines, message):
    trace(documents=6)
    before = run_bytes(tmp_path / "run")
    with pytest.raises(CorpusError, match=message) as caught:
        trace(documents=documents, lines=lines)
    assert "\n" not in str(caught.value)
    assert run_bytes(tmp_path / "run") == before


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(patch: pytest.MonkeyPatch, last: int) -> list[str]:
    """Stop the process before or after the `last`-th time that a file gets its name; return the names so far."""
    names, original = [], os.replace

    def counted(source, target):
        for name in (f"before {Path(target).name}", f"after {Path(target).name}"):
            if name.startswith("after"):
                original(source, target)
            names.append(name)
            if len(names) >= last:
                raise Killed

    patch.setattr(os, "replace", counted)
    return names


def test_killed_at_any_moment_an_extension_leaves_the_old_trace_or_one_that_resumes(trace, tmp_path):
    def extend(name: str, *, kill: int) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            names = kill_at(patch, kill)
            with suppress(Killed):
                trace(name, lines=LINES[:6])
        forget()
        return names

    trace("old", lines=LINES[:4])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    names = extend("new", kill=10_000)
    old, new = run_bytes(tmp_path / "old"), run_bytes(tmp_path / "new")
    renamed = names.index("after documents.arrow") + 1
    outcomes = []
    for point in (*range(1, renamed + 4), *range(renamed + 4, len(names), 5), len(names)):
        run = tmp_path / f"run{point}"
        shutil.copytree(tmp_path / "old", run)
        extend(run.name, kill=point)
        problems = [check.file for check in validate_trace(run) if check.problem]
        if read_manifest(run, complete=False)["complete"]:
            outcomes.append("new" if open_trace(run).num_documents == 6 else "old")
            assert (problems, run_bytes(run)) == ([], {"new": new, "old": old}[outcomes[-1]])
        else:
            outcomes.append("unfinished")
            assert problems == ["manifest.json"]
        if point == renamed:  # the documents are there, and not yet in the manifest
            shutil.copytree(run, tmp_path / "back")
            trace("back", lines=LINES[:4])
            assert run_bytes(tmp_path / "back") == old
        extend(run.name, kill=10_000)
        assert run_bytes(run) == new
    assert sorted(set(outcomes)) == ["new", "old", "unfinished"]
    assert outcomes == sorted(outcomes, key=["old", "unfinished", "new"].index)


def test_a_full_disk_leaves_the_old_trace(trace, tmp_path, monkeypatch):
    trace(documents=4)
    before, fsync = run_bytes(tmp_path / "run"), os.fsync

    def full(file):
        if "documents" in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(28, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"documents\.arrow: could not be written \(No space left"):
            trace()
    trace(documents=4)
    assert run_bytes(tmp_path / "run") == before


def test_a_corpus_that_changes_while_it_is_read_leaves_the_old_trace(checkpoint, trace, tmp_path):
    trace(documents=4)
    before, passes = run_bytes(tmp_path / "run"), []

    def records():
        passes.append(None)
        for line in LINES if len(passes) < 3 else LINES[:-1]:  # survey, first documents; and then to write them
            yield Record("line", Document(line["id"], line["text"], {"kind": line["kind"]}))

    with pytest.raises(CorpusError, match="expected the same documents whenever they are read"):
        trace_documents(checkpoint, Corpus("corpus", records), tmp_path / "run", options=SMALL)
    assert len(passes) == 3
    assert run_bytes(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("file", "complete", "harm", "message"),
    [
        ("routing-00001.arrow", True, lambda path: path.unlink(), "found none"),
        ("documents.arrow", False, lambda path: path.unlink(), "found none"),
        ("tokens-00000.arrow", True, lambda path: path.write_bytes(path.read_bytes()[:-20]), "damaged"),
        ("routing-00002.arrow", False, lambda path: path.write_bytes(path.read_bytes() + b"more"), "damaged"),
        ("documents.arrow", True, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "damaged"),
    ],
)
def test_a_trace_with_a_damaged_file_is_not_taken_for_whole(trace, tmp_path, file, complete, harm, message):
    run = tmp_path / "run"
    trace(lines=LINES[:5])
    whole = run_bytes(run)
    if not complete:
        interrupt(run, shards=3)
    harm(run / "trace" / file)
    with pytest.raises(TraceError, match=rf"{file}: .*{message}.*; repeat the same trace with --repair") as caught:
        trace(lines=LINES[:5])
    assert "\n" not in str(caught.value)
    trace(lines=LINES[:5], repair=True)
    assert run_bytes(run) == whole


def test_repair_and_more_documents_at_once(trace, tmp_path):
    run = tmp_path / "run"
    trace(documents=4)
    shutil.copytree(run, tmp_path / "whole")
    trace("whole")
    (run / "trace/routing-00001.arrow").unlink()
    with pytest.raises(TraceError, match="--repair"):
        trace()
    trace(repair=True)
    assert run_bytes(run) == run_bytes(tmp_path / "whole")


def test_text_that_is_tokenized_in_another_way_is_refused(trace, tmp_path):
    run = tmp_path / "run"
    trace()
    interrupt(run, shards=2)
    manifest = read_manifest(run, complete=False)
    manifest["shards"][1]["tokens"] -= 1
    write_manifest(run, manifest)
    with pytest.raises(TraceError, match=r"tokens in shard 1, as when it was traced, got .* choose another folder"):
        trace()


def test_other_routers_are_refused(trace, tmp_path):
    trace()
    interrupt(tmp_path / "run", shards=2)
    manifest = read_manifest(tmp_path / "run", complete=False)
    write_manifest(tmp_path / "run", manifest | {"routers": manifest["routers"][1:]})
    with pytest.raises(TraceError, match=r"expected the 2 routers that the trace was begun with, found others \(3\)"):
        trace()


def test_labels_of_the_smaller_trace_are_those_of_another_text(trace, tmp_path):
    run = tmp_path / "run"
    part = trace(documents=4)
    save_annotation(part, Annotation("mine", "document", ("x",), np.zeros(4, np.int32), {}))
    (run / "topics").mkdir()
    listener = Listener()
    extended = trace(reporter=listener)
    assert (
        f"note: annotations, topics in {run} are of the first 4 documents: annotate and measure again" in listener.notes
    )
    with pytest.raises(AnnotationError, match="got those of another text; annotate anew"):
        load_annotation(extended, "mine")
    listener = Listener()
    assert stored_annotations(extended, reporter=listener) == {}
    assert [note.split(":")[0] for note in listener.notes] == ["mine is left out"]
    save_annotation(extended, Annotation("mine", "document", ("x",), np.zeros(10, np.int32), {}))
    assert list(stored_annotations(extended)) == ["mine"]
