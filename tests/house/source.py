"""The source of the package as syntax trees, and its public functions."""

import ast
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import specialize

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "specialize"
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
PACKAGES = ("measure", "plot", "annotators", "capture", "trace")


@dataclass(frozen=True)
class Defined:
    """A function as it is written, whether or not it is public."""

    path: Path
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def positional(self) -> list[ast.arg]:
        """Parameters that may be given by position, without that of the instance or class."""
        written = [*self.node.args.posonlyargs, *self.node.args.args]
        return written[1:] if written and written[0].arg in ("self", "cls") else written

    @property
    def parameters(self) -> list[ast.arg]:
        return [*self.positional, *self.node.args.kwonlyargs]

    def __str__(self) -> str:
        return f"{self.path.relative_to(SRC)}:{self.node.lineno} {self.node.name}"


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SRC.rglob("*.py"))}


@cache
def defined() -> tuple[Defined, ...]:
    return tuple(
        Defined(path, node)
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@cache
def public_functions() -> dict[str, Callable[..., Any]]:
    """Functions that a user may call, by the name they are called by."""
    found = dict(_functions_of(specialize))
    for name in PACKAGES:
        found |= _functions_of(import_module(f"specialize.{name}"))
    for name in submodules(import_module("specialize.pipeline")):
        module = import_module(f"specialize.pipeline.{name}")
        found |= {
            f"{module.__name__}.{key}": value
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
        }
    return found


def stages() -> dict[str, Callable[..., Any]]:
    """Functions of `specialize` itself."""
    return dict(_functions_of(specialize))


def submodules(package: ModuleType) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(package.__path__)]


def packages() -> Iterator[ModuleType]:
    """Every package in `specialize`, with itself."""
    yield specialize
    for module in pkgutil.walk_packages(specialize.__path__, "specialize."):
        if module.ispkg:
            yield import_module(module.name)


def _functions_of(package: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isfunction(value):
            yield f"{package.__name__}.{name}", value
