"""How inference servers write an array of experts in JSON: nested lists, base64 of numbers, base64 of an .npy file."""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.imports.npy import read_array
from specialize.trace.imports.source import guard_parser


def read_experts(payload: Any, where: str) -> NDArray[np.integer]:
    """Return experts [tokens, layers, k] from lists or from base64 of what `numpy.save` wrote."""
    if isinstance(payload, list):
        return read_lists(payload, where)
    data = _decode(payload, where)
    with guard_parser(where, "routed experts in base64 of an array as numpy.save writes it"):
        array = read_array(data)
    return _check(array, where)


def read_lists(payload: list[Any], where: str) -> NDArray[np.integer]:
    """Return experts [tokens, layers, k] from nested lists."""
    with guard_parser(where, "routed experts as lists [tokens, layers, k] of integers"):
        array = np.array(payload)
    return _check(array, where)


def _check(array: NDArray[Any], where: str) -> NDArray[np.integer]:
    if array.ndim != 3 or array.dtype.kind not in "iu":
        raise TraceError(
            f"{where}: expected routed experts as integers [tokens, layers, k], got {array.dtype} {list(array.shape)}"
        )
    return array


def read_flat(payload: Any, shape: tuple[int, int] | None, where: str) -> NDArray[np.integer]:
    """Return experts [tokens, layers, k] from base64 of little-endian int32, given the number of layers and k."""
    data = _decode(payload, where)
    if shape is None:
        raise TraceError(
            f"{where}: the responses do not state the shape of their routed experts; set top_k and num_layers (all "
            "layers, dense ones included), or model"
        )
    layers, top_k = shape
    if len(data) % (4 * layers * top_k):
        raise TraceError(
            f"{where}: expected int32 of {layers} layers with k = {top_k} for each token, got {len(data)} bytes; "
            "num_layers or top_k is wrong, or the response is truncated"
        )
    return np.frombuffer(data, dtype="<i4").reshape(-1, layers, top_k)


def _decode(payload: Any, where: str) -> bytes:
    if not isinstance(payload, str):
        raise TraceError(f"{where}: expected routed experts in base64, got {type(payload).__name__}")
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TraceError(
            f"{where}: expected routed experts in base64, got {error}; the response is truncated"
        ) from None
