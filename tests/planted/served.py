"""Responses of inference servers, written from the experts and the token ids of a sequence.

A sequence has P tokens of a prompt and G generated ones, and experts of all but the last: [P + G - 1, layers, k].
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def npy64(array: NDArray[Any]) -> str:
    """Return base64 of what `numpy.save` writes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode()


def flat64(array: NDArray[Any]) -> str:
    """Return base64 of little-endian int32."""
    return base64.b64encode(array.astype("<i4").tobytes()).decode()


def vllm_lists(name: str, prompt: list[int], output: list[int], experts: NDArray[Any]) -> dict[str, Any]:
    """As vLLM 0.21: lists, the prompt's apart."""
    choice = {"index": 0, "text": "x", "token_ids": output, "routed_experts": experts[len(prompt) :].tolist()}
    routed = experts[: len(prompt)].tolist()
    return {"id": name, "prompt_token_ids": prompt, "prompt_routed_experts": routed, "choices": [choice]}


def vllm_base64(
    name: str, prompt: list[int], output: list[int], experts: NDArray[Any], *, dtype: Any = np.int32
) -> dict[str, Any]:
    """As later versions of vLLM: one array."""
    choice = {"index": 0, "token_ids": output, "routed_experts": npy64(experts.astype(dtype))}
    return {"id": name, "prompt_token_ids": prompt, "choices": [choice]}


def sglang_generate(name: str, prompt: list[int], output: list[int], experts: NDArray[Any]) -> dict[str, Any]:
    """As SGLang's /generate."""
    facts = {"id": name, "prompt_tokens": len(prompt), "completion_tokens": len(output)}
    return {"text": "x", "output_ids": output, "meta_info": {**facts, "routed_experts": flat64(experts)}}


def sglang_openai(name: str, prompt: list[int], output: list[int], experts: NDArray[Any]) -> dict[str, Any]:
    """As SGLang's /v1/completions."""
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(output)}
    choice = {"index": 0, "text": "x", "sgl_ext": {"routed_experts": flat64(experts)}}
    return {"id": name, "usage": usage, "choices": [choice]}


def write_lines(path: Path, lines: list[Any]) -> Path:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
