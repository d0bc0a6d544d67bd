"""A local server that answers as vLLM and SGLang do, with the routing of a model in transformers.

The experts are the top k of the router logits that transformers returns, one sequence at a time: nothing of this
package takes part.
"""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from numpy.typing import NDArray

SERVED = "served"
WHOLE = "an answer"  # what a server without faults gives


class Oracle:
    """Experts [tokens, layers, k] of a sequence, 0 in dense layers; each sequence is computed once.

    Args:
        model: whose router logits of the MoE layers decide alone.
        moe_layers: their numbers.
        num_layers: dense layers included.
    """

    def __init__(self, model: Any, moe_layers: Sequence[int], num_layers: int) -> None:
        self.model, self.moe_layers, self.num_layers = model, list(moe_layers), num_layers
        self._known: dict[tuple[int, ...], NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def experts(self, ids: Sequence[int]) -> NDArray[np.int64]:
        key = tuple(ids)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._compute(ids)
            return self._known[key]

    def continue_greedily(self, ids: Sequence[int], count: int, end: int | None) -> list[int]:
        """The likeliest tokens after a sequence, one forward pass for each, up to the one that ends it."""
        with self._lock:
            made: list[int] = []
            while len(made) < count and (not made or made[-1] != end):
                with torch.inference_mode():
                    made.append(int(self.model(torch.tensor([[*ids, *made]])).logits[0, -1].argmax()))
            return made

    def _compute(self, ids: Sequence[int]) -> NDArray[np.int64]:
        top_k = self.model.config.num_experts_per_tok
        with torch.inference_mode():
            logits = self.model(torch.tensor([list(ids)]), output_router_logits=True).router_logits
        experts = np.zeros((len(ids), self.num_layers, top_k), np.int64)
        for layer, scores in zip(self.moe_layers, logits, strict=True):
            experts[:, layer] = scores.topk(top_k).indices.numpy()
        return experts


@dataclass
class Plan:
    """How the server answers.

    Attributes:
        dtype: of the experts.
        as_lists: whether they are nested lists, otherwise base64.
        all_layers: whether dense layers are among them.
        in_two: whether vLLM gives those of prompt and generation in two places.
        longest: tokens that a prompt and its generation may have.
        fault: takes the number of a request for experts, from 0, and returns what happens to it.
        change: changes the experts of a sequence.
        names: of the models that are served.
        older: whether the server is an SGLang without ``/model_info``.
        released: when answers that are late come.
        read: sequences that were read before.
        requests: for experts, in order.
        keys: that were sent.
        most_at_once: largest number of requests at a time.
        end: id of the token that ends a generation.
        leaves_out_cached: whether the experts of a sequence that was read before are -1, apart from its last token.
    """

    dtype: str = "int32"
    as_lists: bool = False
    all_layers: bool = True
    in_two: bool = False
    longest: int | None = 4096
    fault: Callable[[int], str] = lambda number: WHOLE
    change: Callable[[NDArray[Any]], NDArray[Any]] = lambda experts: experts
    names: Sequence[str] = (SERVED,)
    older: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    end: int | None = None
    leaves_out_cached: bool = False
    read: set[tuple[int, ...]] = field(default_factory=set)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error of the server."""


class LocalServer:
    """Answers at `address`, as `plan` says."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.plan = Plan()
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def parse_request(self) -> bool:
                understood = super().parse_request()
                self.path = urlsplit(self.path).path if understood else ""  # a proxy is sent the whole address
                return understood

            def do_GET(self) -> None:
                owner.get(self)

            def do_POST(self) -> None:
                owner.post(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        self.plan.keys.add(handler.headers.get("Authorization"))
        if handler.path == "/v1/models":
            models = [{"id": name, "root": f"/{name}", "max_model_len": self.plan.longest} for name in self.plan.names]
            send(handler, 200, {"object": "list", "data": models})
        elif handler.path == ("/get_model_info" if self.plan.older else "/model_info"):
            send(handler, 200, {"model_path": "/models/served", "is_generation": True})
        else:
            send(handler, 404, {"detail": "Not Found"})

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.plan.requests)
            self.plan.requests.append(body)
            self.plan.at_once += 1
            self.plan.most_at_once = max(self.plan.most_at_once, self.plan.at_once)
        try:
            self._answer(handler, body, self.plan.fault(number))
        finally:
            with self._lock:
                self.plan.at_once -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: str) -> None:
        answer = self._vllm(body, fault) if handler.path == "/v1/completions" else self._sglang(body, fault)
        match fault:
            case "500" | "503" | "408" | "400" | "401":
                message = f"no: {handler.headers.get('Authorization')}\x1b[31m"
                send(handler, int(fault), {"error": {"message": message, "type": "Error"}})
            case "429":
                send(handler, 429, {"message": "slow down"}, {"Retry-After": "0"})
            case "late":
                self.plan.released.wait(60)
                handler.close_connection = True
            case "closed":
                handler.close_connection = True
            case "broken off":
                send(handler, 200, answer, {}, cut=0.5)
            case "half":
                data = json.dumps(answer).encode()
                send(handler, 200, data[: len(data) // 2])
            case "huge":
                send(handler, 200, b" " * 2**22)
            case "text":
                send(handler, 502, b"<html>Bad Gateway</html>")
            case _:
                send(handler, 200, answer)

    def _experts(self, ids: Sequence[int], fault: str) -> NDArray[Any]:
        experts = self.oracle.experts(ids)
        if fault == "zeros":
            experts = np.zeros_like(experts)
        if self.plan.leaves_out_cached and tuple(ids) in self.plan.read:
            experts = np.where(np.arange(len(ids))[:, None, None] < len(ids) - 1, -1, experts)
        self.plan.read.add(tuple(ids))
        experts = experts if self.plan.all_layers else experts[:, self.oracle.moe_layers]
        return self.plan.change(experts.astype(self.plan.dtype))

    def _continue(self, ids: Sequence[int], count: int) -> list[int]:
        return [3] if count == 1 else self.oracle.continue_greedily(ids, count, self.plan.end)

    def _payload(self, experts: NDArray[Any], *, npy: bool) -> Any:
        if self.plan.as_lists:
            return experts.tolist()
        file = io.BytesIO()
        if npy:
            np.save(file, experts)
        else:
            file.write(experts.astype("<i4").tobytes())
        return base64.b64encode(file.getvalue()).decode()

    def _vllm(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        read = ids = body["prompt"]
        if fault == "of another":
            read = ids = [*ids[1:], ids[0]]
        made = self._continue(ids, body["max_tokens"])
        experts = self._experts([*ids, *made[:-1]], fault)
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length", "token_ids": made}
        answer: dict[str, Any] = {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}
        assert body["return_token_ids"] is True
        assert body["model"] in self.plan.names
        choice["prompt_token_ids"] = read
        if fault == "none":
            choice["routed_experts"] = None
        elif self.plan.in_two:
            answer["prompt_routed_experts"] = self._payload(experts[: len(ids)], npy=True)
            choice["routed_experts"] = self._payload(experts[len(ids) :] if made[1:] else experts[:1], npy=True)
        else:
            choice["routed_experts"] = self._payload(experts, npy=True)
        return answer

    def _sglang(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        ids = body["input_ids"]
        assert body["return_routed_experts"] is True
        made = self._continue(ids, body["sampling_params"]["max_new_tokens"])
        facts = {
            "id": body["rid"] if fault != "of another" else "0",
            "finish_reason": {"type": "length", "length": len(made)},
            "prompt_tokens": len(ids),
            "completion_tokens": len(made),
            "cached_tokens": 0,
        }
        if fault != "none":
            facts["routed_experts"] = self._payload(self._experts([*ids, *made[:-1]], fault), npy=False)
        return {"text": "x", "output_ids": made, "meta_info": facts}


def send(
    handler: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None, cut: float = 1
) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(status)
    for name, text in (headers or {}).items():
        handler.send_header(name, text)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: int(len(data) * cut)])
    handler.wfile.flush()
    if cut < 1:
        handler.close_connection = True


@contextmanager
def serve(oracle: Oracle) -> Iterator[LocalServer]:
    server = LocalServer(oracle)
    try:
        yield server
    finally:
        server.close()
