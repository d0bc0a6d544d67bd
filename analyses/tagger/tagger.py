"""Error rate of the part-of-speech tagger, and the effect of its errors on measured specialization.

    python analyses/tagger/tagger.py EWT.parquet -o FOLDER

The Parquet file has the documents of a treebank: id, words, upos, space (whether white space follows each word). They
are written as CoNLL-U, traced with the demo's token-routed checkpoint, and measured with gold and with predicted tags.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))
from analyses.reporting import LineReporter

import specialize
from specialize.annotators.tagging import describe_pipeline, load_pipeline
from specialize.demo import checkpoint_path
from specialize.measure import read_results


def write_conllu(documents: pd.DataFrame, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in documents.itertuples():
            file.write(f"# newdoc id = {row.id}\n")
            for place, (word, tag, space) in enumerate(zip(row.words, row.upos, row.space, strict=True), start=1):
                columns = [place, word, "_", tag, "_", "_", 0, "root", "_", "_" if space else "SpaceAfter=No"]
                file.write("\t".join(map(str, columns)) + "\n")
            file.write("\n")


def accuracy_on_gold_words(documents: pd.DataFrame) -> dict[str, object]:
    """Tag the words as the treebank segments them; return the share of correct tags."""
    from spacy.tokens import Doc

    nlp = load_pipeline()
    right = total = 0
    docs = (Doc(nlp.vocab, words=list(row.words), spaces=list(row.space)) for row in documents.itertuples())
    for doc, gold in zip(nlp.pipe(docs, batch_size=16), documents["upos"], strict=True):
        right += int((np.array([token.pos_ for token in doc]) == np.asarray(gold)).sum())
        total += len(doc)
    return {"accuracy": right / total, "words": total} | describe_pipeline(nlp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("treebank", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    documents = pd.read_parquet(given.treebank)
    given.output.mkdir(parents=True, exist_ok=True)
    given.results.mkdir(exist_ok=True)
    corpus, run = given.output / "en_ewt-ud-all.conllu", given.output / "ewt"
    write_conllu(documents, corpus)
    reporter = LineReporter()
    specialize.trace_corpus(checkpoint_path("token"), corpus, run, control="random-router", reporter=reporter)
    specialize.syntax(run, gold=corpus, reporter=reporter)
    accuracy = accuracy_on_gold_words(documents)
    (given.results / "gold_words.json").write_text(json.dumps(accuracy, indent=2) + "\n")
    frame = read_results(run / "syntax" / "tagger", "upos")
    frame.to_csv(given.results / "tagger.csv", index=False, float_format="%.6g")
    both = pd.concat([read_results(run / "syntax", name) for name in ("upos", "gold_upos")])
    chosen = both["metric"].isin(["uncertainty_coefficient", "conditional_information"])
    both[chosen].to_csv(given.results / "specialization.csv", index=False, float_format="%.6g")
    print(json.dumps(accuracy, indent=2))


if __name__ == "__main__":
    main()
