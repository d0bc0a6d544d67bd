"""The table of supported model families, found by building a tiny random model of each and running it.

    python docs/generate/families.py

writes docs/families.md and the table between the markers of README.md. tests/docs checks that both are what this
script gives. The models are those of tests/moe_zoo, with which tests/capture/test_zoo.py proves that what is recorded
is what each model computes with.
"""

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "families.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
CONVENTION = "experts module"


@dataclass(frozen=True)
class Family:
    """What a tiny random model of one family showed.

    Attributes:
        folder: the folder of the family in transformers.models.
        found_by: name of the adapter, or of the convention.
        score_function: how router logits become gate weights in this model.
        router_logits: what ``output_router_logits=True`` gives: the recorded choice, another one, or nothing usable.
        interventions: the modes in which experts can be switched off.
        notes: what a user must know.
    """

    folder: str
    found_by: str
    score_function: str
    router_logits: str
    interventions: str
    notes: tuple[str, ...]


def find_families() -> list[Family]:
    """Build, attach to and run a tiny model of every Mixture-of-Experts family of the installed transformers."""
    for path in (ROOT, ROOT / "tests"):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    from moe_zoo.build import buildable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_look_at(folder) for folder in buildable()]


def _look_at(folder: str) -> Family:
    import torch

    import specialize
    from moe_zoo.build import build, inputs_of
    from moe_zoo.types import WHOLE
    from specialize.capture import Interventions, find_routers

    model = build(folder)
    _set_selection_bias(model)
    points = find_routers(model)
    with specialize.attach(model) as recorder, torch.no_grad():
        output = model(**inputs_of(model, "right"), output_router_logits=True)
    layers = recorder.take(keep_padding=True)
    specs = [point.spec for point in points]
    notes = []
    if {spec.stack for spec in specs} == {"encoder", "decoder"}:
        notes.append("encoder and decoder")
    if any(spec.static for spec in specs):
        notes.append("some layers route by token id")
    if any(spec.identity_experts for spec in specs):
        notes.append("identity experts are counted among E")
    if any((layer.experts < 0).any() for layer in layers):
        notes.append("dropped or skipped slots are -1")
    if folder in WHOLE:
        notes.append("also in its multimodal model, on text")
    notes += sorted({point.adapter.warning for point in points if point.adapter.warning})
    return Family(
        folder=folder,
        found_by=specs[0].found_by,
        score_function=" and ".join(sorted({spec.score_function for spec in specs})),
        router_logits=_compare(output, layers),
        interventions=_list_modes(Interventions(model)),
        notes=tuple(notes),
    )


def _list_modes(interventions: Any) -> str:
    """Name the modes that all routers allow, and that some of them do."""
    from specialize.capture.interventions.switch_off import MODES

    allowed = interventions.modes.values()
    everywhere = [mode for mode in MODES if all(mode in modes for modes in allowed)]
    somewhere = [mode for mode in MODES if mode not in everywhere and any(mode in modes for modes in allowed)]
    names = "all" if len(everywhere) == len(MODES) else ", ".join(everywhere) or "none"
    return names + "".join(f"; {mode} in some layers" for mode in somewhere)


def _set_selection_bias(model: Any) -> None:
    """Give biases that are parameters of zeros the values of a trained model; the zoo does so for buffers."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "biases")) and not parameter.any():
                parameter.copy_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))


def _compare(output: Any, layers: Iterable[Any]) -> str:
    """Compare the top k of the returned router logits with the experts that were recorded."""
    layers = list(layers)
    returned = {key: [each for each in output[key] if each is not None] for key in output if "router_logits" in key}
    logits = []
    for stack in ("encoder", "decoder"):
        wanted = sum(layer.spec.stack == stack for layer in layers)
        named = returned.get(f"{stack}_router_logits", returned.get("router_logits", []) if stack == "decoder" else [])
        if wanted and not named:
            return "not returned"
        if wanted and len(named) != wanted:
            return f"no: {len(named)} tensors for {wanted} routers"
        logits += named if wanted else []
    return "yes" if all(map(_agree, logits, layers)) else "no"


def _agree(logits: Any, layer: Any) -> bool:
    if isinstance(logits, tuple):  # beside them the choice, in models of the Switch kind
        logits = logits[0]
    scores = logits.reshape(-1, logits.shape[-1]).float().numpy()
    if len(scores) != len(layer.experts) or scores.shape[1] < layer.num_experts:
        return False
    top = np.argsort(-scores, axis=1, kind="stable")[:, : layer.experts.shape[1]]
    top = np.where(top < layer.num_experts, top, -1)
    return bool((np.sort(top, axis=1) == np.sort(layer.experts, axis=1)).all())


def page(families: list[Family]) -> str:
    """Return docs/families.md."""
    import transformers

    from moe_zoo.types import NOT_MOE, UNBUILDABLE

    returned = [family.router_logits for family in families]
    lines = [
        "<!-- Written by docs/generate/families.py; edit that. -->",
        "# Supported model families",
        "",
        f"Version {transformers.__version__} of transformers has {len(families)} families of Mixture-of-Experts models "
        "that read text. The tests build a tiny random model of each, run it with two implementations of its experts, "
        "and check that the recorded experts and gate weights are exactly those that the model computes with. "
        "This table is generated from the same models.",
        "",
        "- **Family**: the folder in `transformers.models`.",
        "- **Found by**: `convention`, where the module `experts` receives hidden states, expert ids and gate weights; "
        "otherwise the adapter in `specialize.capture.adapters`.",
        "- **Score function**: how router logits become gate weights, as measured in this model; *unknown* where none "
        "of the common functions fits. A checkpoint may be configured differently: `specialize inspect` shows its own.",
        "- **Top k of `router_logits`**: whether, with `output_router_logits=True`, the k largest of the returned "
        f"numbers are the experts that were used, in every layer: so in {returned.count('yes')} of the {len(families)} "
        "families. Where a family has selection biases, those of the tiny model are not zero, like a trained model's.",
        "- **Interventions**: the modes of `specialize.intervene` in which experts can be switched off (drop, "
        "renormalize, reroute, replace). In every family that allows them, dropping gives the logits of a model in "
        "which the expert's weights are zero, and rerouting the next expert of the model's own router.",
        "",
        "| Family | Found by | Score function | Top k of `router_logits` | Interventions | Notes |",
        "|---|---|---|---|---|---|",
    ]
    for family in families:
        found = "convention" if family.found_by == CONVENTION else "adapter"
        notes = "; ".join(family.notes)
        cells = (f"`{family.folder}`", found, family.score_function, family.router_logits, family.interventions, notes)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "`gpt_oss` in MXFP4 has an adapter (`gpt_oss in MXFP4`), which is tested with a stand-in for its kernel.",
        "",
        "The package's own models (`specialize_gpt_moe`, see `specialize train`) are supported too. For any other "
        "layer, [register a router](how-to/register-a-router.md).",
        "",
        "## Not Mixture-of-Experts models",
        "",
        "These folders have a class whose name suggests experts or a router, but nothing to trace:",
        "",
        *(f"- `{folder}`: {reason}." for folder, reason in NOT_MOE.items()),
    ]
    if UNBUILDABLE:
        lines += ["", "## Not supported", "", *(f"- `{name}`: {why}." for name, why in UNBUILDABLE.items())]
    return "\n".join(lines) + "\n"


def short_table(families: list[Family]) -> str:
    """Return the table of README.md."""
    import transformers

    by_convention = [family.folder for family in families if family.found_by == CONVENTION]
    by_adapter = [family.folder for family in families if family.found_by != CONVENTION]
    return "\n".join(
        [
            f"| Routing is read from | Families of transformers {transformers.__version__} |",
            "|---|---|",
            f"| the call of the module `experts` ({len(by_convention)}) | {', '.join(by_convention)} |",
            f"| an adapter ({len(by_adapter)}) | {', '.join(by_adapter)} |",
            "| `specialize.register_router` | a layer of your own |",
        ]
    )


def insert(readme: str, table: str) -> str:
    """Put the table between the markers of README.md."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", flags=re.DOTALL)
    if not pattern.search(readme):
        raise SystemExit(f"README.md: expected the markers {BEGIN} and {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", readme)


def main() -> None:
    """Write the page and the table."""
    with contextlib.redirect_stderr(io.StringIO()):  # notes of transformers about the tiny models
        families = find_families()
    PAGE.write_text(page(families), encoding="utf-8")
    README.write_text(insert(README.read_text(encoding="utf-8"), short_table(families)), encoding="utf-8")


if __name__ == "__main__":
    main()
