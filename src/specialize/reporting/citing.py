"""What to cite, as BibTeX: the study, the tool, and the models."""

import re
from collections.abc import Sequence

from specialize import __version__
from specialize.reporting.runs import RunResults
from specialize.reporting.studied import name_model

_STUDY = """@article{fan2024moe,
  title = {Towards an empirical understanding of {MoE} design choices},
  author = {Fan, Dongyang and Messmer, Bettina and Jaggi, Martin},
  journal = {arXiv preprint arXiv:2402.13089},
  year = {2024}
}"""


def cite(runs: Sequence[RunResults]) -> str:
    """Return BibTeX entries of the study that the tool grew from, of the tool, and of each model of a report."""
    tool = (
        "@software{specialize,\n"
        "  title = {specialize: measuring expert specialization in {Mixture-of-Experts} language models},\n"
        "  author = {{The specialize developers}},\n"
        f"  version = {{{__version__}}}\n"
        "}"
    )
    names = dict.fromkeys(name for run in runs if (name := name_model(run)))
    return "\n\n".join([_STUDY, tool, *(_cite_model(name) for name in names)])


def _cite_model(name: str) -> str:
    key = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "model"
    title = re.sub(r"([\\{}%#&_$^~])", r"\\\1", name)
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
    link = f",\n  url = {{https://huggingface.co/{name}}}" if is_hub_id else ""
    return f"@misc{{{key},\n  title = {{{title}}}{link}\n}}"
