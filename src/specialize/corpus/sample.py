"""A random sample of a corpus that depends on what its documents hold, not on how they are stored or ordered."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from heapq import nsmallest

from specialize.choices import check_whole
from specialize.corpus.document import Record
from specialize.corpus.stream import Corpus, Sample
from specialize.errors import CorpusError


def draw_sample(name: str, records: Callable[[], Iterator[Record]], size: int, *, seed: int = 0) -> Corpus:
    """Return a uniform random sample of the documents of a corpus, in their order in the corpus.

    Each document gets a hash of the seed, of its text or messages and, of several copies, of which of them it is; the
    documents with the smallest hashes are drawn. So a seed draws the same texts from another form of the corpus, where
    ids, labels or the order may be others, and a larger sample contains a smaller one.

    Args:
        name: of the source.
        records: reads it from the start; every document is read once to draw.
        size: number of documents to draw; all are drawn if there are fewer.
        seed: of the draw.

    Raises:
        CorpusError: the size is not positive, a number is not a whole one, or a document cannot be read.
    """
    check_whole("sample", size, error=CorpusError)
    check_whole("sample_seed", seed, error=CorpusError)
    if size < 1:
        raise CorpusError(f"sample: expected a positive number of documents, got {size}")
    copies = Counter[bytes]()
    number = 0

    def hashes() -> Iterator[tuple[bytes, int]]:
        nonlocal number
        for document in Corpus(name, records):
            content = hashlib.blake2b(document.encode_content(), digest_size=16).digest()
            key = f"{seed} {copies[content]} ".encode()
            copies[content] += 1
            yield hashlib.blake2b(key + content, digest_size=16).digest(), number
            number += 1

    drawn = {place for _, place in nsmallest(size, hashes())}
    last = max(drawn)

    def read() -> Iterator[Record]:
        place = 0
        for record in records():
            if record.document.is_blank:
                yield record  # the corpus counts and skips it
                continue
            if place in drawn:
                yield record
            if place == last:
                break
            place += 1

    return Corpus(name, read, sample=Sample(len(drawn), int(seed), number))
