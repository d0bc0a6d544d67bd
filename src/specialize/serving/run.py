"""A corpus through an inference server, into a trace."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from specialize.corpus import Corpus
from specialize.errors import CaptureError
from specialize.events import SILENT, Reporter
from specialize.manifest import digest_of, versions
from specialize.remote.places import at_addresses
from specialize.serving.apis import APIS, ServedModel
from specialize.serving.client import Client
from specialize.serving.options import ServerOptions, read_key
from specialize.serving.tracer import ServerTracer
from specialize.trace import RouterSpec, RoutingTrace, TraceWriter
from specialize.trace.imports.model_config import read_model
from specialize.trace.imports.source import ModelFacts
from specialize.trace.parts import Part
from specialize.trace.token_text import TokenDecoder
from specialize.trace.unfinished import read_unfinished
from specialize.tracing.checkpoints import check_name, digest_tokenizer, load_tokenizer
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import CorpusSurvey, survey_corpus
from specialize.tracing.reading import open_reading
from specialize.tracing.resuming import check_corpus
from specialize.tracing.run import Traced, write_trace
from specialize.tracing.windows import cut_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOCAL = ("localhost", "127.0.0.1", "::1")
_FIRST_SHARD = 2**13  # tokens
_NO_WEIGHTS = "the server returns expert ids alone: the trace has no gate weights"


@at_addresses(run="written")
def trace_served(
    model: str | PathLike[str],
    corpus: Corpus,
    run: str | PathLike[str],
    *,
    server: ServerOptions,
    options: TraceOptions | None = None,
    chat_template: str | PathLike[str] | None = None,
    part: Part | None = None,
    repair: bool = False,
    command: str | None = None,
    reporter: Reporter = SILENT,
    survey: CorpusSurvey | None = None,
) -> RoutingTrace:
    """Send a corpus to an inference server, and write the routing that it returns as a trace.

    Texts are tokenized here and cut into windows as for a model in this process; the server reads token ids. An
    interrupted trace with the same settings is resumed, also through another address; a complete one is opened as it
    is, without the server.

    Args:
        model: a folder with the tokenizer and the config.json of the model that is served, or its hub id; no weights
            are read.
        corpus: the documents.
        run: the run folder, created if missing.
        server: which server is asked, and how.
        options: how the corpus is cut; it may ask for expert ids alone, which is all that servers return.
        chat_template: of conversations: a Jinja template, or the path of a file with one; default: the tokenizer's.
        part: which part of the trace is made; default: all of it.
        repair: trace missing and damaged shards of an existing trace again, instead of raising an error.
        command: the command line, for the manifest.
        reporter: receives what was assumed of the server, an estimate of what the trace will take, and the progress.
        survey: of this corpus, if it was read before.

    Returns:
        The complete trace, or the complete part of it.

    Raises:
        CaptureError: the server is down, returns no experts or other than the model can choose, or fails again and
            again; or the tokenizer cannot be loaded.
        CorpusError: the corpus cannot be read, is empty, or does not begin with the documents of the trace.
        TraceError: the configuration is not that of a Mixture-of-Experts model; the folder holds something else or a
            damaged trace, or another process is writing to it.
        OutputError: the disk is full, or the folder cannot be written.
    """
    # there are no batches: so many tokens has the first shard, which soon is to keep all connections busy
    options = replace(options or TraceOptions(), weights=False, batch_tokens=_FIRST_SHARD)
    run, name = Path(run), fspath(model)
    if options.contents or options.control:
        raise CaptureError(f"{(*options.contents, 'control')[0]}: expected expert ids alone from a server")
    check_name(name)
    key = read_key()
    facts = read_model(name, otherwise="give the MODEL that the server runs")
    if facts.top_k is None:
        raise CaptureError(f"{name}: expected a configuration that says how many experts a token chooses, got none")
    tokenizer = load_tokenizer(name)
    survey = survey or survey_corpus(corpus)
    reading = open_reading(
        tokenizer,
        corpus,
        options,
        survey=survey,
        longest=_longest_prompt(facts.config),
        num_ids=_entry_of(facts.config, "vocab_size"),
        chat_template=chat_template,
    )
    settings: dict[str, Any] = {
        "model": name,
        "revision": None,
        "config_digest": digest_of(facts.config),
        "weights_digest": None,  # a server does not say
        "tokenizer_digest": digest_tokenizer(tokenizer),
        "api": server.api,
        "corpus": corpus.source,
        "limit": corpus.limit,
        **{key: value for key, value in reading.settings(corpus).items() if key != "batch_tokens"},
    }
    stored = read_unfinished(run, settings, part=part, partial=True) or {}
    with Client(server.address, concurrency=server.concurrency, timeout=server.timeout, key=key) as client:
        served = ServedModel(server.served_model or stored.get("settings", {}).get("served_model"))
        tracer: ServerTracer | None = None
        if repair or check_corpus(corpus, run, stored) or not stored.get("complete"):
            api = APIS[server.api]
            if key is not None and _is_open(server.address):
                reporter.say(f"warning: {server.address}: the API key is sent without encryption; use https")
            served = client.run(api.find_model(client, name, server.served_model))
            _check_length(served, reading.context, server.address)
            tracer = ServerTracer(client, api, facts, served=served.name, decoder=TokenDecoder(tokenizer))
            first = _first_tokens(reading.render_sample(survey), tokenizer, reading.context)
            for note in tracer.probe(first, reading.context):
                reporter.say(note)
            reporter.say(f"note: {_NO_WEIGHTS}")

        @contextmanager
        def opened(written: Sequence[Mapping[str, Any]]) -> Iterator[ServerTracer]:
            if tracer is None:
                raise RuntimeError("expected a complete trace")
            yield tracer
            for finding in tracer.findings():
                reporter.say(finding)

        settings["served_model"] = served.name
        provenance = {
            "command": command,
            "versions": versions(),
            "model": {
                "name": name,
                "config": dict(facts.config),
                "config_digest": settings["config_digest"],
                "server": {"address": server.address, "api": server.api, "served_model": served.name},
            },
        }
        traced = Traced(
            reading,
            _routers(facts, server.api),
            options=options,
            settings=settings,
            provenance=provenance,
            notes=(),
            open=opened,
        )
        writer = TraceWriter(run, settings=settings, provenance=provenance, part=part)
        return write_trace(traced, corpus, writer, survey=survey, repair=repair, reporter=reporter)


def _routers(model: ModelFacts, api: str) -> list[RouterSpec]:
    return [
        RouterSpec(
            layer=number,
            name=f"layers.{number}",
            num_experts=model.num_experts,
            top_k=model.top_k or 0,
            found_by=f"answers of {api}",
        )
        for number in model.moe_layers
    ]


def _longest_prompt(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a prompt may have, as the configuration says; a server generates one more."""
    longest = _entry_of(config, "max_position_embeddings")
    return longest - 1 if longest is not None and longest > 1 else None


def _entry_of(config: Mapping[str, Any], name: str) -> int | None:
    """Return a whole number of a configuration, or of that of its language model; None if there is none."""
    value = config.get(name)
    if value is None and isinstance(config.get("text_config"), dict):
        value = config["text_config"].get(name)
    return value if type(value) is int else None


def _is_open(address: str) -> bool:
    """Return whether others may read what is sent to an address."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in _LOCAL


def _check_length(served: ServedModel, context: int, address: str) -> None:
    if served.longest is not None and context >= served.longest:
        raise CaptureError(
            f"context: expected at most {served.longest - 1:,} tokens, since {address} takes {served.longest:,} with "
            f"the one that it generates, got {context:,}; set --context"
        )


def _first_tokens(survey: CorpusSurvey, tokenizer: "PreTrainedTokenizerBase", context: int) -> NDArray[np.int32]:
    """Return the tokens of a window of the corpus; any token if there is none in the sample."""
    windows = (window for text in survey.sample for window in cut_windows([text], tokenizer, length=context))
    return next((window.token_ids for window in windows), np.zeros(1, np.int32))
