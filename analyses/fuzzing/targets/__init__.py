"""The fuzz targets, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from analyses.fuzzing.harness import Target
from analyses.fuzzing.targets.arrays import ARRAYS, USAGE, VLLM
from analyses.fuzzing.targets.corpora import CONLLU, CORPUS
from analyses.fuzzing.targets.imports import ESFT, MEGATRON, OLMOE, ROUTE_TRACE, SGLANG, VLLM_RESPONSES
from analyses.fuzzing.targets.stored import ANNOTATIONS, MANIFEST, RESULTS

_ALL = (
    CORPUS,
    CONLLU,
    ESFT,
    OLMOE,
    VLLM,
    VLLM_RESPONSES,
    SGLANG,
    ROUTE_TRACE,
    MEGATRON,
    USAGE,
    ARRAYS,
    MANIFEST,
    ANNOTATIONS,
    RESULTS,
)
TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _ALL})
