"""A corpus through a model: the stage that records routing."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from specialize.addresses import show
from specialize.choices import CONTROL_DRAWS, Control, Dtype, EngineName, ServerApi, TextUnit
from specialize.errors import TraceError
from specialize.events import SILENT, Reporter
from specialize.extras import require_extra
from specialize.pipeline.models import check_model
from specialize.pipeline.parts import choose_part, note_merging
from specialize.pipeline.replayed import open_to_trace
from specialize.pipeline.served import check_served, read_server
from specialize.pipeline.trace_job import TraceJob, check_sendable
from specialize.pipeline.trace_workers import trace_on_workers
from specialize.remote.places import folder_of, local_place
from specialize.remote.showing import showing
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_workers

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from specialize.capture import Checkpoint
    from specialize.corpus import Corpus
    from specialize.trace import RoutingTrace


def trace_corpus(
    model: "str | PathLike[str] | PreTrainedModel | Checkpoint",
    corpus: "str | PathLike[str] | Sequence[Any] | pd.DataFrame | Iterable[Mapping[str, Any]] | Corpus | RoutingTrace",
    run: str | PathLike[str],
    *,
    tokenizer: "PreTrainedTokenizerBase | str | PathLike[str] | None" = None,
    text_column: str | None = None,
    messages_column: str | None = None,
    id_column: str | None = None,
    labels: Sequence[str] | None = None,
    group: str | None = None,
    unit: TextUnit = "file",
    limit: int | None = None,
    sample: int | None = None,
    sample_seed: int = 0,
    dtype: Dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_missing_weights: bool = False,
    context: int | None = None,
    stride: int | None = None,
    max_tokens: int | None = None,
    generate: int | None = None,
    chat_template: str | PathLike[str] | None = None,
    batch_tokens: int = 8192,
    weights: bool = True,
    logits: bool = False,
    norms: bool = False,
    predictions: bool = False,
    control: Control | None = None,
    control_draws: int = CONTROL_DRAWS,
    seed: int = 0,
    shard: str | None = None,
    repair: bool = False,
    server: str | None = None,
    api: ServerApi = "vllm",
    served_model: str | None = None,
    concurrency: int = 32,
    timeout: float = 300.0,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> "RoutingTrace":
    """Run a corpus through a model and write its routing trace to a run folder.

    With `server` the model runs on an inference server, vLLM or SGLang, which returns the expert ids alone; here only
    its tokenizer and configuration are read.

    Of a run folder as corpus, the model reads the token ids again as they are, each sequence in one pass, with what was
    generated: the new run has the same documents, tokens, positions, phases and roles, and the routing of this model.

    The same call resumes an interrupted trace, and opens a complete one. With more documents after those that are
    traced (a larger limit, a corpus that grew at its end) it extends the trace, whose shards stay as they are. A model
    and a corpus are recognised by what they hold, not by their paths, and shards that are missing may be traced with
    another `batch_tokens`. Options, run folder and corpus are checked before a model is loaded.

    Args:
        model: a checkpoint folder or the id of a model on the Hugging Face hub; or a loaded transformers model, which
            is run as it is, in evaluation mode; or a `Checkpoint`. With a server a folder or an id.
        corpus: a file, a folder, a pattern such as ``data/*.jsonl``, ``-`` for standard input, an address
            ``hf://DATASET``, a list of texts or of ``Path`` objects, a pandas DataFrame, a ``datasets.Dataset`` or a
            corpus, see `specialize.corpus.open_corpus`. Or a run folder or its open trace, see below.
        run: the run folder, created if missing. With `shard`, that of the whole trace, which `specialize.merge` makes;
            the part is written beside it, to ``RUN.part-I-of-N``.
        tokenizer: of a loaded model, which needs it: a fast tokenizer, or the folder or hub id of one.
        text_column: column of the text; default: ``text``, else the only string column.
        messages_column: column of conversations, which are read instead of texts; default: ``messages``, if there is no
            text. The chat template writes them as the model reads them, and each token has a role.
        id_column: column of the document ids; default: ``id``, else rows are numbered.
        labels: columns of known labels to keep; default: all string, integer and boolean columns.
        group: column that says which documents belong together (book, thread, prompt); default: ``group``, if there is
            such a column that is not among `labels`. Intervals and permutations keep them together.
        unit: what a document of plain text is: ``file`` or ``line``.
        limit: largest number of documents to read; default: all.
        sample: number of documents to draw at random instead; default: none. See `specialize.corpus.open_corpus`.
        sample_seed: of the draw.
        dtype: precision of a model that is loaded; ``auto``: as stored on a GPU, float32 on a CPU.
        device: for a model that is loaded: ``cpu``, ``cuda``, ``cuda:1``; default: a GPU if there is one.
        device_map: how accelerate spreads a model that is loaded over devices: auto, balanced, sequential.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.
        allow_missing_weights: accept a checkpoint that lacks weights of the model, which are then random, or has
            unused weights in its layers.
        context: length of a window in tokens; default: the longest that the model was made for, at most 2048.
        stride: tokens from the first of one window to the first of the next; default: windows do not overlap.
        max_tokens: largest number of tokens of a document that are traced, the first ones; default: all. The documents
            that are stored are whole.
        generate: let the model continue each document by at most so many tokens, greedily, and record their routing,
            too; the last one is not routed. Of a document that leaves no room for them in `context` the last tokens are
            read. The stored texts end with what was generated.
        chat_template: a Jinja template, or the path of a file with one, for conversations; default: the tokenizer's.
        batch_tokens: padded tokens per forward pass; halved for as long as memory runs out.
        weights: record gate weights.
        logits: record router logits of all experts, in half precision.
        norms: record the Euclidean norm of each chosen expert's weighted output.
        predictions: record the most likely next token of each token, and the loss of the actual one.
        control: ``random-router`` records random routers beside each of the model's.
        control_draws: how many of them; one alone is one draw from all random projections.
        seed: of the control.
        shard: ``I/N`` traces the I-th of N parts, from 1, which any processes may trace at any time; ``auto`` takes I
            and N from a Slurm job array, srun or torchrun, see `specialize.tracing.launch.read_part`. By default all.
        repair: trace missing and damaged shards of an existing trace again, instead of raising an error.
        server: address of an inference server that serves the model and returns routed experts, such as
            ``http://localhost:8000``. An API key is taken from the environment variable ``SPECIALIZE_API_KEY``.
        api: of the server: ``vllm`` or ``sglang``.
        served_model: name under which vLLM serves the model; default: the only one, or that with the name of `model`.
        concurrency: largest number of requests to the server at a time.
        timeout: seconds to wait for an answer of the server; a request that fails is sent again several times.
        engine: ``local``, this process; or ``ray``, workers that each load the model, or drive the server, and make a
            part of a new trace; the parts are merged, with the bytes of one process, and removed.
        address: of a Ray cluster, see `specialize.scale.options.EngineOptions`, as for the next two.
        workers: how many; by default one for each GPU, else one for each core, at most 8.
        gpus_per_worker: GPUs of each; by default one if there are any.
        command: the command line, for the manifest.
        reporter: receives an estimate of what the trace will take, and the progress.

    Returns:
        The complete trace; or the complete part of it, which stages do not measure.

    Raises:
        CaptureError: an option is invalid, the model cannot be loaded or lacks weights, its routing cannot be captured
            or is not finite, or memory does not suffice for one window; or the server is down, returns no experts or
            other than the model can choose, or fails again and again.
        CorpusError: the corpus cannot be read, is empty, or does not begin with the documents of the trace.
        TraceError: an option is out of range, `shard` is no part or the environment names none, a run as corpus lacks
            token ids or the model cannot read them, or the folder holds something else or a damaged trace, or is
            written by another process.
        EngineError: there is no Ray cluster, it has no room for the workers, or they end again and again.
        OutputError: the disk is full, or the folder cannot be written.
    """
    engine_options = EngineOptions(engine, address, workers, gpus_per_worker)
    if shard is not None and engine_options.is_remote:
        raise TraceError(f"shard: expected none with the engine {engine}, which divides the trace itself; leave it out")
    engine_options.check_run(run)
    require_extra("capture" if server is None else "serve")
    from specialize.trace.unfinished import read_unfinished
    from specialize.tracing.launch import part_folder
    from specialize.tracing.options import TraceOptions
    from specialize.tracing.plan import survey_corpus
    from specialize.tracing.replay_reading import list_settings
    from specialize.tracing.resuming import check_corpus, check_files

    part = None if shard is None else choose_part(shard, reporter)
    whole, reporter = folder_of(run), showing(reporter)
    folder = whole if part is None else part_folder(whole, part)
    loading = {
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "allow_missing_weights": allow_missing_weights,
    }
    asked = {"api": api, "served_model": served_model, "concurrency": concurrency, "timeout": timeout}
    server_options = read_server(server, asked)
    options = TraceOptions(
        context=context,
        stride=stride,
        max_tokens=max_tokens,
        generate=generate,
        batch_tokens=batch_tokens,
        control=control,
        control_draws=control_draws,
        seed=seed,
        weights=weights,
        logits=logits,
        norms=norms,
        predictions=predictions,
    )
    columns = {
        "text_column": text_column,
        "messages_column": messages_column,
        "id_column": id_column,
        "labels": labels,
        "group": group,
        "unit": unit,
        "limit": limit,
        "sample": sample,
        "sample_seed": sample_seed,
    }
    for_texts = {"stride": stride, "max_tokens": max_tokens, "generate": generate, "chat_template": chat_template}
    with local_place(show(folder), "written", reporter=reporter) as folder:
        documents = open_to_trace(corpus, folder, columns, for_texts=for_texts, reporter=reporter)
        if server_options is None:
            name = check_model(model, tokenizer, loading)
        else:
            options = check_served(model, {"tokenizer": tokenizer, **loading}, options=options)
            name = fspath(model) if isinstance(model, str | PathLike) else None
        if engine_options.is_remote:
            check_sendable(model, documents)
        settings = list_settings(documents, options) | ({} if name is None else {"model": name})
        if server_options is not None:
            del settings["batch_tokens"]  # there are no batches
        manifest = read_unfinished(folder, settings, part=part, partial=True)
        survey = survey_corpus(documents)
        for note in documents.notes:
            reporter.say(note)
        if manifest is not None:
            check_corpus(documents, folder, manifest)
            if not repair:
                check_files(folder, manifest, reporter)
        job = TraceJob(
            model=model,
            tokenizer=tokenizer,
            loading=loading,
            server=server_options,
            documents=documents,
            survey=survey,
            options=options,
            chat_template=chat_template,
            repair=repair,
            command=command,
        )
        if engine_options.is_remote:
            with open_workers(engine_options, reporter=reporter) as workers_of_job:
                return trace_on_workers(job, folder, manifest, engine=workers_of_job, reporter=reporter)
        trace = job.make(folder, part=part, reporter=reporter, one_of_several=shard == "auto")
        if part is not None:
            note_merging(whole, part, reporter)
        return trace
