"""Provenance: what made a run, written beside it so that it can be made again."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specialize.errors import TraceError

_PACKAGES = (
    "specialize",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "pyarrow",
    "spacy",
    "bertopic",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    revision = _git_revision()
    return found | ({"specialize_git": revision} if revision else {})


def digest_of(settings: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of JSON-serialisable settings, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically: a reader sees the old one or the new one, never a part.

    Raises:
        TraceError: the disk is full or the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TraceError(not_written(path, error)) from error


def not_written(path: Path, error: OSError) -> str:
    """What to tell a user whose disk is full or whose folder cannot be written."""
    return (
        f"{path}: could not be written ({error.strerror or error}); what was written before is kept: "
        "make room and run the same command again to go on"
    )


def _git_revision() -> str | None:
    """Commit of the checkout that this package runs from, None for an installed package."""
    here = Path(__file__).parent
    if not (here.parents[1] / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
