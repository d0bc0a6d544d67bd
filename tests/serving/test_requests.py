"""What a server is sent, what is written of it, and which options apply."""

import asyncio
import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import specialize
from listening import Listener
from serving.local_server import WHOLE, Plan
from specialize.errors import CaptureError, TraceError
from specialize.serving.options import ServerOptions
from specialize.trace.verified import forget

SECRET = "sk-very-secret"


@pytest.fixture(scope="module")
def few(texts):
    return texts[:12]


@pytest.fixture
def trace(server, checkpoint, few, tmp_path):
    def run(**how):
        given = {"model": checkpoint, "server": server.address, "context": 48, **how}
        return specialize.trace_corpus(given.pop("model"), given.pop("corpus", few), tmp_path / "run", **given)

    return run


def test_the_key_is_sent_and_stored_nowhere(server, trace, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SPECIALIZE_API_KEY", SECRET)
    listener = Listener()
    trace(reporter=listener)
    assert server.plan.keys == {f"Bearer {SECRET}"}
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes()
    assert SECRET not in "".join([*listener.notes, *capfd.readouterr()])


def test_a_key_that_is_sent_without_encryption_is_a_warning(server, trace, monkeypatch):
    monkeypatch.setenv("SPECIALIZE_API_KEY", SECRET)
    monkeypatch.setattr("specialize.serving.run._LOCAL", ())
    listener = Listener()
    trace(reporter=listener)
    [warning] = [note for note in listener.notes if note.startswith("warning")]
    assert "the API key is sent without encryption" in warning
    assert SECRET not in warning


def test_a_key_that_cannot_be_sent_is_not_shown(trace, monkeypatch):
    monkeypatch.setenv("SPECIALIZE_API_KEY", f"{SECRET}\n")
    with pytest.raises(CaptureError, match="SPECIALIZE_API_KEY: expected an API key of ASCII") as raised:
        trace()
    assert SECRET not in str(raised.value)


def test_a_proxy_of_the_environment_is_used_except_for_the_servers_it_excludes(server, trace, few, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    for excluded in ("other.example, served.invalid", "served.invalid:8000", "*"):
        monkeypatch.setenv("no_proxy", excluded)
        with pytest.raises(CaptureError, match=r"served\.invalid:8000: expected a server there, found none"):
            trace(server="http://served.invalid:8000")
    monkeypatch.setenv("no_proxy", "other.example, served.invalid:80")
    assert trace(server="http://served.invalid:8000").num_documents == len(few)


def test_a_proxy_that_cannot_be_used_is_an_error(trace, monkeypatch):
    monkeypatch.setenv("all_proxy", "gopher://me:word@proxy")
    with pytest.raises(CaptureError, match="expected a proxy that httpx can use in the environment") as raised:
        trace()
    assert "word@" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    ["http://me:word@host", "me:word@host:8000", "http://host/?key=word", "http://host/#word", "https://word@host"],
)
def test_an_address_that_may_hold_a_secret_is_an_error_that_does_not_show_it(address):
    with pytest.raises(CaptureError, match="server: expected an address") as raised:
        ServerOptions(address)
    assert "word@" not in str(raised.value)
    assert "=word" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["", "localhost:8000", "ftp://host", "http://", "http://host:port", "http://a b", 3]
)
def test_what_is_no_address_is_an_error(address):
    with pytest.raises(CaptureError, match="server: expected an address such as http://localhost:8000"):
        ServerOptions(address)


def test_an_address_may_end_with_the_path_of_the_api():
    for address in ("http://host:8000", "http://host:8000/", "http://host:8000/v1", " http://host:8000/v1/ "):
        assert ServerOptions(address).address == "http://host:8000"
    assert ServerOptions("https://host/models/a/v1").address == "https://host/models/a"
    assert ServerOptions("http://[::1]:8000").address == "http://[::1]:8000"


def test_the_manifest_names_the_server_and_what_was_assumed_is_said(server, trace, checkpoint):
    listener = Listener()
    opened = trace(reporter=listener)
    manifest = opened.manifest
    assert manifest["model"]["server"] == {"address": server.address, "api": "vllm", "served_model": "served"}
    assert manifest["model"]["config"]["model_type"] == "qwen3_moe"
    assert manifest["settings"]["served_model"] == "served"
    assert {spec.found_by for spec in opened.layers} == {"answers of vllm"}
    said = "\n".join(listener.notes)
    assert "the server returns all 3 layers; the dense ones by the configuration of" in said
    assert "no gate weights" in said
    steps = [step for step in listener.steps if step.title == "tracing"]
    assert (steps[-1].done, steps[-1].total) == (12, 12)
    assert steps[-1].rate.endswith(" tokens/s")


def test_what_was_assumed_of_the_moe_layers_alone_is_said(server, trace):
    server.plan = Plan(all_layers=False)
    listener = Listener()
    trace(reporter=listener)
    assert any("returns 2 layers: taken as the MoE layers" in note for note in listener.notes)


def test_experts_of_a_dense_layer_are_a_warning(server, trace):
    server.plan = Plan(change=lambda experts: np.where(np.arange(3)[None, :, None] == 0, [[[5, 6]]], experts))
    listener = Listener()
    trace(reporter=listener)
    assert any("warning: the server returns experts for layers that are dense" in note for note in listener.notes)


def test_a_complete_trace_needs_no_server_and_any_address_resumes_it(server, trace, tmp_path, few):
    first = trace()
    listener = Listener()
    again = trace(server="http://127.0.0.1:9", reporter=listener)
    assert again.digest == first.digest
    assert "the trace is complete already" in listener.notes[-1]
    longer = trace(corpus=[*few, "violin songs"], server=f"{server.address}/v1")
    assert longer.num_documents == first.num_documents + 1
    assert longer.manifest["shards"][0] == first.manifest["shards"][0]


def test_a_damaged_shard_is_asked_for_again(server, trace, tmp_path):
    before = trace()
    file = tmp_path / "run" / "trace" / "routing-00000.arrow"
    data = file.read_bytes()
    file.write_bytes(data[:-40])
    forget()
    assert trace(repair=True).digest == before.digest
    assert file.read_bytes() == data


def test_another_model_on_the_server_is_an_error(server, trace, tmp_path, few):
    trace()
    server.plan = Plan(names=("other",))
    with pytest.raises(TraceError, match="served_model: 'served' there, 'other' now"):
        trace(corpus=[*few, "songs"])
    with pytest.raises(TraceError, match="api: 'vllm' there, 'sglang' now"):
        trace(api="sglang")
    with pytest.raises(TraceError, match="other settings"):
        trace(server=None, device="cpu")


def test_one_of_several_models_is_chosen_by_name(server, trace):
    server.plan = Plan(names=("served", "adapter"))
    with pytest.raises(CaptureError, match=r"the server has 2 \(served, adapter\); choose one with --served-model"):
        trace()
    with pytest.raises(CaptureError, match=r"expected a model that .* serves .* Did you mean 'served'"):
        trace(served_model="serve")
    assert trace(served_model="adapter").manifest["settings"]["served_model"] == "adapter"
    assert {request["model"] for request in server.plan.requests} == {"adapter"}


def test_a_window_that_the_server_does_not_take_is_an_error(server, trace):
    server.plan = Plan(longest=48)
    with pytest.raises(CaptureError, match=r"context: expected at most 47 tokens.*takes 48.*--context"):
        trace()
    assert trace(context=47).manifest["settings"]["context_length"] == 47


def test_the_default_window_leaves_room_for_the_generated_token(trace, checkpoint):
    assert json.loads((checkpoint / "config.json").read_text())["max_position_embeddings"] == 64
    assert trace(context=None).manifest["settings"]["context_length"] == 63


def test_requests_are_bounded(server, trace):
    trace(concurrency=3)
    assert server.plan.most_at_once <= 3


def test_it_works_where_an_event_loop_runs(trace):
    async def cell():
        return trace()

    assert asyncio.run(cell()).num_documents == 12


def test_an_interrupt_ends_the_requests_and_the_trace_resumes(server, trace, few):
    class Interrupting(Listener):
        @contextmanager
        def progress(self, title, unit):
            def interrupt(*_, rate=None):
                raise KeyboardInterrupt

            with super().progress(title, unit) as update:
                yield interrupt if title == "tracing" else update

    server.plan = Plan(fault=lambda number: WHOLE if number < 6 else "late")
    with pytest.raises(KeyboardInterrupt):
        trace(reporter=Interrupting())  # while most requests are under way
    server.plan.released.set()
    server.plan = Plan()
    assert trace().num_documents == len(few)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("dtype", "float32"),
        ("device", "cpu"),
        ("device_map", "auto"),
        ("revision", "main"),
        ("trust_remote_code", True),
        ("allow_missing_weights", True),
        ("tokenizer", "folder"),
        ("batch_tokens", 100),
        ("logits", True),
        ("norms", True),
        ("predictions", True),
        ("control", "random-router"),
    ],
)
def test_options_of_a_model_in_this_process_are_errors(option, value, server, trace, tmp_path):
    with pytest.raises(CaptureError, match=f"^{option}: expected it only without a server"):
        trace(**{option: value})
    assert not server.plan.requests
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("api", "sglang"), ("served_model", "a"), ("concurrency", 2), ("timeout", 1)]
)
def test_options_of_a_server_without_one_are_errors(option, value, trace):
    with pytest.raises(CaptureError, match=f"^{option}: expected it only with the address of a server"):
        trace(server=None, **{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api": "tgi"}, "api: expected one of vllm, sglang, got 'tgi'"),
        ({"concurrency": 0}, "concurrency: expected a positive number, got 0"),
        ({"concurrency": 2.5}, "concurrency: expected a whole number"),
        ({"timeout": 0}, "timeout: expected a positive number of seconds, got 0"),
        ({"timeout": float("nan")}, "timeout: expected a positive number"),
        ({"api": "sglang", "served_model": "a"}, "served_model: expected it only with the API vllm"),
    ],
)
def test_options_out_of_range_are_errors(options, message, trace):
    with pytest.raises(CaptureError, match=message):
        trace(**options)


def test_a_loaded_model_is_an_error(trace):
    with pytest.raises(CaptureError, match="model: expected with a server the folder or hub id"):
        trace(model=object())


def test_a_dense_model_is_an_error_before_the_server_is_asked(server, trace, checkpoint, tmp_path):
    dense = tmp_path / "dense"
    shutil.copytree(checkpoint, dense)
    (dense / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2}')
    with pytest.raises(
        TraceError,
        match=r"expected the configuration of a Mixture-of-Experts model.* give the MODEL that the server runs",
    ):
        trace(model=dense)
    assert not server.plan.keys


def test_neither_torch_nor_weights_are_needed(server, checkpoint, tmp_path):
    """A machine that asks a server has the tokenizer and the configuration alone."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    code = f"""
import sys
sys.modules["torch"] = None  # as where it is not installed
import specialize
trace = specialize.trace_corpus({str(folder)!r}, ["river water", "cold stones"], {str(tmp_path / "run")!r},
                                server={server.address!r})
print(trace.num_documents)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr
