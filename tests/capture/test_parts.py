"""Parts of a trace, made apart and merged: the bytes of a trace that was made at once."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

import specialize
from capture.kill_and_resume import TEMPLATE
from capture.test_resuming import LINES
from capture.test_run import SMALL, make_checkpoint
from listening import Listener
from specialize import manifest as manifests
from specialize.capture import batches, trace_documents
from specialize.corpus import open_corpus
from specialize.errors import CorpusError, OutputError, TraceError
from specialize.pipeline.trace import trace_corpus
from specialize.trace import validate_trace
from specialize.trace.manifest import read_manifest, write_manifest
from specialize.trace.parts import Part
from specialize.trace.verified import forget
from specialize.tracing.replay import Replay

HERE = Path(__file__).parent
EVERYTHING = replace(
    SMALL, logits=True, norms=True, predictions=True, control="random-router", control_draws=2, stride=12
)
CHATS = [
    {"id": str(n), "messages": [{"role": role, "content": line["text"]} for role in ("user", "assistant")]}
    for n, line in enumerate(LINES)
]
QUESTIONS = [{"id": chat["id"], "messages": chat["messages"][:1]} for chat in CHATS]
CASES = {
    "everything": (LINES, EVERYTHING),
    "first tokens": (LINES, replace(SMALL, max_tokens=20, weights=False)),
    "conversations": (CHATS, SMALL),
    "generation": (LINES, replace(SMALL, generate=5, context=48)),
    "answers": (QUESTIONS, replace(SMALL, generate=5, context=48)),
}


@pytest.fixture(scope="module")
def checkpoint():
    checkpoint = make_checkpoint()
    checkpoint.tokenizer.chat_template = TEMPLATE
    return checkpoint


@pytest.fixture
def trace(checkpoint, tmp_path, monkeypatch):
    """Trace documents, or a part of them, into a run folder of this name."""
    monkeypatch.setattr(manifests, "_git_revision", lambda: None)  # a commit during a test would be another manifest

    def run(name="whole", part=None, *, options=SMALL, lines=LINES, reporter=None, **how):
        path = tmp_path / "corpus.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        forget()  # as another process
        how |= {} if reporter is None else {"reporter": reporter}
        return trace_documents(checkpoint, open_corpus(path), tmp_path / name, options=options, part=part, **how)

    return run


@pytest.fixture
def trace_parts(trace, tmp_path):
    """Trace all parts; give their folders."""

    def run(of, **how):
        for number in range(1, of + 1):
            trace(f"part{number}", Part(number, of), **how)
        return [tmp_path / f"part{number}" for number in range(1, of + 1)]

    return run


def files_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "trace").iterdir())}


def assert_same(merged: Path, whole: Path) -> None:
    """The same files, byte for byte, and the same manifest, apart from how the parts were made."""
    assert files_of(merged) == files_of(whole)
    stored, expected = read_manifest(merged), read_manifest(whole)
    assert stored.pop("merged_from")
    assert stored == expected
    assert specialize.open_trace(merged).digest == specialize.open_trace(whole).digest
    assert [check.problem for check in validate_trace(merged) if check.problem] == []


@pytest.mark.parametrize(("case", "of"), [*((case, 2) for case in CASES), ("everything", 3), ("generation", 4)])
def test_merged_parts_are_the_trace_made_at_once(trace, trace_parts, tmp_path, case, of):
    lines, options = CASES[case]
    trace(lines=lines, options=options)
    parts = trace_parts(of, lines=lines, options=options)
    assert all(read_manifest(part, part=True)["shards"] for part in parts)
    merged = specialize.merge(parts[::-1], tmp_path / "merged")
    assert merged.path == tmp_path / "merged"
    assert_same(tmp_path / "merged", tmp_path / "whole")


def test_more_parts_than_shards_and_than_documents(trace, trace_parts, tmp_path):
    whole = trace(lines=LINES[:2])
    parts = trace_parts(6, lines=LINES[:2])
    held = [len(read_manifest(part, part=True)["shards"]) for part in parts]
    assert held == [1] * len(whole.manifest["shards"]) + [0] * (6 - len(whole.manifest["shards"]))
    assert held[-1] == 0
    assert [check.note for check in validate_trace(parts[-1]) if check.note] == [
        f"part 6 of 6 of a trace, with 0 of {sum(held)} shards: merge the parts"
    ]
    specialize.merge(parts, tmp_path / "merged")
    assert_same(tmp_path / "merged", tmp_path / "whole")


def test_a_run_that_is_read_again(checkpoint, trace, tmp_path):
    forget()
    source = trace("source", options=replace(SMALL, generate=5, context=48))
    runs = [("whole", None), ("part1", Part(1, 2)), ("part2", Part(2, 2))]
    for name, part in runs:
        trace_documents(checkpoint, Replay(source), tmp_path / name, options=replace(SMALL, context=None), part=part)
    specialize.merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "merged")
    assert_same(tmp_path / "merged", tmp_path / "whole")


def test_killed_and_resumed_in_processes_of_their_own(tmp_path):
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kill_a_part.py"), str(tmp_path)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *trials, merges = map(json.loads, answer.stdout.splitlines())
    assert merges["killed"] > 5
    assert merges["outcomes"] == ["nothing", "whole"]
    assert [trial["killed"] for trial in trials] == [[True, False]] * 4
    assert all(trial["nothing"] and trial["identical"] for trial in trials)
    assert all("unfinished: part 1 of 2" in trial["refusal"] for trial in trials)
    assert len({trial["shards"] for trial in trials}) > 1  # killed in different states


def test_a_merged_trace_is_extended_and_repaired_as_any_other(trace, trace_parts, tmp_path):
    parts = trace_parts(2, lines=LINES[:7])
    specialize.merge(parts, tmp_path / "merged")
    for part in parts:
        shutil.rmtree(part)
    trace("whole", lines=LINES[:7])
    trace("whole")
    extended = trace("merged")
    assert extended.num_documents == len(LINES)
    (tmp_path / "merged/trace/routing-00001.arrow").unlink()
    trace("merged", repair=True)
    assert_same(tmp_path / "merged", tmp_path / "whole")


def test_a_part_is_repaired_without_changing_what_was_merged(trace, trace_parts, tmp_path):
    parts = trace_parts(2)
    specialize.merge(parts, tmp_path / "merged")
    before = files_of(tmp_path / "merged")
    damaged = parts[1] / "trace/routing-00000.arrow"
    whole = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(whole[:-1])
    with pytest.raises(TraceError, match=r"part2/trace/routing-00000.arrow: damaged"):
        specialize.merge(parts, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    trace("part2", Part(2, 2), repair=True)
    assert damaged.read_bytes() == whole
    assert files_of(tmp_path / "merged") == before


def test_where_files_cannot_be_linked_they_are_copied(trace, trace_parts, tmp_path, monkeypatch):
    trace()
    parts = trace_parts(2)

    def other_file_system(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_file_system)
    specialize.merge(parts, tmp_path / "merged")
    assert_same(tmp_path / "merged", tmp_path / "whole")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"again: could not be written \(No space left on device\); nothing was kept"):
        specialize.merge(parts, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir() if "again" in path.name) == []


def test_merging_shows_its_progress_and_reads_each_file_once(trace_parts, tmp_path, monkeypatch):
    parts, hashed, listener = trace_parts(2), [], Listener()
    forget()
    from specialize.trace import verified

    original = verified.xxh3_of
    monkeypatch.setattr(verified, "xxh3_of", lambda path: hashed.append(path) or original(path))
    specialize.merge(parts, tmp_path / "merged", reporter=listener)
    files = [path for part in parts for path in (part / "trace").iterdir() if path.name != "documents.arrow"]
    assert sorted(hashed) == sorted([*files, parts[0] / "trace/documents.arrow"])
    assert {(step.title, step.unit) for step in listener.steps} == {("merging", "files")}
    assert listener.steps[-1].done == listener.steps[-1].total == len(files)
    assert listener.notes == []


def test_smaller_batches_are_noted(trace_parts, tmp_path, monkeypatch):
    plan = batches.plan_batches

    def out_of_memory_in_long_batches(windows, *, tokens):
        if tokens > 40 and len(windows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plan(windows, tokens=tokens)

    monkeypatch.setattr(batches, "plan_batches", out_of_memory_in_long_batches)
    listener = Listener()
    merged = specialize.merge(trace_parts(2), tmp_path / "merged", reporter=listener)
    sizes = {shard["batch_tokens"] for shard in merged.manifest["shards"]}
    assert len(sizes) > 1
    assert any(
        note.startswith("note: memory ran out in some shards, whose batches are smaller") for note in listener.notes
    )


def refuse_to_merge(runs, tmp_path, message):
    with pytest.raises(TraceError, match=message) as caught:
        specialize.merge(runs, tmp_path / "merged")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "merged").exists()


def test_what_is_no_full_set_of_parts_is_named(trace, trace_parts, tmp_path):
    first, second, third = trace_parts(3)
    refuse_to_merge([], tmp_path, "expected the run folders of all parts of a trace, got none")
    refuse_to_merge([tmp_path / "none"], tmp_path, "expected a run folder, found none")
    refuse_to_merge([first], tmp_path, r"missing: parts 2, 3; trace each with --shard, as 2/3, or add its folder")
    refuse_to_merge(
        [first, second, first, third], tmp_path, r"expected each part once, got part 1 of 3 twice \(.*part1 "
    )
    trace("other", Part(1, 2))
    refuse_to_merge([second, tmp_path / "other"], tmp_path, r"got part 2 of 3 \(.*part2\) and part 1 of 2 \(.*other\)")
    whole = trace()
    refuse_to_merge(
        [first, whole.path], tmp_path, "whole: expected a part of a trace, as --shard makes it, got a whole one"
    )
    manifest = read_manifest(second, part=True)
    write_manifest(second, manifest | {"complete": False, "shards": manifest["shards"][:1]})
    refuse_to_merge(
        [first, second],
        tmp_path,
        r"unfinished: part 2 of 3 \(.*part2\); repeat its trace to resume it; missing: part 3; trace it with",
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": replace(SMALL, context=12)}, r"\(context_length: 16 in .*part1, 12 in .*other; stride: 16 in"),
        ({"options": replace(SMALL, batch_tokens=32)}, r"\(batch_tokens: 64 in .*part1, 32 in .*other\)"),
        ({"options": replace(SMALL, logits=True)}, r"\(contents: \['weights'\] in .*part1, \['weights', 'logits'\] in"),
        ({"lines": LINES[:-1]}, "another corpus: the documents in .*other and .*part1 differ"),
        (
            {"lines": [{**LINES[0], "kind": "c"}, *LINES[1:]]},
            "another corpus: the documents in .*other and .*part1 differ",
        ),
    ],
    ids=["context", "batches", "contents", "corpus", "label"],
)
def test_parts_of_different_traces_are_not_merged(trace, trace_parts, tmp_path, changed, message):
    first, _ = trace_parts(2)
    trace("other", Part(2, 2), **changed)
    refuse_to_merge([first, tmp_path / "other"], tmp_path, message)


def test_parts_of_different_models_are_not_merged(trace, trace_parts, checkpoint, tmp_path):
    first, _ = trace_parts(2)
    with torch.no_grad():
        weight = next(checkpoint.model.parameters())
        weight[0] += 1
        try:
            trace("other", Part(2, 2))
        finally:
            weight[0] -= 1
    refuse_to_merge([first, tmp_path / "other"], tmp_path, r"other settings \(weights_digest: '\w+…' in")


def test_an_existing_folder_is_left_as_it_is(trace, trace_parts, tmp_path):
    parts, whole = trace_parts(2), trace("merged")
    before = files_of(whole.path)
    for folder in (whole.path, parts[0]):
        with pytest.raises(OutputError, match="expected a new or empty folder to write to"):
            specialize.merge(parts, folder)
    assert files_of(whole.path) == before


def test_a_part_keeps_its_number_its_documents_and_its_batches(trace, trace_parts, tmp_path):
    trace_parts(2)
    expected = [
        (
            ("part1", Part(2, 2)),
            {},
            TraceError,
            "part1: expected part 2 of 2 of a trace, got part 1 of 2 of a trace; choose",
        ),
        (("part1", None), {}, TraceError, "part1: expected a whole trace, got part 1 of 2 of a trace; choose"),
        (
            ("part1", Part(1, 2)),
            {"options": replace(SMALL, batch_tokens=32)},
            TraceError,
            r"batch_tokens: 64 there, 32 now",
        ),
        (
            ("part1", Part(1, 2)),
            {"lines": [*LINES, {"id": "more", "text": "More.", "kind": "a"}]},
            CorpusError,
            r"expected the 10 documents that part 1 of 2 in .*part1 was begun with, got 11; merge the parts, then",
        ),
    ]
    before = files_of(tmp_path / "part1")
    for place, how, error, message in expected:
        with pytest.raises(error, match=message):
            trace(*place, **how)
    assert files_of(tmp_path / "part1") == before
    listener = Listener()
    trace("part1", Part(1, 2), reporter=listener)
    assert listener.notes[-1].endswith("part1: the trace is complete already")


def test_stages_do_not_measure_a_part(trace_parts, tmp_path):
    part, _ = trace_parts(2)
    stages = ("syntax", "topics", "routing", "vocabulary", "probe", "affinity", "export", "report", "figures")
    for stage, run in product(stages, (part, specialize.RoutingTrace(part, part=True))):
        more = (tmp_path / "out",) if stage in ("export", "report", "figures") else ()
        with pytest.raises(
            TraceError, match=r"part1: expected a whole trace, got part 1 of 2; join the parts with `specialize merge`"
        ):
            getattr(specialize, stage)(run, *more)
    with pytest.raises(TraceError, match="got part 1 of 2"):
        specialize.open_trace(part)


def test_a_part_is_not_read_again(checkpoint, trace_parts, tmp_path):
    part, _ = trace_parts(2)
    with pytest.raises(TraceError, match="got part 1 of 2"):
        trace_corpus(checkpoint, part, tmp_path / "run")


def test_every_process_can_run_the_same_command(checkpoint, tmp_path, monkeypatch):
    corpus, run = [line["text"] for line in LINES], tmp_path / "runs" / "tiny"
    how = {"context": 16, "batch_tokens": 64}
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        listener = Listener()
        part = trace_corpus(checkpoint, corpus, run, shard="auto", reporter=listener, **how)
        number = int(rank) + 1
        assert part.path == run.with_name(f"tiny.part-{number}-of-2")
        assert listener.notes[0] == f"shard auto: part {number} of 2 (RANK {rank} of WORLD_SIZE 2)"
        assert listener.notes[-1] == (
            f"{part.path}: part {number} of 2 is complete; when all are: specialize merge {run}.part-*-of-2 -o {run}"
        )
    whole = trace_corpus(checkpoint, corpus, tmp_path / "whole", **how)
    merged = specialize.merge(sorted(run.parent.glob("tiny.part-*")), run)
    assert merged.digest == whole.digest
    assert files_of(run) == files_of(whole.path)
