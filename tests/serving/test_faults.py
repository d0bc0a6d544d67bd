"""Whatever a server does wrong ends in the same trace, or in one clear line with what was written kept."""

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import numpy as np
import pytest

import specialize
from listening import Listener
from serving.local_server import WHOLE, Plan
from serving.test_traced import check_same
from specialize.errors import CaptureError
from specialize.serving.client import _asked_delay
from specialize.trace import validate_trace

API = pytest.mark.parametrize("api", ["vllm", "sglang"])


@pytest.fixture(scope="module")
def few(texts):
    return texts[:40]


@pytest.fixture(scope="module")
def hooked(checkpoint, few, tmp_path_factory):
    run = tmp_path_factory.mktemp("hooks") / "run"
    return specialize.trace_corpus(checkpoint, few, run, context=48, batch_tokens=1, weights=False)


@pytest.fixture
def trace(server, checkpoint, few, tmp_path):
    def run(**how):
        given = {"server": server.address, "context": 48, **how}
        return specialize.trace_corpus(checkpoint, few, tmp_path / "run", **given)

    return run


def once_in(requests: int, fault: str):
    """A fault of one request in so many; the first one is answered."""
    return lambda number: fault if number % requests == 1 else WHOLE


@API
@pytest.mark.parametrize(
    "fault", ["500", "503", "429", "408", "text", "closed", "broken off", "half", "none", "of another"]
)
def test_a_fault_of_some_requests_changes_nothing(fault, api, server, trace, hooked):
    server.plan = Plan(fault=once_in(5, fault))
    check_same(trace(api=api), hooked)
    assert len(server.plan.requests) > 45  # some were sent again


ALWAYS = {
    "500": "status 500 .no: None",
    "429": "status 429 .slow down",
    "closed": "Server disconnected",
    "half": "an answer of .* bytes that is no JSON",
    "of another": "an answer to another request",
    "huge": "expected an answer of at most .* bytes, got a longer one",
}


@API
@pytest.mark.parametrize("fault", ALWAYS)
def test_a_fault_of_all_requests_is_one_line_and_nothing_is_written(fault, api, server, trace, tmp_path):
    server.plan = Plan(fault=lambda number: fault)
    with pytest.raises(CaptureError, match=ALWAYS[fault]) as raised:
        trace(api=api)
    check_line(raised)
    assert len(server.plan.requests) == (1 if fault == "huge" else 8)
    assert not (tmp_path / "run").exists()


def test_requests_that_were_sent_again_are_counted(server, trace):
    server.plan = Plan(fault=once_in(10, "503"))
    listener = Listener()
    trace(reporter=listener)
    [note] = [note for note in listener.notes if "sent again" in note]
    failed = sum(number % 10 == 1 for number in range(len(server.plan.requests)))
    assert f"sent again: {failed}, the last time after status 503" in note


def test_answers_that_come_too_late_are_asked_for_again(server, trace, hooked):
    server.plan = Plan(fault=once_in(10, "late"))
    check_same(trace(timeout=1, concurrency=8), hooked)


def test_a_server_that_fails_late_keeps_what_is_written_and_the_trace_resumes(
    server, trace, hooked, tmp_path, monkeypatch
):
    monkeypatch.setattr("specialize.tracing.run.min", lambda *_: 64, raising=False)  # many shards
    server.plan = Plan(fault=lambda number: WHOLE if number < 20 else "500")
    with pytest.raises(CaptureError, match="failed 8 times, the last time with status 500") as raised:
        trace(concurrency=4)
    check_line(raised)
    written = sorted((tmp_path / "run" / "trace").glob("routing-*"))
    assert written
    server.plan = Plan()
    check_same(trace(), hooked)
    windows = len(hooked.tokens(["sequence"])["sequence"].unique())
    assert len(server.plan.requests) < windows - len(written)  # not those of the shards that were kept


def corrupt(experts, what):
    """Change the experts [tokens, layers, k] of a sequence."""
    changed = experts.astype(np.int64)
    match what:
        case "beyond E":
            changed[-1, -1, -1] = 8
        case "twice":
            changed[-1, -1] = 3
        case "cached":
            changed[:-1] = -1
        case "zeros":
            changed[:] = 0
        case "fewer rows":
            changed = changed[:-1]
        case "fewer layers":
            changed = changed[:, :1]
        case "another k":
            changed = changed[:, :, :1]
        case "no numbers":
            changed = changed + 0.5
    return changed


WRONG = {
    "beyond E": "layer 2: expected an expert id from 0 to 7, got 8",
    "twice": "layer 2: expected 2 different experts, got expert 3 twice",
    "cached": "layer 1: expected the expert that was chosen, got -1.*--no-enable-prefix-caching",
    "zeros": "expert 0 for every token in every layer: the server recorded nothing",
    "fewer rows": "expected experts of the tokens 0 to .* got .* rows",
    "fewer layers": "expected .*layers.* got 1",
    "another k": "k = 2, got .* k = 1",
    "no numbers": r"integers \[tokens, layers, k\], got float64",
}


@pytest.mark.parametrize("what", WRONG)
def test_experts_that_no_router_chose_are_an_error_before_anything_is_written(what, server, trace, tmp_path):
    server.plan = Plan(as_lists=True, change=lambda experts: corrupt(experts, what))
    with pytest.raises(CaptureError, match=WRONG[what]) as raised:
        trace()
    check_line(raised)
    assert len(server.plan.requests) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", WRONG)
def test_experts_that_no_router_chose_are_an_error_in_the_middle(what, server, trace, tmp_path, hooked):
    count = iter(range(10**6))
    server.plan = Plan(as_lists=True, change=lambda each: corrupt(each, what) if next(count) == 20 else each)
    with pytest.raises(
        CaptureError, match=f"document [0-9]+ .*{WRONG[what]}" if what != "fewer layers" else "got 1"
    ) as raised:
        trace()
    check_line(raised)
    server.plan = Plan()
    check_same(trace(), hooked)
    assert not [check for check in validate_trace(tmp_path / "run") if check.problem]


@pytest.mark.parametrize(
    ("api", "option"), [("vllm", "--no-enable-prefix-caching"), ("sglang", "--disable-radix-cache")]
)
def test_a_server_that_leaves_out_what_it_has_in_its_cache_is_noticed_at_once(api, option, server, trace, tmp_path):
    server.plan = Plan(leaves_out_cached=True)
    with pytest.raises(
        CaptureError, match=rf"sent again: token 0, layer 1: .* got -1.*start it with {option}"
    ) as raised:
        trace(api=api)
    check_line(raised)
    assert len(server.plan.requests) == 2
    assert not (tmp_path / "run").exists()


@API
def test_a_server_without_the_option_is_an_error_that_names_it(api, server, trace, tmp_path):
    server.plan = Plan(fault=lambda number: "none")
    with pytest.raises(CaptureError, match=r"returns none; start it as .*--enable-return-routed-experts") as raised:
        trace(api=api)
    check_line(raised)
    assert len(server.plan.requests) == 1
    assert not (tmp_path / "run").exists()


@API
def test_a_server_that_is_down_is_one_line(api, trace, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(CaptureError, match=f"{address}: expected a server there, found none") as raised:
            trace(api=api, server=address)
    check_line(raised)
    assert not (tmp_path / "run").exists()


def test_another_kind_of_server_is_one_line(server, trace):
    with pytest.raises(
        CaptureError, match=r"rejected the request with status 404 \(Not Found\); correct --server or --api"
    ):
        trace(server=f"{server.address}/other")


def test_a_rejected_request_is_not_sent_again_and_shows_no_key(server, trace, monkeypatch):
    monkeypatch.setenv("SPECIALIZE_API_KEY", "sk-secret")
    for status in ("400", "401"):
        server.plan = Plan(fault=lambda number, status=status: status)
        with pytest.raises(CaptureError, match=rf"status {status} \(no: Bearer …") as raised:
            trace()
        check_line(raised)
        assert "secret" not in str(raised.value)
        assert len(server.plan.requests) == 1


def test_the_delay_that_a_server_asks_for_is_kept(monkeypatch):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100))
    asked = {"7": 7, "0": 0, "": 0, "soon": 0, "-3": 0, "9" * 30: 600, "Wed, 21 Oct 2015 07:28:00 GMT": 0, soon: 100}
    for value, seconds in asked.items():
        assert _asked_delay(httpx.Headers({"Retry-After": value})) == pytest.approx(seconds, abs=2)


def check_line(raised) -> None:
    text = str(raised.value)
    assert text
    assert text.isprintable()
    assert len(text) < 400
