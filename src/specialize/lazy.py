"""Packages whose public names are loaded on first use, so that importing them costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from specialize.extras import missing_extra


def load_on_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: its name.
        homes: the module of each public name, in full; the package itself for a name that is a subpackage.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        is_package = homes[name] == package
        try:
            module = import_module(f"{package}.{name}" if is_package else homes[name])
        except ModuleNotFoundError as error:
            raise missing_extra(error.name) or error from None
        return module if is_package else getattr(module, name)

    return load
