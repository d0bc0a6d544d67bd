"""The experts in an answer, in each form that servers give them."""

import base64
import binascii
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import CaptureError
from specialize.serving.client import TryAgainError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NPY = b"\x93NUMPY"


def decode_experts(payload: Any, *, rows: int | None = None, top_k: int | None = None) -> NDArray[np.integer]:
    """Return experts [rows, layers, k].

    Args:
        payload: nested lists, or base64 of a .npy file or of int32 values without their shape.
        rows: number of rows of values without a shape.
        top_k: their k.

    Raises:
        TryAgainError: the payload is broken off.
        CaptureError: it is something else.
    """
    if isinstance(payload, str):
        return _decode(payload, rows, top_k)
    try:
        array = np.array(payload)
    except (ValueError, OverflowError):  # lists of different lengths
        array = np.empty(0)
    return _check(array)


def _decode(payload: str, rows: int | None, top_k: int | None) -> NDArray[np.integer]:
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise TryAgainError("experts that are no base64") from None
    if data.startswith(_NPY):
        return _check(_load_npy(data))
    if not rows or not top_k:
        raise CaptureError("expected experts as lists, or as base64 of a .npy file, got base64 of something else")
    if not data or len(data) % (4 * rows * top_k):
        raise CaptureError(
            f"expected experts as int32 for {rows:,} tokens with k = {top_k}, got {len(data):,} bytes; is MODEL the "
            "model that is served?"
        )
    return np.frombuffer(data, dtype="<i4").reshape(rows, -1, top_k)


def _load_npy(data: bytes) -> NDArray[Any]:
    """Return the array of a .npy file; no more memory is taken than the file has."""
    file = io.BytesIO(data)
    try:
        shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError, EOFError):
        raise TryAgainError("experts in a damaged .npy file") from None
    if dtype.hasobject:
        raise CaptureError("expected experts as whole numbers, got Python objects")
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise TryAgainError("experts in a truncated .npy file")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if is_fortran else "C")


def _check(array: NDArray[Any]) -> NDArray[np.integer]:
    if array.ndim != 3 or array.dtype.kind not in "iu":
        raise CaptureError(
            f"expected experts as whole numbers [tokens, layers, k], got {array.dtype} {list(array.shape)}"
        )
    return array
