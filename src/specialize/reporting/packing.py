"""What a page holds compressed, to be unpacked in the browser."""

import base64
import gzip
import json
from typing import Any


def pack_json(value: Any) -> str:
    """Return a value as JSON, compressed, in base64, which no text in it can leave."""
    return pack(json.dumps(value, ensure_ascii=True, separators=(",", ":")))


def pack(text: str) -> str:
    """Return a text compressed, in base64."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=6, mtime=0)).decode("ascii")
