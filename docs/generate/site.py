"""What MkDocs runs at each build: pages that are made of something else are made anew, so that none goes stale.

command-line.md    from the application
tutorial.md        from analyses/walkthrough.ipynb
study/*.md         from the READMEs of analyses/
figures/*.png      those that a page shows
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import notebook
import studies
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]


def on_files(files: Files, *, config: Any) -> Files:
    """Add the generated pages, and the figures that any page shows."""
    pages = {
        "command-line.md": command_line.page(),
        "tutorial.md": notebook.page(),
        **studies.pages(ROOT / "analyses"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    written = (page.content_string for page in files.documentation_pages())
    for name in sorted(set(_figures(written))):
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def _figures(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        yield from re.findall(r"\]\((?:\.\./)*(figures/[\w-]+\.png)\)", text)
