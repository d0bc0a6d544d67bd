"""Manifests that say something else, with the digest that belongs to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from specialize.trace.manifest import read_manifest, write_manifest


def edit_manifest(run: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the manifest of a run by what `edit` returns."""
    write_manifest(run, edit(read_manifest(run, complete=False)))
