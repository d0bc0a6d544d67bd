"""Environments that hold what a declaration of requirements brings, and nothing else.

An environment is a virtual environment without pip. The files of every distribution that the requirements lead to,
by its own metadata and with markers evaluated, are linked into it from the environment that runs the tests; the package
itself is linked from `src`. What is not declared is not there, so that importing it fails.
"""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements_of(name: str) -> list[Requirement]:
    """What a distribution declares; the project's own from pyproject.toml, which an old installation may not know."""
    if name != PROJECT["name"]:
        return [Requirement(line) for line in distribution(name).requires or []]
    declared = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra, lines in PROJECT["optional-dependencies"].items():
        for line in lines:
            requirement = Requirement(line)
            assert requirement.marker is None, f"write the marker of {line} into this function too"
            declared.append(Requirement(f"{line}; extra == {extra!r}"))
    return declared


def close_requirements(lines: Iterable[str]) -> dict[str, set[str]]:
    """Names of every distribution that requirements lead to, each with the extras that are asked of it."""
    found: dict[str, set[str]] = {}
    open_requirements = [Requirement(line) for line in lines]
    while open_requirements:
        requirement = open_requirements.pop()
        name = canonicalize_name(requirement.name)
        known = found.setdefault(name, set())
        new = ({""} | set(requirement.extras)) - known
        known |= new
        for each in requirements_of(name) if new else ():
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in new):
                open_requirements.append(each)
    return found


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the folder its commands write to."""

    python: Path
    home: Path
    distributions: frozenset[str]

    def run(self, *arguments: str | Path, fails: bool = False) -> subprocess.CompletedProcess[str]:
        """Run its Python, isolated from the environment and the folder of the caller."""
        writable = {"HOME": self.home, "MPLCONFIGDIR": self.home, "HF_HOME": self.home}
        done = subprocess.run(
            [self.python, "-I", *map(str, arguments)],
            cwd=self.home,
            env={key: str(value) for key, value in (writable | _OFFLINE).items()},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert (done.returncode != 0) == fails, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


_OFFLINE: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}


def make_environment(folder: Path, requirements: Iterable[str]) -> Environment:
    """Make an environment with the package and what `requirements` lead to.

    Args:
        folder: where to make it; must not exist.
        requirements: lines as in pyproject.toml. The package itself is put there with or without being asked for; what
            it declares comes along only if it is asked for.
    """
    names = set(close_requirements(requirements)) - {PROJECT["name"]}
    venv.create(folder / "env", symlinks=True)
    scheme = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=scheme))
    for name in names:
        _link_distribution(name, site)
    (site / PROJECT["name"]).symlink_to(ROOT / "src" / PROJECT["name"])
    metadata = site / f"{PROJECT['name']}-{PROJECT['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    )
    (folder / "home").mkdir()
    executable = Path(sysconfig.get_path("scripts", scheme="venv", vars=scheme)) / Path(sys.executable).name
    return Environment(executable, folder / "home", frozenset(names))


def _link_distribution(name: str, site: Path) -> None:
    files = distribution(name).files
    assert files, f"{name} was installed without a list of its files"
    made: set[Path] = set()
    for file in files:
        if file.parts[0] == "..":
            continue  # a script or a manual page
        place = site / file
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        place.symlink_to(file.locate())
