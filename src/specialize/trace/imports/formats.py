"""The formats that can be imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from specialize.errors import TraceError, did_you_mean
from specialize.trace.imports.arrays import open_arrays
from specialize.trace.imports.esft import open_esft
from specialize.trace.imports.megatron import open_megatron
from specialize.trace.imports.olmoe import open_olmoe
from specialize.trace.imports.route_trace import open_route_trace
from specialize.trace.imports.serving import open_sglang, open_tensorrt_llm, open_vllm
from specialize.trace.imports.source import ImportOptions, Source, check_layers
from specialize.trace.imports.usage import open_usage


@dataclass(frozen=True)
class ImportFormat:
    """A format that can be imported.

    Attributes:
        name: its name in `import_trace` and on the command line.
        what: a description in one line.
        open: inspects an input and returns how to read it.
    """

    name: str
    what: str
    open: Callable[[Path, ImportOptions], Source]


_ALL = (
    ImportFormat("esft", "ESFT's text dumps: a folder of expert_weights_LAYER.txt", open_esft),
    ImportFormat("olmoe", "OLMoE's analysis: JSON Lines of input_ids, predicted_token_ids, exp_ids", open_olmoe),
    ImportFormat("vllm", "vLLM's routed experts: responses in JSON Lines, or arrays [tokens, layers, k]", open_vllm),
    ImportFormat("sglang", "SGLang's responses with routed experts, in JSON Lines", open_sglang),
    ImportFormat("tensorrt-llm", "TensorRT-LLM's routed experts: arrays [tokens, MoE layers, k]", open_tensorrt_llm),
    ImportFormat("route-trace", "route traces of llama.cpp-based engines: a CSV file or a folder", open_route_trace),
    ImportFormat("megatron", "Megatron-LM's router traces: router_trace_rankN.jsonl or a folder", open_megatron),
    ImportFormat("usage", "counts or shares of experts by document: .npy or .npz [documents, layers, E]", open_usage),
    ImportFormat("arrays", "a plain layout for a user's own routing: .npz, a folder of .npy, or Parquet", open_arrays),
)
FORMATS: Mapping[str, ImportFormat] = MappingProxyType({each.name: each for each in _ALL})


def open_source(name: str, path: Path, options: ImportOptions) -> Source:
    """Open an input.

    Raises:
        TraceError: the format is unknown, the input is missing or not of that format, or the number of a layer is
            out of range or given twice.
    """
    if name not in FORMATS:
        raise TraceError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}.{did_you_mean(name, FORMATS)}")
    if not path.exists():
        raise TraceError(f"{path}: expected {FORMATS[name].what}, found no such file or folder")
    check_layers(options.layers, "layers")
    source = FORMATS[name].open(path, options)
    check_layers(source.layers, f"{path}: layers")
    return source
