"""Ctrl-C says in one line what is kept and how to resume, for the commands that keep something."""

import time

import pytest

import specialize

ARGUMENTS = {
    "trace": ("model", "corpus.jsonl", "-o", "run"),
    "run": ("model", "corpus.jsonl", "-o", "run"),
    "train": ("config.toml", "-o", "model"),
    "annotate": ("run", "--from", "labels.csv"),
    "import": ("arrays", "a.npz", "-o", "run"),
    "figures": ("run", "-o", "out"),
    "report": ("run", "-o", "out"),
    "compare": ("run", "run"),
}
FUNCTIONS = {"trace": "trace_corpus", "import": "import_trace"}


@pytest.fixture
def interrupt(call, monkeypatch, tmp_path):
    """Run a command that is interrupted; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(specialize, FUNCTIONS.get(command, command), stop, raising=False)
        return call(command, *ARGUMENTS.get(command, ("run",)))

    return run


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("trace", "the shards that were finished are kept; run the same command again to resume"),
        ("run", "the shards, labels and results that were finished are kept; run the same command again to resume"),
        ("syntax", "tags and results that were finished are kept; run the same command again to measure all"),
        ("topics", "topics and results that were finished are kept; run the same command again to measure all"),
        ("annotate", "labels and results that were finished are kept; run the same command again to measure all"),
        ("probe", "results that were finished are kept; run the same command again to measure all"),
        ("train", "the last checkpoint is kept; run the same command again to resume from it"),
    ],
)
def test_what_is_kept_is_named(interrupt, command, kept):
    code, out, err = interrupt(command)
    assert (code, out) == (130, "")
    assert err.startswith(f"specialize: interrupted; {kept}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["import", "export", "routing", "vocabulary", "compare", "report", "figures"])
def test_nothing_is_promised_where_nothing_is_kept(interrupt, command):
    assert interrupt(command) == (130, "", "specialize: interrupted\n")


def test_an_interrupt_while_an_object_is_finalized_is_not_forgotten(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    class Finalized:
        def __del__(self):
            raise KeyboardInterrupt

    def export(*_, **__):
        Finalized()
        time.sleep(5)  # until the interrupt comes again

    monkeypatch.setattr(specialize, "export", export, raising=False)
    code, _, err = call("export", "run")
    assert code == 130
    assert err.splitlines()[-1] == "specialize: interrupted"
    assert "Traceback" not in err
