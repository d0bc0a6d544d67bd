"""The names of label sets and quantities, and text cut to the room there is."""

from dataclasses import dataclass

from specialize.text import clean_text


def shorten(text: object, *, width: int = 32) -> str:
    """Return the cleaned `text`, cut to `width` characters with an ellipsis where it was longer."""
    cleaned = clean_text(text)
    return cleaned if len(cleaned) <= width else cleaned[: width - 1].rstrip(" ,;:") + "…"


@dataclass(frozen=True)
class LabelSetName:
    """How a label set is called in a figure.

    Attributes:
        long: within U( | expert), a noun: ``part of speech``.
        short: within H( ), as short as it can be understood: ``POS``.
        axis: title of an axis of labels, which says where they come from.
    """

    long: str
    short: str
    axis: str


_KNOWN_LABEL_SETS = {
    "upos": LabelSetName("part of speech", "POS", "part of speech (UPOS)"),
    "gold_upos": LabelSetName("gold part of speech", "gold POS", "gold part of speech (UPOS)"),
    "tag": LabelSetName("fine part of speech", "tag", "fine part of speech"),
    "gold_tag": LabelSetName("gold fine part of speech", "gold tag", "gold fine part of speech"),
    "dep": LabelSetName("dependency relation", "dep", "dependency relation"),
    "gold_dep": LabelSetName("gold dependency relation", "gold dep", "gold dependency relation"),
    "morph": LabelSetName("morphology", "morph", "morphological features"),
    "gold_morph": LabelSetName("gold morphology", "gold morph", "gold morphological features"),
    "ent": LabelSetName("entity type", "ent", "entity type"),
    "class": LabelSetName("class of characters", "class", "class of characters"),
    "word_part": LabelSetName("start or continuation of a word", "word part", "part of a word"),
    "case": LabelSetName("case", "case", "case"),
    "frequency": LabelSetName("frequency", "frequency", "rank of the token id"),
    "position": LabelSetName("position", "position", "position in the sequence"),
    "bertopic": LabelSetName("fitted topic", "topic", "fitted topic (BERTopic)"),
    "bertopic_window": LabelSetName("topic of the window", "window topic", "fitted topic of a window (BERTopic)"),
}


def name_label_set(label_set: str) -> LabelSetName:
    """Return the names of a label set; a corpus column is called by its own name, as a known label."""
    if label_set in _KNOWN_LABEL_SETS:
        return _KNOWN_LABEL_SETS[label_set]
    column = f"known label “{shorten(label_set, width=24)}”"
    return LabelSetName(column, f"“{shorten(label_set, width=14)}”", column)


@dataclass(frozen=True)
class QuantityName:
    """Title and axis label of a quantity; both say unit and normaliser."""

    title: str
    axis: str


def name_quantity(metric: str, label_set: str | None) -> QuantityName:
    """Return the title and the axis label of `metric` for `label_set`."""
    names = name_label_set(label_set) if label_set else LabelSetName("label", "label", "labels")
    long, short = names.long, names.short
    pairs = "share of neighbouring pairs"
    known = {
        "uncertainty_coefficient": QuantityName(
            f"U({long} | expert)\nshare of H({short}) removed by one routing decision",
            f"U, share of H({short})",
        ),
        "mutual_information": QuantityName(
            f"I(expert; {long})\nbits that one routing decision tells",
            "I, bits",
        ),
        "label_entropy": QuantityName(f"H({short})\nuncertainty of the label, in bits", f"H({short}), bits"),
        "load_entropy": QuantityName("H(expert)\nentropy of the load, in bits", "H(expert), bits"),
        "specific_information": QuantityName(
            f"i(expert): what one expert tells about the {long}, in bits",
            "i(expert), bits",
        ),
        "lift": QuantityName(
            f"lift = P({short} | expert) / P({short})",
            f"lift, P({short} | expert) / P({short})",
        ),
        "load": QuantityName("Load of each expert ÷ an even share", "load ÷ even share"),
        "flow_uncertainty_coefficient": QuantityName(
            "U(next layer’s expert | expert)\nshare of H(next expert) removed by one routing decision",
            "U, share of H(next expert)",
        ),
        "first_expert_repeats": QuantityName("Neighbouring tokens with the same first expert", pairs),
        "any_expert_repeats": QuantityName("Neighbouring tokens with an expert in common", pairs),
        "saturation": QuantityName("Router saturation", "share of slots as at the end"),
    }
    return known.get(metric, QuantityName(clean_text(metric), clean_text(metric)))
