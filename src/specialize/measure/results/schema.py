"""The one result schema: a tidy frame with one row a quantity, the same for every command."""

RESULT_COLUMNS: dict[str, str] = {
    "run": "name of the run (the folder's name unless given)",
    "routing": "learned: the model's own router; random router (control) on the same hidden states",
    "layer": "layer number as the model numbers it",
    "router": "module of the router, which tells routers of one layer number apart; missing for a whole model",
    "expert": "expert index; missing for quantities of a whole layer",
    "label_set": "what the labels are: upos, bertopic, or the name of a corpus column",
    "label": "the label; missing for quantities over all labels",
    "metric": "name of the quantity",
    "value": "the estimate",
    "unit": "bits, share, ratio or count",
    "ci_low": "lower end of the interval",
    "ci_high": "upper end of the interval",
    "ci_kind": "how the interval was made and its level; missing where there is none",
    "null_mean": "mean of the same quantity under the null",
    "null_low": "2.5th percentile of the null",
    "null_high": "97.5th percentile of the null",
    "p_value": "(1 + number of null draws at least as extreme) / (1 + number of draws)",
    "q_value": "p_value after Benjamini-Hochberg over all layers, experts and labels of the same metric",
    "n_tokens": "tokens counted",
    "n_documents": "documents counted",
}
