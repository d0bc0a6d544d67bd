"""The schema of all results: a tidy frame with one row per quantity."""

RESULT_COLUMNS: dict[str, str] = {
    "run": "name of the run, by default that of its folder",
    "routing": "learned: the model's own router; random: the first random router (control) on the same hidden states; "
    "learned − random: a difference",
    "layer": "index of the layer in the model",
    "router": "module name of the router, unique within a model; missing for quantities of a whole model",
    "expert": "index of the expert; missing for quantities of a whole layer",
    "label_set": "set of labels: upos, bertopic, or the name of a corpus column",
    "label": "the label; missing for quantities over all labels",
    "metric": "name of the quantity",
    "value": "the estimate",
    "unit": "bits, ratio, count, or share with its normaliser, such as share of H(label)",
    "ci_low": "lower end of the confidence interval",
    "ci_high": "upper end of the confidence interval",
    "ci_kind": "confidence and method of the interval, and warnings; where there is none, missing or the reason",
    "null_mean": "mean of the same estimator over permutations under the null, or its expected value under chance",
    "null_low": "2.5th percentile of the null distribution",
    "null_high": "97.5th percentile of the null distribution",
    "p_value": "(1 + number of permutations at least as extreme) / (1 + number of permutations), or that of a t test",
    "q_value": "p_value adjusted by Benjamini-Hochberg over all rows of the same metric and routing",
    "n_permutations": "number of permutations that p_value is based on; missing where it is based on none",
    "n_tokens": "number of tokens counted",
    "n_documents": "number of documents counted",
}
