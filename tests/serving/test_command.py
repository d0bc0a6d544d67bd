"""The command: what it prints, and errors in one line with status 2."""

import json

import pytest

from serving.local_server import Plan
from specialize.trace import open_trace


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts[:12]), encoding="utf-8")
    return path


def test_a_served_model_is_traced_and_measured(server, checkpoint, corpus, call, tmp_path):
    run = tmp_path / "run"
    code, out, _ = call(
        "trace",
        checkpoint,
        corpus,
        "-o",
        run,
        "--server",
        server.address,
        "--concurrency",
        2,
        "--timeout",
        60,
        "--json",
    )
    assert code == 0
    assert json.loads(out)["tokens"] == open_trace(run).num_tokens
    assert server.plan.most_at_once <= 2
    assert call("validate", run)[0] == 0
    assert call("routing", run)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server", "http://me:word@host"], "expected an address without a user name"),
        (["--server", "{server}", "--logits"], "logits: expected it only without a server"),
        (["--server", "{server}", "--api", "sglang", "--served-model", "a"], "served_model: expected it only with"),
        (["--concurrency", "3"], "concurrency: expected it only with the address of a server"),
        (["--server", "{server}"], "the server returns none; start it as vllm serve"),
    ],
)
def test_errors_are_one_line(options, message, server, checkpoint, corpus, call, tmp_path):
    server.plan = Plan(fault=lambda number: "none")
    given = [option.format(server=server.address) for option in options]
    code, out, err = call("trace", checkpoint, corpus, "-o", tmp_path / "run", *given)
    assert (code, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("specialize: ")]
    assert message in line
    assert err.endswith(f"{line}\n")
    assert "word@" not in err
    assert not (tmp_path / "run").exists()
