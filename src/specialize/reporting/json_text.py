"""JSON that may stand in a page."""

import json
from typing import Any


def dump_json(value: Any) -> str:
    """Return JSON that cannot end the element it stands in, whatever the corpus says."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
