"""Reading the shards of a trace."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from specialize.errors import TraceError
from specialize.trace.files import read_arrow
from specialize.trace.schema import RouterSpec, routing_schema, token_schema
from specialize.trace.verified import REPAIR, Checksums, list_files, verify, verify_ahead

Kind: TypeAlias = Literal["tokens", "routing"]


class Shards:
    """The files of tokens and of their routing, which are verified when they are first read.

    Args:
        run: the run folder.
        manifest: of its trace.
        routers: all routers of the trace.
        contents: what the trace holds besides the experts.
    """

    def __init__(
        self, run: Path, manifest: Mapping[str, Any], routers: Sequence[RouterSpec], contents: Sequence[str]
    ) -> None:
        routing = [routing_schema(routers, contents, packed=packed) for packed in (False, True)]
        self._schemas = {"tokens": [token_schema(contents)], "routing": routing}
        self._list = partial(list_files, run, manifest)
        self._listed: dict[Kind, list[tuple[Path, Checksums]]] = {}
        self.sizes: list[int] = [shard["tokens"] for shard in manifest["shards"]]

    def read(self, kind: Kind, number: int, columns: list[str]) -> pa.Table:
        """Read some columns of one shard, in the thread of the caller.

        Raises:
            TraceError: the file is damaged, or holds something else.
        """
        path = verify(*self._files(kind)[number])
        return self._read(kind, number, path, columns, threads=False)

    def column(self, kind: Kind, number: int, name: str) -> pa.ChunkedArray:
        """Read a column of one shard."""
        return self.read(kind, number, [name]).column(0)

    def iterate(self, kind: Kind, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield some or all columns of one shard after the other.

        Raises:
            TraceError: a file is damaged, or holds something else.
        """
        for number, path in enumerate(verify_ahead(self._files(kind))):
            yield self._read(kind, number, path, columns, threads=True)

    def _files(self, kind: Kind) -> list[tuple[Path, Checksums]]:
        if kind not in self._listed:
            self._listed[kind] = list(self._list(kind))
        return self._listed[kind]

    def _read(self, kind: Kind, number: int, path: Path, columns: list[str] | None, *, threads: bool) -> pa.Table:
        table, expected = read_arrow(path, columns, schemas=self._schemas[kind], threads=threads), self.sizes[number]
        if table.num_rows != expected:
            raise TraceError(f"{path}: expected {expected} rows, got {table.num_rows}; {REPAIR}")
        return table
