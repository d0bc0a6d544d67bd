"""The scripts and styles of a page: the package's own, and those of libraries in the folder `vendor`."""

import base64
import hashlib
import re
from importlib.resources import files

_HERE = "specialize.reporting"


def read_asset(name: str) -> str:
    """Return a file of the package itself."""
    return files(_HERE).joinpath("templates", name).read_text(encoding="utf-8")


def read_script(library: str) -> str:
    """Return the script of a library, with its licence."""
    return f"/*!\n{_read_vendor(f'{library}.LICENSE')}*/\n{_strip_map(_read_vendor(f'{library}.min.js'))}"


def read_style(library: str) -> str:
    """Return the style of a library."""
    return _strip_map(_read_vendor(f"{library}.min.css"))


def hash_source(script: str) -> str:
    """Return the hash of a script as a content security policy lists it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _read_vendor(name: str) -> str:
    return files(_HERE).joinpath("vendor", name).read_text(encoding="utf-8")


def _strip_map(text: str) -> str:
    """Return a file of a library without the address of its source map at the end, which is not in the page."""
    return re.sub(r"/[/*]# sourceMappingURL=.*\s*$", "", text)
