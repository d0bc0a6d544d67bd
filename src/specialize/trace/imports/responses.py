"""One response of an inference server, as JSON: which tokens it says the experts of.

Pure functions from a decoded response to arrays, for importers and for whoever asks a server. The layouts are those
that vLLM (0.21 and later) and SGLang document, and their sources; no real server was tried.

A model reads every token of a sequence but the last one that it generated, which therefore has no routing: a response
with P tokens of a prompt and G generated ones has P + G − 1 rows, less those before the position from which routing was
asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.imports.payloads import read_experts, read_flat, read_lists
from specialize.trace.schema import PHASES, UNKNOWN

_EXTENSION_FIELDS = ("sgl_ext", "sglext")
_PROMPT_IDS = ("prompt_token_ids", "input_ids", "input_token_ids")
_OUTPUT_IDS = ("token_ids", "output_ids", "output_token_ids")
_MOST = 2**31  # tokens of a sequence, and ids of tokens

Json = Mapping[str, Any]


@dataclass(frozen=True)
class ServedTokens:
    """The tokens of a response, or of one of its choices, whose experts were returned.

    Attributes:
        key: id of the response, with the number of the choice (``id:1``) if there are several; None without an id.
        experts: integers [tokens, layers, k], in rank order; -1 in a slot without a record.
        token_ids: int32 [tokens]; UNKNOWN (-1) where the response does not say.
        first: position of the first of these tokens in the sequence, prompt included.
        prompt_tokens: number of tokens of the whole prompt; None if the response does not say.
    """

    key: str | None
    experts: NDArray[np.integer]
    token_ids: NDArray[np.int32]
    first: int
    prompt_tokens: int | None

    @property
    def position(self) -> NDArray[np.int64]:
        """Positions of the tokens in the sequence, int64 [tokens]."""
        return self.first + np.arange(len(self.experts))

    @property
    def phase(self) -> NDArray[np.uint8]:
        """Index into `PHASES` of each token, uint8 [tokens]; prefill if the length of the prompt is not known."""
        generated = self.position >= (_MOST if self.prompt_tokens is None else self.prompt_tokens)
        return np.where(generated, PHASES.index("generation"), PHASES.index("prefill")).astype(np.uint8)


def read_vllm(response: Any, where: str) -> list[ServedTokens | None]:
    """Read a response of vLLM, of any of its interfaces.

    Lists in ``prompt_routed_experts`` of the response and in ``routed_experts`` of each choice, or there alone the
    base64 of an array that `numpy.save` wrote.

    Args:
        response: the decoded JSON.
        where: its place, for messages.

    Returns:
        One item for each choice; None for one whose routing is null: vLLM loses that of requests that it preempted.

    Raises:
        TraceError: it is another response, was made without routing, or contradicts itself.
    """
    choices = _choices(response)
    if not any("routed_experts" in each for each in choices):
        hint = "; the format sglang reads those of SGLang" if _has_sglang(response) else ""
        raise TraceError(
            f"{where}: expected a response with choices that have routed_experts, found none; start vLLM with "
            f"--enable-return-routed-experts{hint}"
        )
    name, usage = _name(response, "id", "request_id"), _usage(response, len(choices))
    found: list[ServedTokens | None] = []
    for index, choice in enumerate(choices):
        prompt, own = _first((choice, response), ("prompt_routed_experts",)), choice.get("routed_experts")
        output_ids = _ids((choice,), _OUTPUT_IDS, where)
        if _is_lost(choice, response, output_ids):
            found.append(None)
            continue
        parts = [read_experts(each, where) for each in (prompt, own) if each is not None and each != []]
        if len({part.shape[1:] for part in parts}) != 1:
            shapes = " and ".join(str(list(part.shape)) for part in parts) or "none"
            raise TraceError(
                f"{where}: expected experts of the same layers and k for prompt and generated tokens, got {shapes}"
            )
        first = _start((choice, response), "routed_experts_prompt_start", where)
        sequence = _Sequence(_ids((choice, response), _PROMPT_IDS, where), output_ids, *usage, where)
        if prompt is not None:
            sequence.check_prompt(first + (len(parts[0]) if prompt else 0))
        found.append(sequence.serve(_key(name, index, len(choices)), np.concatenate(parts), first))
    return found


def read_sglang(response: Any, where: str, *, shape: tuple[int, int] | None = None) -> list[ServedTokens]:
    """Read a response of SGLang, of any of its interfaces.

    Its experts are in ``meta_info.routed_experts`` or in each choice's ``sgl_ext.routed_experts``, as base64 of int32
    [tokens, layers, k] or as lists; positions count from ``routed_experts_start_len`` beside them.

    Args:
        response: the decoded JSON.
        where: its place, for messages.
        shape: number of layers, dense ones included, and k, which base64 does not state.

    Raises:
        TraceError: it is another response, was made without routing, or contradicts itself.
    """
    found = list(_sglang_parts(response))
    if not found:
        is_vllm = any("routed_experts" in each for each in _choices(response))
        hint = "; the format vllm reads those of vLLM" if is_vllm else ""
        raise TraceError(
            f"{where}: expected a response with meta_info.routed_experts, found none; "
            f"set return_routed_experts in the request{hint}"
        )
    served = []
    for key, holder, around, counts in found:
        payload = holder["routed_experts"]
        experts = read_lists(payload, where) if isinstance(payload, list) else read_flat(payload, shape, where)
        first = _start((holder,), "routed_experts_start_len", where)
        prompt_ids = _ids(around, _PROMPT_IDS, where)
        if prompt_ids is None:
            prompt_ids = _logged_ids(holder, "input_token_logprobs", counts[0])
        sequence = _Sequence(prompt_ids, _ids(around, _OUTPUT_IDS, where), *counts, where)
        served.append(sequence.serve(key, experts, first))
    return served


def _is_lost(choice: Json, response: Json, output_ids: NDArray[np.int32] | None) -> bool:
    """Return whether the routing of a choice is null, and not only that of a single generated token, which has none."""
    prompt, own = _first((choice, response), ("prompt_routed_experts",)), choice.get("routed_experts")
    if own is None:
        return prompt is None or output_ids is None or len(output_ids) > 1
    return prompt is None and "prompt_routed_experts" in response and isinstance(own, list)


@dataclass
class _Sequence:
    """What a response says of the tokens of a sequence: their ids, or how many they are."""

    prompt_ids: NDArray[np.int32] | None
    output_ids: NDArray[np.int32] | None
    prompt_tokens: int | None
    output_tokens: int | None

    where: str

    def __post_init__(self) -> None:
        if self.prompt_ids is not None:
            if self.prompt_tokens not in (None, len(self.prompt_ids)):
                raise TraceError(
                    f"{self.where}: expected the ids of the {self.prompt_tokens} tokens of the prompt, got "
                    f"{len(self.prompt_ids)}"
                )
            self.prompt_tokens = len(self.prompt_ids)
        if self.output_ids is not None:
            self.output_tokens = len(self.output_ids)

    def check_prompt(self, rows: int) -> None:
        """Raise TraceError unless the experts of the prompt are those of all its tokens."""
        if self.prompt_tokens not in (None, rows):
            raise TraceError(
                f"{self.where}: expected prompt_routed_experts of the {self.prompt_tokens} tokens of the prompt, got "
                f"{rows}"
            )
        self.prompt_tokens = rows

    def serve(self, key: str | None, experts: NDArray[np.integer], first: int) -> ServedTokens:
        """Return the tokens that have a row of experts, the first of them at position `first`."""
        prompt, output = self.prompt_tokens, self.output_tokens
        end = first + len(experts)
        if prompt is not None and output is not None:
            expected = {prompt + output - 1, prompt + max(output - 1, 0)}  # without a generated token, both occur
            if end not in expected:
                raise TraceError(
                    f"{self.where}: expected experts of the tokens {first} to {max(expected) - 1}, all but the last of "
                    f"{prompt} tokens of the prompt and {output} generated ones, got {len(experts)} rows; the response "
                    "is incomplete, or the number of layers or k is wrong"
                )
        elif prompt is not None and end < prompt:
            raise TraceError(
                f"{self.where}: expected experts of the {prompt} tokens of the prompt from token {first} on, got "
                f"{len(experts)} rows"
            )
        ids = np.full(len(experts), UNKNOWN, np.int32)
        for known, place in ((self.prompt_ids, 0), (self.output_ids, prompt)):
            if known is not None and place is not None:
                begin, stop = max(first, place), min(end, place + len(known))
                ids[max(begin - first, 0) : max(stop - first, 0)] = known[begin - place : max(stop - place, 0)]
        return ServedTokens(key, experts, ids, first, prompt)


def _sglang_parts(
    response: Any,
) -> Iterator[tuple[str | None, Json, tuple[Json, ...], tuple[int | None, int | None]]]:
    """Yield the id, the object with the experts, those with ids, and the numbers of tokens, of each choice."""
    if not isinstance(response, dict):
        return
    facts = response.get("meta_info")
    name = _name(facts if isinstance(facts, dict) else response, "id")
    if isinstance(facts, dict) and facts.get("routed_experts") is not None:
        counts = (_count(facts.get("prompt_tokens")), _count(facts.get("completion_tokens")))
        yield name, facts, (response, facts), counts
    choices = _choices(response)
    for index, choice in enumerate(choices):
        for extension in (choice.get(field) for field in _EXTENSION_FIELDS):
            if isinstance(extension, dict) and extension.get("routed_experts") is not None:
                around = (choice, extension, response)
                yield _key(name, index, len(choices)), extension, around, _usage(response, len(choices))


def _has_sglang(response: Any) -> bool:
    return next(_sglang_parts(response), None) is not None


def _choices(response: Any) -> list[Json]:
    choices = response.get("choices") if isinstance(response, dict) else None
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _name(holder: Json, *fields: str) -> str | None:
    name = _first((holder,), fields)
    return None if name is None else str(name)


def _key(name: str | None, index: int, count: int) -> str | None:
    return f"{name}:{index}" if count > 1 and name is not None else name


def _first(holders: tuple[Json, ...], fields: tuple[str, ...]) -> Any:
    """Return the first value that is not null."""
    return next((each[name] for each in holders for name in fields if each.get(name) is not None), None)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST else None


def _usage(response: Json, num_choices: int) -> tuple[int | None, int | None]:
    """Return the tokens of the prompt and the generated ones, which are counted over all choices."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None, None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")) if num_choices == 1 else None


def _start(holders: tuple[Json, ...], field: str, where: str) -> int:
    """Return the position of the first token whose experts were returned."""
    start = _first(holders, (field,)) or 0
    if _count(start) is None:
        raise TraceError(f"{where}: expected {field} of 0 or more tokens, got {start!r:.60}")
    return int(start)


def _ids(holders: tuple[Json, ...], fields: tuple[str, ...], where: str) -> NDArray[np.int32] | None:
    """Return ids of tokens; None if the response has none."""
    value = _first(holders, fields)
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each < _MOST for each in value):
        raise TraceError(f"{where}: expected {fields[0]} as a list of token ids, got {value!r:.60}")
    return np.array(value, dtype=np.int32)


def _logged_ids(holder: Json, field: str, count: int | None) -> NDArray[np.int32] | None:
    """Return ids of tokens from lists of log probability, id and text; None unless all are there."""
    entries = holder.get(field)
    if not isinstance(entries, list) or len(entries) != count:
        return None
    ids = [each[1] for each in entries if isinstance(each, list) and len(each) > 1 and _count(each[1]) is not None]
    return np.array(ids, dtype=np.int32) if len(ids) == count else None
