"""Documents from standard input, which is copied once into a temporary file, because a corpus is read several times."""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from specialize.corpus.columns import ColumnRequest
from specialize.corpus.document import ReadingNotes, Record
from specialize.corpus.readers import READERS, check_request
from specialize.errors import CorpusError, OutputError

STDIN = "stdin"  # name of the source, for messages and the manifest
_BEGINNING = 2**16  # bytes in which the first character that is not blank is looked for
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_TABLES = {b"PAR1": "Parquet", b"ARROW1": "Arrow"}


def open_stdin(request: ColumnRequest) -> Callable[[], Iterator[Record]]:
    """Copy standard input, and return what reads the copy, which is deleted with it.

    Input whose first character is `{` is JSON Lines, an array of objects or texts is JSON, all else is plain text.

    Args:
        request: what the user asked for.

    Raises:
        CorpusError: standard input is a terminal, is closed, is compressed or a binary table, or has nothing that was
            asked for.
        OutputError: there is no room for the copy.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise CorpusError(f"{STDIN}: expected documents from a pipe or a file, got none; give a path instead of -")
    try:
        copy = tempfile.NamedTemporaryFile(prefix="specialize-stdin-")  # noqa: SIM115 (closed with the reader)
        shutil.copyfileobj(sys.stdin.buffer, copy, 2**20)
        copy.flush()
        copy.seek(0)
        kind = _find_kind(copy.read(_BEGINNING))
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: expected room for a copy of {STDIN}, got: {error.strerror or error}; let TMPDIR "
            "name a folder with room"
        ) from None
    check_request(kind, request, STDIN)
    how = {".jsonl": "JSON Lines", ".json": "an array of JSON"}.get(kind, "one text")
    message = f"{STDIN}: read as {'one text a line' if request.unit == 'line' else how}"

    def read() -> Iterator[Record]:
        notes = ReadingNotes()
        for record in READERS[kind](Path(copy.name), STDIN, request):
            noted = notes if record.notes is None else record.notes
            if message not in noted.messages:
                noted.messages.append(message)
            yield replace(record, notes=noted)

    return read


def _find_kind(beginning: bytes) -> str:
    for mark, name in (_PACKED | _TABLES).items():
        if beginning.startswith(mark):
            advice = "decompress it first" if mark in _PACKED else "give its path"
            raise CorpusError(f"{STDIN}: expected text or JSON Lines, got {name}; {advice}")
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return ".jsonl"
    return ".json" if re.match(rb'\[\s*[{"]', text) else ".txt"
