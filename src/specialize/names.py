"""What label sets, quantities and verdicts are called wherever a reader sees them."""

from dataclasses import dataclass

from specialize.text import clean_text, count_columns, cut_columns

NEXT = "next_"  # starts the name of a label set whose labels are those of the next token
REMOVED_BY = "removed_by_"  # starts the label set of rows of several experts that are switched off by a ranking
CACHE_SIZE = "cache_size"  # label set of the rows of a cache, whose label is its number of experts


def shorten(text: object, *, width: int = 32) -> str:
    """Return the cleaned `text`, cut to `width` columns with an ellipsis where it was wider.

    A column is the width of a Latin letter; a kanji has two.
    """
    cleaned = clean_text(text)
    return cleaned if count_columns(cleaned) <= width else cut_columns(cleaned, width - 1).rstrip(" ,;:") + "…"


def show_space(text: object) -> str:
    """Return ``␣`` for a text that begins with white space, which tells tokens apart; else an empty string."""
    return "␣" if str(text)[:1].isspace() else ""


@dataclass(frozen=True)
class LabelSetName:
    """How a label set is called.

    Attributes:
        long: as a noun, as in U( | expert): ``part of speech``.
        short: within H( ), as short as it can be understood: ``POS``.
        axis: title of an axis of labels, which says where they come from.
        article: what stands before `long` in a sentence.
    """

    long: str
    short: str
    axis: str
    article: str = ""

    @property
    def noun(self) -> str:
        """The label set within a sentence: ``part of speech``, ``the fitted topic``."""
        return self.article + self.long


_KNOWN_LABEL_SETS = {
    "upos": LabelSetName("part of speech", "POS", "part of speech (UPOS)"),
    "gold_upos": LabelSetName("gold part of speech", "gold POS", "gold part of speech (UPOS)"),
    "tag": LabelSetName("fine-grained part of speech", "tag", "fine-grained part of speech"),
    "gold_tag": LabelSetName("gold fine-grained part of speech", "gold tag", "gold fine-grained part of speech"),
    "dep": LabelSetName("dependency relation", "dep", "dependency relation"),
    "gold_dep": LabelSetName("gold dependency relation", "gold dep", "gold dependency relation"),
    "morph": LabelSetName("morphology", "morph", "morphological features"),
    "gold_morph": LabelSetName("gold morphology", "gold morph", "gold morphological features"),
    "ent": LabelSetName("entity type", "ent", "entity type"),
    "class": LabelSetName("character class", "class", "character class"),
    "word_part": LabelSetName("start or continuation of a word", "word part", "part of a word"),
    "case": LabelSetName("letter case", "case", "letter case"),
    "frequency": LabelSetName("token frequency", "frequency", "frequency rank of the token id"),
    "position": LabelSetName("position", "position", "position in the sequence"),
    "role": LabelSetName("role in the conversation", "role", "role in the conversation", "the "),
    "phase": LabelSetName("phase", "phase", "phase: prompt (prefill) or generation", "the "),
    "bertopic": LabelSetName("fitted topic", "topic", "fitted topic (BERTopic)", "the "),
    "bertopic_window": LabelSetName(
        "fitted topic of the window", "window topic", "fitted topic of a window (BERTopic)", "the "
    ),
}


def name_label_set(label_set: str) -> LabelSetName:
    """Return the names of a label set; a corpus column is called by its own name, as a known label.

    A set ``next_SET`` has the labels of SET at the token that follows, which the model predicts.
    """
    if label_set in _KNOWN_LABEL_SETS:
        return _KNOWN_LABEL_SETS[label_set]
    if label_set.startswith(NEXT) and label_set != NEXT:
        own = name_label_set(label_set.removeprefix(NEXT))
        return LabelSetName(
            f"{own.long} of the next token", f"next {own.short}", f"{own.axis}, of the next token", own.article
        )
    column = f"known label “{shorten(label_set, width=24)}”"
    return LabelSetName(column, f"“{shorten(label_set, width=14)}”", column, "the ")


@dataclass(frozen=True)
class QuantityName:
    """Title and axis label of a quantity; both say unit and normaliser."""

    title: str
    axis: str


def name_quantity(metric: str, label_set: str | None) -> QuantityName:
    """Return the title and the axis label of `metric` for `label_set`."""
    names = name_label_set(label_set) if label_set else LabelSetName("label", "label", "labels")
    long, short = names.long, names.short
    pairs = "share of consecutive pairs"
    known = {
        "uncertainty_coefficient": QuantityName(
            f"U({long} | expert)\nshare of H({short}) explained by routing",
            f"U, share of H({short})",
        ),
        "mutual_information": QuantityName(
            f"I(expert; {long})\nmutual information of expert and label, in bits",
            "I, bits",
        ),
        "label_entropy": QuantityName(f"H({short})\nentropy of the label, in bits", f"H({short}), bits"),
        "load_entropy": QuantityName("H(expert)\nentropy of the load, in bits", "H(expert), bits"),
        "specific_information": QuantityName(
            f"i(expert): specific information of an expert about {names.noun}, in bits",
            "i(expert), bits",
        ),
        "lift": QuantityName(
            f"lift = P({short} | expert) / P({short})",
            f"lift, P({short} | expert) / P({short})",
        ),
        "load": QuantityName("Load of each expert ÷ uniform load", "load ÷ uniform load"),
        "flow_uncertainty_coefficient": QuantityName(
            "U(next layer’s expert | expert)\nshare of H(next expert) explained by the expert",
            "U, share of H(next expert)",
        ),
        "first_expert_repeats": QuantityName("Consecutive tokens with the same first expert", pairs),
        "any_expert_repeats": QuantityName("Consecutive tokens with an expert in common", pairs),
        "saturation": QuantityName("Router saturation", "share of slots as in the final checkpoint"),
        "saturation_to_previous": QuantityName(
            "Router saturation, step to step", "share of slots as at the snapshot before"
        ),
        "dead_experts": QuantityName("Dead experts", "experts without any load"),
        "effect": QuantityName(
            "Effect of switching off an expert\nrise of the loss at the label’s tokens, in bits", "effect, bits"
        ),
        "exposure": QuantityName(
            "Exposure\nshare of the label’s tokens that use the expert", "exposure, share of the label’s tokens"
        ),
        "per_use_effect": QuantityName(
            "Per-use effect of switching off an expert\nrise of the loss at the label’s tokens that use it, in bits",
            "per-use effect, bits",
        ),
        "indirect_effect": QuantityName(
            "Indirect effect of switching off an expert\nrise of the loss through tokens that do not use it, in bits",
            "indirect effect, bits",
        ),
        "effect_selectivity": QuantityName(
            "Selectivity of switching off an expert\neffect on the label − on all other tokens, in bits",
            "selectivity, bits",
        ),
        "removal_effect": QuantityName(
            "Several experts switched off together\nrise of the mean loss, in bits", "rise of the mean loss, bits"
        ),
    }
    return known.get(metric, QuantityName(clean_text(metric), clean_text(metric)))


_SHORT_QUANTITIES = {
    "uncertainty_coefficient": "U",
    "load_entropy": "entropy of the load",
    "first_expert_repeats": "consecutive tokens with the same first expert",
    "any_expert_repeats": "consecutive tokens with an expert in common",
    "lru_hit_rate": "slots whose expert is in an LRU cache",
    "optimal_hit_rate": "slots whose expert is in the best cache",
    "same_token_overlap_above_any": "slots shared by occurrences of a token id − by any tokens",
    "signature_difference": "similarity of documents within − between labels",
}


def name_in_table(metric: str) -> str:
    """Return what a row of a table calls `metric`, without its unit."""
    return _SHORT_QUANTITIES.get(metric, clean_text(metric).replace("_", " "))


_TOPIC_QUALITIES = {
    "num_documents": "documents",
    "num_topics": "topics",
    "outlier_share": "share of documents that clustering left as outliers",
    "unlabelled_share": "share of documents without a topic",
    "ari_over_seeds": "adjusted Rand index between seeds (1: identical topics)",
    "ari_over_seeds_without_outliers": "adjusted Rand index between seeds, without outliers",
}


def name_topic_quality(quantity: str) -> str:
    """Return what a row of ``topic_quality.csv`` measures."""
    if quantity in _TOPIC_QUALITIES:
        return _TOPIC_QUALITIES[quantity]
    if quantity.startswith("nmi_"):
        column = quantity.removeprefix("nmi_")
        without = ", without outliers" if column.endswith("_without_outliers") else ""
        column = clean_text(column.removesuffix("_without_outliers"))
        return f"normalised mutual information with “{column}”{without}"
    return clean_text(quantity)


_OUTCOMES = {
    "too little data": "too little data",
    "not tested": "not tested against chance",
    "at chance": "not distinguishable from chance",
    "unclear": "unclear: test and interval disagree",
    "above chance": "above chance",
}
_AGAINST_RANDOM = {
    "not recorded": "",
    "not compared": "",
    "above": " and above random routers",
    "not clearly above": ", but not clearly above random routers",
    "below": ", but below random routers",
}
_TOKEN_IDENTITY = {"yes": "; mostly explained by token identity", "no": "", "unknown": ""}


def name_verdict(outcome: str, *, against_random: str, explained_by_token: str) -> str:
    """Return a verdict in a few words; how it compares with controls is said only of what is above chance.

    Args:
        outcome: ``too little data``, ``not tested``, ``at chance``, ``unclear`` or ``above chance``.
        against_random: ``not recorded``, ``not compared``, ``above``, ``not clearly above`` or ``below``.
        explained_by_token: ``yes``, ``no`` or ``unknown``.
    """
    name = _OUTCOMES[outcome]
    if outcome != "above chance":
        return name
    return name + _AGAINST_RANDOM[against_random] + _TOKEN_IDENTITY[explained_by_token]
