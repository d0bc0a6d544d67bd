"""Tables of random columns, among them nested and absurd ones, that are valid Arrow and Parquet."""

import datetime
import decimal
import io
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Likely = tuple[pa.DataType, Callable[[Random], Any]]

_PLAIN = (
    *(pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
    *(pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.binary(3), pa.date32(), pa.date64(), pa.timestamp("ns"), pa.timestamp("us", "Europe/Zurich")),
    *(pa.time32("s"), pa.time64("ns"), pa.duration("ms"), pa.decimal128(20, 3), pa.decimal256(50, -2)),
)
_TEXTS = ("", " ", "a", "b", "One.", "x" * 500, "\0", "\u2028", "é", "🙂", "-1", "nan", "\ufeff", "=1+1", "a\nb")


def write_random(seed: bytes, suffix: str, names: tuple[str, ...], likely: Mapping[str, Likely] | None = None) -> bytes:
    """Return a Parquet, Arrow or Feather file of random columns, most of them with these names.

    Args:
        seed: determines the table.
        suffix: .parquet, or anything else for Arrow.
        names: of columns.
        likely: types and values that columns of these names mostly have.
    """
    rng = Random(seed)
    rows = rng.choice((0, 1, 2, 3, 7, 7, 300))
    chosen = [rng.choice(names) if rng.random() < 0.9 else rng.choice(_TEXTS) for _ in range(rng.randint(0, 6))]
    if likely and rng.random() < 0.7:
        chosen = list(dict.fromkeys(chosen))
    table = pa.table([_column(rng, rows, (likely or {}).get(name)) for name in chosen], names=chosen)
    buffer = io.BytesIO()
    if suffix == ".parquet":
        try:
            pq.write_table(table, buffer, use_dictionary=rng.random() < 0.5, row_group_size=rng.choice((1, 2, 1000)))
        except (pa.ArrowException, OSError):  # a type that Parquet does not have
            return b""
    else:
        make = pa.ipc.new_file if rng.random() < 0.5 else pa.ipc.new_stream
        with make(buffer, table.schema) as writer:
            writer.write_table(table, max_chunksize=rng.choice((1, 2, 1000)))
    return buffer.getvalue()


def _column(rng: Random, rows: int, likely: Likely | None) -> pa.Array:
    if likely is not None and rng.random() < 0.9:
        return pa.array([likely[1](rng) for _ in range(rows)], likely[0])
    kind = _kind(rng, 3) if rng.random() < 0.6 else pa.string()
    if rng.random() < 0.04 and rows:  # text that is not UTF-8
        return pa.array([b"\xff\xfe", *[b"a"] * (rows - 1)], pa.binary()).view(pa.string())
    missing = rng.choice((0, 0, 0.2, 1))
    try:
        values = pa.array([None if rng.random() < missing else _value(kind, rng) for _ in range(rows)], kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return pa.nulls(rows, pa.int64())
    return values.dictionary_encode() if rng.random() < 0.15 and kind in _PLAIN[1:16] else values


def _kind(rng: Random, depth: int) -> pa.DataType:
    if depth == 0 or rng.random() < 0.6:
        return rng.choice(_PLAIN)
    inner = _kind(rng, depth - 1)
    return rng.choice(
        (
            *(pa.list_(inner), pa.large_list(inner), pa.list_(inner, 2), pa.map_(pa.string(), inner)),
            *(pa.struct([("a", inner)]), pa.struct([("a", inner), ("b", pa.int8())]), pa.list_(pa.int16())),
        )
    )


def _value(kind: pa.DataType, rng: Random) -> Any:
    if pa.types.is_null(kind):
        return None
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind):
        top = 2 ** (kind.bit_width - 1)
        signed = pa.types.is_signed_integer(kind)
        return rng.choice((0, 1, 2, 3, 4, 5, 6, 7, top - 1, -1 if signed else 2 * top - 1, -top if signed else top))
    if pa.types.is_floating(kind):
        return rng.choice((0.0, -0.0, 0.25, 0.5, 1.0, 2.0, float("nan"), float("inf"), -1.5, 6e4))
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return b"abc"
    if pa.types.is_decimal(kind):
        return decimal.Decimal(rng.choice((0, 100, -700)))
    if pa.types.is_date(kind):
        return datetime.date(1, 1, 1) if rng.random() < 0.3 else datetime.date(2020, 2, 29)
    if pa.types.is_timestamp(kind):
        return rng.choice((0, 1, 2**60, -(2**60)))
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return rng.randrange(80_000)
    if pa.types.is_struct(kind):
        return {field.name: _value(field.type, rng) for field in kind}
    if pa.types.is_map(kind):
        return [("k", _value(kind.item_type, rng))] * rng.randrange(3)
    if pa.types.is_fixed_size_list(kind):
        return [_value(kind.value_type, rng) for _ in range(kind.list_size)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_value(kind.value_type, rng) for _ in range(rng.choice((0, 1, 2, 2, 2)))]
    return rng.choice(_TEXTS)
