"""What a model in a folder is known by, in caches."""

import hashlib
from pathlib import Path


def identify_folder(folder: Path) -> str:
    """Return the absolute path of a folder, and a digest of the names, sizes and times of its files."""
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    states = [f"{path.relative_to(folder)} {state.st_size} {state.st_mtime_ns}" for path, state in files]
    digest = hashlib.sha256("\n".join(states).encode("utf-8", "surrogatepass"))
    return f"{folder.absolute()} {digest.hexdigest()[:16]}"
