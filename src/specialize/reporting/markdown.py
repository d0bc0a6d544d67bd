"""The report as Markdown, for a repository."""

import re
from typing import Any

from markupsafe import Markup

from specialize.reporting.rendering import read_templates
from specialize.reporting.tables import Table
from specialize.text import clean_text

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_STARTS_A_BLOCK = re.compile(r"^(\s*\d*)([-+=.)])(?=\s|$)")


def render_markdown(parts: dict[str, Any]) -> str:
    """Return a report as GitHub-flavoured Markdown; texts of corpora and models are never markup."""
    environment = read_templates(finalize=escape_markdown)
    environment.filters["table"] = lay_out_table
    environment.filters["code"] = quote_code
    return environment.get_template("report.md.j2").render(parts)


def escape_markdown(value: Any) -> str:
    """Return text escaped so that Markdown shows every character; `Markup` stays as it is."""
    if isinstance(value, Markup):
        return str(value)
    escaped = _SPECIAL.sub(r"\\\1", clean_text(value))
    return _STARTS_A_BLOCK.sub(r"\1\\\2", escaped)


def quote_code(value: Any) -> Markup:
    """Return text as code, fenced by more backticks than it holds in a row."""
    text = clean_text(value)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")


def lay_out_table(table: Table) -> Markup:
    """Return a table with one header row: a header that spans columns is repeated before each of them."""
    heads = [[cell.text for cell in row for _ in range(cell.span)] for row in table.head]
    width = max((sum(cell.span for cell in row) for row in [*table.head, *table.body]), default=1)
    names = [" ".join(filter(None, (row[i] for row in heads if i < len(row)))) for i in range(width)]
    kinds = [cell.kind for cell in table.body[0] for _ in range(cell.span)] if table.body else []
    rules = ["---:" if i < len(kinds) and "number" in kinds[i] else "---" for i in range(width)]
    lines = [f"**{escape_markdown(table.caption)}**", "", _join(map(escape_markdown, names)), _join(rules)]
    for row in table.body:
        texts = []
        for cell in row:
            text = escape_markdown(cell.text + (f" ({cell.below})" if cell.below else ""))
            texts += [f"**{text}**" if "strong" in cell.kind and text else text, *[""] * (cell.span - 1)]
        lines.append(_join(texts))
    return Markup("\n".join(lines))


def _join(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
