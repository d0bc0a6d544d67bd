"""Every command as a user gives it, in a process of its own where that matters."""

import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import pytest

import specialize
from specialize.cli import main
from specialize.cli.app import app, load_commands

load_commands()


@pytest.fixture(scope="module")
def run_folder(checkpoint, corpus, tmp_path_factory) -> Path:
    """A run made by `specialize run`."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    arguments = [
        "specialize", "run", str(checkpoint), str(corpus), "-o", str(run),
        "--text-column", "body", "--id-column", "name", "--permutations", "19", "--embedding", "tfidf",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as err:
        patch.setattr(sys, "argv", arguments)
        with suppress(SystemExit):
            main()
    assert "report.html" in err.getvalue()
    return run


@pytest.mark.slow
def test_run_does_all_of_it(run_folder, checkpoint, corpus):
    trace = specialize.open_trace(run_folder)
    assert trace.num_documents == 40
    assert [router.layer for router in trace.layers] == [0, 1]
    assert trace.documents().columns.tolist() == ["id", "text", "theme"]
    for path in ("syntax/upos.csv", "syntax/upos.parquet", "topics/theme.csv", "report/report.html"):
        assert (run_folder / path).stat().st_size > 0
    assert list((run_folder / "report/figures").glob("*.pdf"))
    assert trace.manifest["command"].startswith(f"specialize run {checkpoint} {corpus} -o {run_folder} --text-column")
    assert trace.manifest["versions"]["transformers"]


@pytest.mark.slow
def test_syntax_and_topics_and_report_one_by_one(run_folder, call, tmp_path):
    code, out, _ = call("syntax", run_folder, "--permutations", "9", "--json")
    assert code == 0
    records = [record for record in json.loads(out) if record["label_set"] == "upos" and record["layer"] is not None]
    assert [record["layer"] for record in records] == [0, 1]
    assert all(0 <= record["p_value"] <= 1 and record["ci_low"] <= record["ci_high"] for record in records)
    code, out, _ = call("topics", run_folder, "--labels-only", "--permutations", "9")
    assert code == 0
    assert "theme" in out
    code, out, _ = call("report", run_folder, "-o", tmp_path / "page")
    assert (code, out.splitlines()[-1]) == (0, str(tmp_path / "page/report.html"))
    assert out.splitlines()[1].split()[:2] == ["figures", f"{len(list((tmp_path / 'page/figures').glob('*.pdf')))},"]


def test_trace_and_validate(checkpoint, corpus, call, tmp_path):
    columns = ("--text-column", "body", "--id-column", "name", "--label", "theme")
    code, out, err = call("trace", checkpoint, corpus, "-o", tmp_path / "run", *columns, "--limit", "5", "--json")
    assert code == 0
    assert "tracing" in err
    summary = json.loads(out)
    assert (summary["documents"], summary["layers"]) == (5, 2)
    assert summary["tokens"] == specialize.open_trace(tmp_path / "run").num_tokens
    code, out, _ = call("validate", tmp_path / "run")
    assert code == 0
    assert [line.split() for line in out.splitlines()[:-1]] == [
        ["file", "rows", "state"],
        ["trace/documents.arrow", "5", "ok"],
        *([f"trace/{kind}-00000.arrow", str(summary["tokens"]), "ok"] for kind in ("tokens", "routing")),
    ]
    assert out.splitlines()[-1] == f"{tmp_path / 'run'}: 3 files, all as the manifest says"
    damaged = tmp_path / "run/trace/tokens-00000.arrow"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    code, out, _ = call("validate", tmp_path / "run")
    assert code == 1
    assert re.search(r"trace/tokens-00000.arrow +0 +damaged: its checksum differs from the manifest's", out)
    assert out.splitlines()[-1].startswith(f"{tmp_path / 'run'}: 1 of 3 files not as the manifest says")


def test_several_files_and_a_pattern_are_the_corpus_of_their_folder(checkpoint, corpus, call, tmp_path):
    lines = corpus.read_text().splitlines(keepends=True)
    (tmp_path / "data").mkdir()
    files = [tmp_path / "data" / name for name in ("a.jsonl", "b.jsonl")]
    for file, part in zip(files, (lines[:3], lines[3:5]), strict=True):
        file.write_text("".join(part))
    columns = ("--text-column", "body", "--id-column", "name")
    assert call("trace", checkpoint, *files, "-o", tmp_path / "run", *columns)[0] == 0
    assert specialize.open_trace(tmp_path / "run").documents()["id"].tolist()[2:4] == ["a.jsonl:n2", "b.jsonl:n3"]
    for source in (tmp_path / "data", f"{tmp_path}/data/*"):
        code, _, err = call("trace", checkpoint, source, "-o", tmp_path / "run", *columns)
        assert code == 0
        assert "the trace is complete already" in err
    code, _, err = call("trace", checkpoint, files[0], "-", "-o", tmp_path / "run")
    assert code == 2
    assert err.strip() == "specialize: CORPUS: expected - alone, or several paths, got both; choose one"


def test_topics_without_anything_to_measure(checkpoint, corpus, call, tmp_path):
    columns = ("--text-column", "body", "--label", "name", "--limit", "8")
    assert call("trace", checkpoint, corpus, "-o", tmp_path / "run", *columns)[0] == 0
    expect_one_line(call("topics", tmp_path / "run", "--labels-only"), "expected a label column with 2 to 100 values")


def test_inspect(checkpoint, call):
    code, out, _ = call("inspect", checkpoint, "--json")
    assert code == 0
    assert [(spec["layer"], spec["name"], spec["num_experts"], spec["top_k"]) for spec in json.loads(out)] == [
        (0, "model.layers.0.mlp.experts", 4, 2),
        (1, "model.layers.1.mlp.experts", 4, 2),
    ]
    _, table, _ = call("inspect", checkpoint)
    assert "model.layers.1.mlp.experts" in table
    assert "softmax" in table


def test_everything_that_can_be_recorded(checkpoint, corpus, call, tmp_path):
    what = (
        "--control",
        "random-router",
        "--control-draws",
        "3",
        "--seed",
        "4",
        "--logits",
        "--norms",
        "--predictions",
        "--stride",
        "32",
    )
    code, out, err = call(
        "trace", checkpoint, corpus, "-o", tmp_path / "run", "--text-column", "body", *what, "--context", "48", "--json"
    )
    assert code == 0
    told = json.loads(out)
    trace = specialize.open_trace(tmp_path / "run")
    assert (told["layers"], told["tokens"]) == (2, trace.num_tokens)
    assert trace.contents == ("weights", "logits", "norms", "predictions")
    assert [spec.found_by for spec in trace.random_routers] == ["random router, seed 4"] * 2
    assert [len(trace.random_draws(spec.name)) for spec in trace.layers] == [3, 3]
    assert re.search(r"about [\d,]+ tokens in 40 documents, 8 routers: about [\d.]+ kB to write, [\d.]+ \w+ free", err)


def test_a_damaged_shard_is_named_and_made_anew(checkpoint, corpus, call, tmp_path):
    run = tmp_path / "run"
    command = ("trace", checkpoint, corpus, "-o", run, "--text-column", "body", "--no-weights")
    assert call(*command)[0] == 0
    path = run / "trace/routing-00000.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    code, out, _ = call("validate", run)
    assert code == 1
    assert re.search(r"trace/routing-00000.arrow +0 +damaged", out)
    assert "--repair" in out
    assert call(*command, "--repair")[0] == 0
    assert path.read_bytes() == whole
    assert call("validate", run)[0] == 0


def expect_one_line(result: tuple[int, str, str], pattern: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("specialize: ")]
    assert len(lines) == 1
    assert lines[0] == err.splitlines()[-1]
    assert re.search(pattern, lines[0])


def test_user_errors_are_one_line_and_exit_with_status_2(checkpoint, dense_checkpoint, corpus, call, tmp_path):
    run = tmp_path / "run"
    columns = ("--text-column", "body")
    missing = checkpoint.parent / "olmo"
    expect_one_line(call("trace", missing, corpus, "-o", run, *columns), "found no such folder. Did you mean 'olmoe'")
    expect_one_line(call("inspect", "no-such-model"), "expected a checkpoint folder or a hub id")
    expect_one_line(call("inspect", tmp_path), "expected a checkpoint folder with a config.json")
    expect_one_line(call("trace", dense_checkpoint, corpus, "-o", run, *columns), "a dense model has no routing")
    (tmp_path / "empty.jsonl").write_text("")
    expect_one_line(call("trace", checkpoint, tmp_path / "empty.jsonl", "-o", run), "at least one document")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": "not fi')
    expect_one_line(call("trace", checkpoint, broken, "-o", run), r"broken.jsonl, line 2")
    expect_one_line(call("trace", checkpoint, corpus, "-o", run), "text column|column")
    expect_one_line(call("syntax", tmp_path / "nowhere"), "expected a run folder, found none")
    expect_one_line(call("report", tmp_path, "-o", tmp_path / "page"), "manifest.json")
    expect_one_line(call("train", tmp_path / "no.toml", "-o", run), "expected a training configuration")
    assert not run.exists()  # nothing half-written


def test_an_unreadable_checkpoint_is_one_line(checkpoint, call, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    expect_one_line(call("inspect", tmp_path), "could not be loaded as a language model")


def test_an_existing_run_of_other_settings_is_kept(checkpoint, corpus, call, tmp_path):
    columns = ("--text-column", "body", "--limit", "3")
    assert call("trace", checkpoint, corpus, "-o", tmp_path / "run", *columns)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = call("trace", checkpoint, corpus, "-o", tmp_path / "run", *columns, "--context", "8")
    expect_one_line(again, "context_length: 64 there, 8 now")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", [None, *sorted(c.name or c.callback.__name__ for c in app.registered_commands)])
def test_help_is_there(command, call):
    code, out, _ = call(*([command] if command else []), "--help")
    assert code == 0
    assert " ".join(["Usage: specialize", *([command] if command else [])]) in out
    assert "--help" in out
    assert " -h " in out
    if command is None:
        places = [
            out.index(f"│ {name} ") for name in ("inspect", "trace", "syntax", "compare", "report", "run", "train")
        ]
        assert places == sorted(places)  # in the order of the work


def test_the_version(call):
    assert call("--version") == (0, f"specialize {specialize.__version__}\n", "")


def test_without_a_command_the_help_is_shown(call):
    code, out, err = call()
    assert code == 2
    assert "Record routing" in out + err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["validate", ".", "--frobnicate"], r"No such option: --frobnicate.* See `specialize validate --help`\.$"),
        (["sintax", "run"], r"No such command 'sintax'\. Did you mean 'syntax'\? See `specialize --help`\.$"),
        (["syntax"], r"Missing argument 'RUN'\. See `specialize syntax --help`\.$"),
        (["trace", "a", "b"], r"Missing option '-o' / '--output'"),
        (["syntax", "run", "--rule", "gates"], r"'--rule'.*'gates' is not one of 'selection', 'gate', 'first'"),
        (["routing", "run", "--permutations", "0"], r"'--permutations'.*greater than or equal to 1"),
        (["topics", "run", "--window", "many"], r"'--window'.*valid integer"),
    ],
)
def test_errors_in_the_options_are_one_line(call, arguments, problem):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("specialize: ")
    assert re.search(problem, line), line


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, specialize.cli.app; specialize.cli.app.load_commands(); "
        "print([m for m in HEAVY if m in sys.modules])"
    )
    heavy = ["torch", "transformers", "spacy", "bertopic", "numba", "pandas", "matplotlib", "sklearn"]
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {heavy}\n{code}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
