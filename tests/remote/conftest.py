"""A local S3 server, which all tests of a worker share, and a small run to put there."""

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote.buckets import BUCKET, Bucket
from specialize import addresses
from specialize.remote import cache, store
from specialize.trace import RouterSpec, Shard, TraceWriter
from specialize.tracing.documents import batch_rows


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def environment(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables with which a process reaches the server, set for this one, too."""
    values = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hidden-word",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SPECIALIZE_CACHE": str(tmp_path / "cache"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def fresh(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Forget every copy, connection and download, as another machine would; gives the function that does so."""
    numbers = iter(range(1000))

    def forget() -> None:
        monkeypatch.setenv("SPECIALIZE_CACHE", str(tmp_path / f"cache{next(numbers)}"))
        reopen()

    def reopen() -> None:
        addresses._copies.clear()
        addresses._folders.clear()
        cache.process_folder.cache_clear()
        store.open_store.cache_clear()
        import fsspec

        fsspec.get_filesystem_class("s3").clear_instance_cache()

    forget()
    yield forget
    reopen()


@pytest.fixture
def bucket(server: str, fresh: Any) -> Bucket:
    """A bucket with nothing in it."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for each in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=each["Key"])
    return Bucket(f"s3://{BUCKET}", server, client)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 documents with a label, two shards and two routers, written without a model."""
    import numpy as np
    import pyarrow as pa

    run = tmp_path_factory.mktemp("runs") / "x"
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["sea", "sun", "river", "stone", "The", "42"], k=12)) for _ in range(60)]
    rows = [{"id": str(n), "text": text, "kind": "even" if n % 2 == 0 else "odd"} for n, text in enumerate(texts)]
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    routers = [RouterSpec(layer=n, name=f"layers.{n}", num_experts=4, top_k=2) for n in range(2)]
    numbers = np.random.default_rng(0)
    with TraceWriter(run, settings={"model": "tiny"}, provenance={"versions": {}}) as writer:
        writer.write_documents(schema, batch_rows(rows, schema))
        writer.describe(
            routers=[each.as_dict() for each in routers],
            contents=[],
            corpus={"source": "made", "labels": ["kind"], "digest": "0" * 64, "documents": 60},
        )
        for first in (0, 30):
            spans = [(n, *span) for n in range(first, first + 30) for span in _words(texts[n])]
            document, start, end = (np.array(each) for each in zip(*spans, strict=True))
            tokens = {
                "document": document,
                "sequence": document,
                "position": np.concatenate([np.arange(12)] * 30),
                "token_id": np.array([hash_word(texts[n][a:b]) for n, a, b in spans]),
                "char_start": start,
                "char_end": end,
                "phase": np.zeros(len(spans), np.uint8),
            }
            chosen = [np.argsort(numbers.random((len(spans), 4)), axis=1)[:, :2] for _ in routers]
            writer.write_shard(Shard(tokens, [{"experts": each} for each in chosen]))
        writer.finish()
    return run


def _words(text: str) -> list[tuple[int, int]]:
    spans, place = [], 0
    for word in text.split(" "):
        spans.append((place, place + len(word)))
        place += len(word) + 1
    return spans


def hash_word(word: str) -> int:
    return sum(map(ord, word))


@pytest.fixture(scope="session")
def corpus() -> bytes:
    """Ninety documents with a label, as JSON Lines."""
    draw = random.Random(1)
    rows = [
        {"id": f"d{n}", "text": " ".join(draw.choices(["sea", "sun", "river", "stone"], k=9)) + f" {n}.", "kind": n % 3}
        for n in range(90)
    ]
    return "\n".join(map(json.dumps, rows)).encode()
