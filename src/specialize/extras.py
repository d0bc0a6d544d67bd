"""Packages that not every installation has, and the extra of `specialize` that brings each."""

from importlib.util import find_spec

from specialize.errors import MissingExtraError

_EXTRAS = {
    "capture": ("torch", "transformers", "tokenizers", "safetensors"),
    "serve": ("httpx", "transformers", "tokenizers"),
    "large": ("accelerate",),
    "syntax": ("spacy",),
    "topics": ("bertopic",),
    "ray": ("ray", "threadpoolctl"),
    "remote": ("fsspec", "s3fs"),
}


def require_extra(extra: str) -> None:
    """Raise `MissingExtraError` where a package of an extra is not installed.

    Args:
        extra: capture, serve, large, syntax, topics, ray or remote.
    """
    for package in _EXTRAS[extra]:
        if find_spec(package) is None:
            raise _missing(package, extra)


def missing_extra(package: str | None) -> MissingExtraError | None:
    """Return the error for a module that could not be imported; None where no extra brings it."""
    name = (package or "").partition(".")[0]
    extra = next((extra for extra, packages in _EXTRAS.items() if name in packages), None)
    return None if extra is None else _missing(name, extra)


def _missing(package: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f"this needs the package {package}, which is not installed: pip install 'specialize[{extra}]'"
    )
