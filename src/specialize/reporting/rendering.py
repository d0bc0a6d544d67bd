"""The templates of the package, for every page format."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def read_templates(**options: Any) -> Environment:
    """Return the templates; an undefined name is an error. `options` are those of `jinja2.Environment`."""
    return Environment(
        loader=PackageLoader("specialize.reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
