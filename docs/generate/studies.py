"""The READMEs of analyses/ as pages of the site: titles, links and figures lead to the right places there."""

import re
from pathlib import Path

_PAGES = {
    "real_models": "study/real-models.md",
    "function": "study/function.md",
    "design_choices": "study/design-choices.md",
    "calibration": "study/calibration.md",
    "tagger": "study/tagger.md",
    "benchmarks": "study/benchmarks.md",
    "reliability": "study/reliability.md",
    "demo_checkpoints": "study/demo-checkpoints.md",
}


def pages(analyses: Path) -> dict[str, str]:
    """Return the Markdown of each page, by its path in the site."""
    return {name: _page(analyses / folder, folder) for folder, name in _PAGES.items()}


def _page(folder: Path, name: str) -> str:
    text = (folder / "README.md").read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    text = f"{title}\n\n*From `analyses/{name}/README.md`; paths are relative to that folder.*\n{rest}"
    return re.sub(r"\]\(([^)]+)\)", _link, text)


def _link(match: re.Match[str]) -> str:
    target = match[1]
    if target.startswith(("http:", "https:", "#")):
        return match[0]
    figure = re.fullmatch(r"(?:\.\./)+(figures/[\w-]+\.png)", target)
    if figure:
        return f"](../{figure[1]})"
    study = re.search(r"(?:\.\./)(\w+)(?:/README\.md)?/?$", target)
    if study and study[1] in _PAGES:
        return f"]({Path(_PAGES[study[1]]).name})"
    raise ValueError(f"README of a study: expected a link to a figure, a study or the web, got {target}")
