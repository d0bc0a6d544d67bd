"""The small curve of a card: U over the layers, with its interval, its null and random routers."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from specialize.reporting.findings import METRIC, Record
from specialize.reporting.formatting import percent

_WIDTH, _HEIGHT, _MARGIN = 160.0, 36.0, 2.0


def draw_sparkline(records: Sequence[Record], run_name: str, label_set: str) -> Markup:
    """Return an SVG of U over the layers from 0 to the largest value; empty with fewer than two layers.

    Args:
        records: of all runs.
        run_name: the run's name.
        label_set: the label set.
    """
    own = [
        record
        for record in records
        if (record.run, record.label_set, record.metric) == (run_name, label_set, METRIC) and record.layer is not None
    ]
    learned = _by_layer(own, "learned")
    if len(learned) < 2:
        return Markup("")
    random = {layer: record for layer, record in _by_layer(own, "random").items() if layer in learned}
    layers = sorted(learned)
    ends = [each for record in [*learned.values(), *random.values()] for each in (record.value, record.ci_high)]
    ends += [record.null_mean for record in learned.values()]
    top = max([each for each in ends if math.isfinite(each)], default=0.0) or 1.0

    def place(layer: int, value: float) -> str:
        across = _MARGIN + (_WIDTH - 2 * _MARGIN) * layers.index(layer) / (len(layers) - 1)
        up = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * min(max(value / top, 0.0), 1.0)
        return f"{across:.1f},{up:.1f}"

    band = [layer for layer in layers if math.isfinite(learned[layer].ci_low) and math.isfinite(learned[layer].ci_high)]
    points = [place(layer, learned[layer].ci_high) for layer in band]
    points += [place(layer, learned[layer].ci_low) for layer in reversed(band)]
    parts = [f'<polygon class="band" points="{" ".join(points)}"/>'] if len(band) > 1 else []
    null = [place(layer, learned[layer].null_mean) for layer in layers if math.isfinite(learned[layer].null_mean)]
    parts += [f'<polyline class="null" points="{" ".join(null)}"/>'] if len(null) > 1 else []
    beside = [place(layer, record.value) for layer, record in sorted(random.items())]
    parts += [f'<polyline class="control" points="{" ".join(beside)}"/>'] if len(beside) > 1 else []
    line = [place(layer, learned[layer].value) for layer in layers]
    parts.append(f'<polyline class="line" points="{" ".join(line)}"/>')
    said = ", ".join(f"{layer}: {percent(learned[layer].value)}" for layer in layers)
    box = f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
    frame = Markup('<svg class="spark" viewBox="{}" role="img" preserveAspectRatio="none" aria-label="{}">{}</svg>')
    return frame.format(box, f"U by layer: {said}", Markup("".join(parts)))


def _by_layer(records: Sequence[Record], routing: str) -> dict[int, Record]:
    """Return the first record of each layer that has a value."""
    found: dict[int, Record] = {}
    for record in records:
        if record.routing == routing and record.layer is not None and math.isfinite(record.value):
            found.setdefault(record.layer, record)
    return found
