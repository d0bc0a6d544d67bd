"""The cost of annotating, relative to the libraries that do the work.

    python analyses/benchmarks/annotate.py

`annotate_syntax` is compared with `nlp.pipe` with the same components and processes, `annotate_topics` with BERTopic
with the same parts, alternating on the same documents; a ratio is the median over rounds of the ratio within a round.
Peak memory is that of a process that tags a corpus, and of one that tags a corpus four times as long.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from peak import peak_megabytes

from specialize.annotators.syntax import annotate_syntax
from specialize.annotators.tagging import load_pipeline
from specialize.annotators.topic_clusters import EstimatedKMeans
from specialize.annotators.topics import annotate_topics
from specialize.demo import write_corpus
from specialize.manifest import versions, write_json


class Words:
    """A trace whose tokens are maximal sequences of characters other than white space."""

    def __init__(self, texts: list[str]) -> None:
        rows = []
        for document, text in enumerate(texts):
            end = 0
            for word in text.split():
                start = text.index(word, end)
                end = start + len(word)
                rows.append((document, start, end))
        self._tokens = pd.DataFrame(rows, columns=["document", "char_start", "char_end"])
        self._documents = pd.DataFrame({"id": range(len(texts)), "text": texts})

    def tokens(self) -> pd.DataFrame:
        return self._tokens

    def documents(self) -> pd.DataFrame:
        return self._documents


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(name: str, ours: Callable[[], object], raw: Callable[[], object], rounds: int) -> dict[str, object]:
    ours(), raw()  # warm-up
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = timed(raw)
            pairs.append((timed(ours), second))
        else:
            pairs.append((timed(ours), timed(raw)))
    ratio = statistics.median(one / other for one, other in pairs)
    row = {"what": name, "seconds": statistics.median(one for one, _ in pairs), "times_raw": ratio, "rounds": rounds}
    print(row, flush=True)
    return row


def tagging(texts: list[str], processes: int, rounds: int) -> dict[str, object]:
    trace, nlp = Words(texts), load_pipeline()

    def raw() -> None:
        for doc in load_pipeline().pipe(texts, batch_size=64, n_process=processes):
            doc.to_array(["POS"])

    name = f"tagging, {len(texts)} documents, processes: {processes}, {', '.join(nlp.pipe_names)}"
    return compare(name, lambda: annotate_syntax(trace, processes=processes), raw, rounds)


def topics(texts: list[str], rounds: int, cache: Path) -> dict[str, object]:
    from bertopic import BERTopic
    from sklearn.feature_extraction.text import CountVectorizer
    from umap import UMAP

    documents = pd.DataFrame({"id": range(len(texts)), "text": texts})
    fitted = annotate_topics(documents, stability_seeds=(), cache=cache)
    embeddings = np.load(next(cache.glob("*.npz")))["vectors"]
    size = fitted.annotation.provenance["min_topic_size"]

    def raw() -> None:
        BERTopic(
            umap_model=UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=0, n_jobs=1),
            hdbscan_model=EstimatedKMeans(embeddings, size=size, seed=0),
            vectorizer_model=CountVectorizer(stop_words="english"),
        ).fit(texts, embeddings)

    def ours() -> None:
        annotate_topics(documents, stability_seeds=(), cache=cache)

    return compare(f"topics, {len(texts)} documents, embeddings given", ours, raw, rounds)


def peak_memory(times: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--memory-of", str(times)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    memory: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    print(memory, flush=True)
    return memory


def read_texts(documents: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        path = write_corpus(Path(name) / "corpus.jsonl", limit=documents)
        return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        trace = Words(read_texts(500) * given.memory_of)
        annotate_syntax(trace)
        print(json.dumps({"documents": 500 * given.memory_of, "peak_mb": peak_megabytes()}))
        return
    texts = read_texts(max(given.documents, 2000))
    with tempfile.TemporaryDirectory() as cache:
        rows = [
            tagging(texts[: given.documents], 1, given.rounds),
            tagging(texts[: given.documents], 2, given.rounds),
            topics(texts[:2000], given.rounds, Path(cache)),
        ]
    memory = [peak_memory(times) for times in (1, 4)]
    given.output.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(given.output / "annotate.csv", index=False, float_format="%.4f")
    pd.DataFrame(memory).to_csv(given.output / "annotate-memory.csv", index=False, float_format="%.1f")
    write_json(given.output / "annotate.json", {"rounds": given.rounds, "versions": versions()})


if __name__ == "__main__":
    main()
