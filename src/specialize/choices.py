"""The options that are chosen by name, for the library and the command line alike, and checks of options."""

import re
from numbers import Integral
from os import PathLike, fspath
from typing import Literal, get_args

from specialize.addresses import is_address
from specialize.errors import SpecializeError, did_you_mean, show_value

Level = Literal["token", "document"]  # what carries a label
SlotRule = Literal["selection", "gate", "first"]  # how a token's mass is spread over its slots
MassRule = Literal["selection", "gate", "first", "counts"]  # counts: the masses are given, as in a run without tokens
Pieces = Literal["first", "last", "all"]  # which of a word's tokens carries its tag
Reduction = Literal["umap", "pca", "none"]  # how embeddings lose dimensions
Clustering = Literal["kmeans", "hdbscan"]  # how topics are found
Outliers = Literal["nearest", "keep"]  # what becomes of documents that clustering leaves in no topic
AffinityScore = Literal["token", "gate"]  # share of slots, or mean gate weight
TextUnit = Literal["file", "line"]  # what a document of a plain text file is
Dtype = Literal["auto", "float32", "bfloat16", "float16"]  # number format of the forward pass
Control = Literal["random-router"]  # what is recorded beside the model's own routers
InterventionMode = Literal["drop", "renormalize", "reroute", "replace"]  # what becomes of an expert's slots
Ranking = Literal["saliency", "load", "lift", "random"]  # by which experts are switched off, the first ones first
CONTROL_DRAWS = 5  # random routers beside each of the model's
EngineName = Literal["local", "ray"]  # what runs independent pieces of work
ServerApi = Literal["vllm", "sglang"]  # whose requests and answers an inference server has
PageFormat = Literal["html", "md"]
FigureWidth = Literal["single", "double", "neurips", "icml", "acl"]  # where a figure is printed
ExportFormat = Literal["parquet"]


def check_choice(name: str, given: object, choices: object, *, error: type[SpecializeError] = SpecializeError) -> None:
    """Raise `error` unless `given` is one of the values of the ``Literal`` `choices`; suggest the nearest.

    Args:
        name: what is chosen, as the message calls it.
        given: the value.
        choices: a ``Literal`` type.
        error: the class of the error.
    """
    known = [str(choice) for choice in get_args(choices)]
    if given not in known:
        raise error(f"{name}: expected one of {', '.join(known)}, got {given!r}.{did_you_mean(str(given), known)}")


def refuse_address(name: str, value: object) -> None:
    """Raise SpecializeError for an address in place of a local path.

    Args:
        name: of the argument, for the message.
        value: what was given.
    """
    if is_address(value) or (isinstance(value, PathLike) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", fspath(value))):
        raise SpecializeError(f"{name}: expected a local path, got an address; runs, corpora and reports may have one")


def check_positive(name: str, value: object, *, error: type[SpecializeError] = SpecializeError) -> None:
    """Raise `error` unless `value` is a positive whole number.

    Args:
        name: of the option, for the message.
        value: the number.
        error: the class of the error.
    """
    check_whole(name, value, error=error)
    if value < 1:  # type: ignore[operator]  # a whole number
        raise error(f"{name}: expected a positive number, got {value}")


def check_whole(name: str, value: object, *, error: type[SpecializeError] = SpecializeError) -> None:
    """Raise `error` unless `value` is a whole number: 2.5 tokens would be rounded or compared in silence.

    Args:
        name: of the argument, for the message.
        value: the number.
        error: the class of the error.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise error(f"{name}: expected a whole number, got {show_value(value)}")


def check_control(control: object, control_draws: object, *, error: type[SpecializeError] = SpecializeError) -> None:
    """Raise `error` unless the control is known, or None, and its draws are a positive whole number.

    Args:
        control: its name.
        control_draws: random routers beside each router of the model.
        error: the class of the error.
    """
    if control is not None:
        check_choice("control", control, Control, error=error)
    check_positive("control_draws", control_draws, error=error)
