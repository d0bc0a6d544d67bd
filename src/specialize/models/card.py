"""The model card of a trained checkpoint, with its evaluation."""

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment

from specialize.atomic import write_text
from specialize.manifest import write_json
from specialize.models.evaluation import Evaluation
from specialize.models.settings import TrainConfig

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [mixture-of-experts, specialize]
---
# {{ title }}

A small GPT-2-style {{ kind }} language model, trained with `specialize train` to study expert specialization.
It is meant for measuring routing, not for generating text.
{% if description %}

{{ description }}
{% endif %}

| held-out text | |
|---|---|
| perplexity | {{ "%.1f" | format(result.perplexity) }}{{ note }} |
| unigram perplexity on the same tokens | {{ "%.1f" | format(result.unigram_perplexity) }} |
| ratio | {{ "%.3f" | format(result.perplexity / result.unigram_perplexity) }} |
| tokens compared | {{ "{:,}".format(result.tokens) }} (positions from {{ compared }} of windows of {{ length }}) |
| tokens trained on | {{ "{:,}".format(trained) }} |

{% if result.load %}
## Load
Share of slots that each expert received on the held-out text. Entropy is in bits, at most {{ "%.2f" | format(even) }}.

| layer | {% for share in result.load[0] %}expert {{ loop.index0 }} | {% endfor %}entropy |
|---|{% for share in result.load[0] %}---|{% endfor %}---|
{% for layer, entropy in layers %}
| {{ loop.index0 }} | {% for p in layer %}{{ "%.3f" | format(p) }} | {% endfor %}{{ "%.2f" | format(entropy) }} |
{% endfor %}

{% endif %}
## Settings
`evaluation.json` beside this file contains the training settings and these numbers.
"""


def write_card(folder: Path, config: TrainConfig, result: Evaluation, history: list[dict[str, Any]]) -> None:
    """Write README.md and evaluation.json to the folder of the weights."""
    experts = len(result.load[0]) if result.load else 0
    kind = "Mixture-of-Experts" if experts else "dense"
    unit = config.model.get("routing_unit", "token")
    text = (
        Environment(
            autoescape=False, keep_trailing_newline=True, trim_blocks=True
        )  # Markdown of our own numbers, not HTML
        .from_string(_CARD)
        .render(
            title=f"{unit.capitalize()}-routed Mixture of Experts" if experts else "Dense baseline",
            kind=kind,
            description=config.description.strip(),
            layers=list(zip(result.load, result.load_entropy, strict=True)),
            note="" if result.is_causal else " (not causal: the router reads the whole sequence; not comparable)",
            result=result,
            compared=max(config.training.compare_from, 0),
            length=config.training.context_length,
            trained=history[-1]["tokens"] if history else 0,
            even=math.log2(experts) if experts else 0.0,
        )
    )
    write_text(folder / "README.md", text)
    settings = published_settings(config).model_dump(mode="json")
    record = {"evaluation": result.as_dict(), "history": history, "settings": settings}
    write_json(folder / "evaluation.json", record)


def published_settings(config: TrainConfig) -> TrainConfig:
    """Return the settings with the name of the corpus in place of its path, which is private."""
    data = config.data.model_copy(update={"corpus": Path(config.data.corpus).name})
    return config.model_copy(update={"data": data})
