"""What vLLM and SGLang are asked, and where their answers hold the experts of a prompt.

Where only the prompt is traced they are asked for one token, the fewest they generate: the experts of the prompt come
with it. Rows of a generation follow those of its prompt, without one for its last token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specialize.errors import CaptureError, did_you_mean
from specialize.serving.client import Client, RejectedError, TryAgainError
from specialize.text import clean_text, cut_name, list_names
from specialize.trace.imports.responses import ServedTokens, read_sglang, read_vllm

_LARGEST_LIST = 2**20  # bytes of an answer about the models of a server


class MissingExpertsError(TryAgainError):
    """An answer without experts: as of every request without the server's option, or of one that was preempted."""


@dataclass(frozen=True)
class Answer:
    """What a server says of a sequence.

    Attributes:
        experts: integers [rows, layers, k], a row for each token of the prompt and of the generation but its last one;
            there may be more.
        generated: int32 [generated], ids of the tokens that were generated.
    """

    experts: NDArray[np.integer]
    generated: NDArray[np.int32]


class Api(Protocol):
    """How a server is asked."""

    path: str
    to_start: str  # what a server must be started with
    without_cache: str  # the option with which it reads every token of a prompt

    async def find_model(self, client: Client, name: str, wanted: str | None) -> "ServedModel":
        """Return the model that is served; the first request to a server."""
        ...

    def body(self, token_ids: list[int], request_id: str, served: str | None, *, generate: int) -> dict[str, Any]:
        """Return the request for a sequence, and at most so many tokens after it."""
        ...

    def read(self, answer: Any, token_ids: list[int], request_id: str, *, top_k: int, where: str) -> Answer:
        """Return what an answer says.

        Raises:
            TryAgainError: the answer is to another request or broken off.
            MissingExpertsError: it holds no experts.
            CaptureError: it does not say which tokens were read, or which experts first.
            TraceError: it holds something else in place of experts.
        """
        ...


@dataclass(frozen=True)
class ServedModel:
    """What a server says of its model.

    Attributes:
        name: as it is called in requests, or the path that the server loaded it from; None if it does not say.
        longest: largest number of tokens of a prompt and its generation; None if it does not say.
    """

    name: str | None
    longest: int | None = None


class Vllm:
    """vLLM's ``/v1/completions``."""

    path = "/v1/completions"
    to_start = "vllm serve MODEL --enable-return-routed-experts"
    without_cache = "--no-enable-prefix-caching"

    async def find_model(self, client: Client, name: str, wanted: str | None) -> ServedModel:
        """Return the model of ``/v1/models`` that is asked for, or that has this name, or the only one."""
        listed = await client.ask("/v1/models", read=_read_models, largest=_LARGEST_LIST, is_first=True)
        names = [str(each["id"]) for each in listed]
        if wanted is not None and wanted not in names:
            raise CaptureError(
                f"served_model: expected a model that {client.address} serves ({clean_text(list_names(names))}), got "
                f"{cut_name(wanted)!r}.{did_you_mean(wanted, names)}"
            )
        chosen = [each for each in listed if wanted in (None, each["id"])]
        if len(chosen) > 1:
            chosen = [each for each in chosen if name in (each["id"], each.get("root"))]
        if len(chosen) != 1:
            raise CaptureError(
                f"{client.address}: expected one model, the server has {len(names)} ({clean_text(list_names(names))}); "
                "choose one with --served-model"
            )
        longest = chosen[0].get("max_model_len")
        return ServedModel(chosen[0]["id"], longest if type(longest) is int and longest > 0 else None)

    def body(self, token_ids: list[int], request_id: str, served: str | None, *, generate: int) -> dict[str, Any]:
        """Return the request for a sequence; its tokens come back, and say whose answer it is."""
        return {
            "model": served,
            "prompt": token_ids,
            "max_tokens": generate,
            "temperature": 0,
            "return_token_ids": True,
        }

    def read(self, answer: Any, token_ids: list[int], request_id: str, *, top_k: int, where: str) -> Answer:
        """Return ``prompt_routed_experts`` with what follows, or ``routed_experts``, which holds all of them then."""
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise TryAgainError("an answer that is no completion with one choice")
        holders = choices[0], answer
        read = _first(holders, "prompt_token_ids")
        if read is None:
            raise CaptureError(
                f"{where}: expected an answer with prompt_token_ids, as asked for with return_token_ids, got none; use "
                "a newer version of vLLM, or --api sglang for a server of SGLang"
            )
        if read != token_ids:
            raise TryAgainError("an answer to another request: the tokens that the server read are not those sent")
        generated = _read_ids(choices[0].get("token_ids"))
        if _first(holders, "prompt_routed_experts") is not None and len(generated) < 2:  # nothing else was routed
            answer = {**answer, "choices": [{**choices[0], "routed_experts": []}]}
        elif _first(holders, "routed_experts") is None:
            raise MissingExpertsError("an answer without routed experts, as of a request that was preempted")
        [served] = read_vllm(answer, where)
        if served is None:
            raise MissingExpertsError("an answer without routed experts, as of a request that was preempted")
        return Answer(_from_the_start(served, where), generated)


class Sglang:
    """SGLang's ``/generate``."""

    path = "/generate"
    to_start = "python -m sglang.launch_server --model-path MODEL --enable-return-routed-experts"
    without_cache = "--disable-radix-cache"

    async def find_model(self, client: Client, name: str, wanted: str | None) -> ServedModel:
        """Return the model that ``/model_info`` names, which earlier versions call ``/get_model_info``."""
        try:
            return await client.ask("/model_info", read=_read_info, largest=_LARGEST_LIST, is_first=True)
        except RejectedError as error:
            if error.status != 404:
                raise
        return await client.ask("/get_model_info", read=_read_info, largest=_LARGEST_LIST)

    def body(self, token_ids: list[int], request_id: str, served: str | None, *, generate: int) -> dict[str, Any]:
        """Return the request for a sequence; its id comes back, and says whose answer it is."""
        return {
            "input_ids": token_ids,
            "sampling_params": {"max_new_tokens": generate, "temperature": 0},
            "return_routed_experts": True,
            "rid": request_id,
        }

    def read(self, answer: Any, token_ids: list[int], request_id: str, *, top_k: int, where: str) -> Answer:
        """Return the experts of ``meta_info.routed_experts``."""
        facts = answer.get("meta_info") if isinstance(answer, dict) else None
        if not isinstance(facts, dict):
            raise TryAgainError("an answer without meta_info")
        ended = facts.get("finish_reason")
        if isinstance(ended, dict) and ended.get("type") == "abort":
            raise TryAgainError(f"an aborted request ({cut_name(clean_text(ended.get('message')), 200)})")
        read, own = _first((facts, answer), "prompt_token_ids"), facts.get("id")
        if facts.get("prompt_tokens") != len(token_ids) or own != request_id or read not in (None, token_ids):
            raise TryAgainError(
                "an answer to another request: its id or its number of tokens is not that of the request"
            )
        experts = facts.get("routed_experts")
        if experts is None:
            raise MissingExpertsError("an answer without routed experts")
        generated = _read_ids(answer.get("output_ids"))
        rows = len(token_ids) + max(len(generated), 1) - 1  # the last token that is generated is not routed
        [served] = read_sglang({"meta_info": facts}, where, shape=(_layers_of(experts, rows, top_k), top_k))
        return Answer(_from_the_start(served, where), generated)


APIS: Mapping[str, Api] = {"vllm": Vllm(), "sglang": Sglang()}


def _first(holders: tuple[Mapping[str, Any], ...], name: str) -> Any:
    return next((each[name] for each in holders if each.get(name) is not None), None)


def _read_ids(ids: Any) -> NDArray[np.int32]:
    """Return the ids of generated tokens; none if an answer does not say which they are."""
    known = isinstance(ids, list) and all(type(each) is int and 0 <= each < 2**31 for each in ids)
    return np.array(ids if known else [], dtype=np.int32)


def _layers_of(payload: Any, rows: int, top_k: int) -> int:
    """Return the number of layers of int32 in base64, which does not state it; at least 1."""
    size = len(payload) * 3 // 4 - payload.count("=") if isinstance(payload, str) else 0
    return max(1, size // (4 * rows * top_k))


def _from_the_start(served: ServedTokens, where: str) -> NDArray[np.integer]:
    if served.first:
        raise CaptureError(f"{where}: expected the experts from the first token, got them from token {served.first}")
    return served.experts


def _read_models(answer: Any) -> list[dict[str, Any]]:
    listed = answer.get("data") if isinstance(answer, dict) else None
    listed = listed if isinstance(listed, list) else []
    found = [each for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]
    if not found:
        raise CaptureError("/v1/models: expected a list of models, got none; is this a server of vLLM?")
    return found


def _read_info(answer: Any) -> ServedModel:
    name = answer.get("model_path") if isinstance(answer, dict) else None
    return ServedModel(name if isinstance(name, str) else None)
