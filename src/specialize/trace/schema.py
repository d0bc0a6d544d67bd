"""The trace on disk: file names, format versions and Arrow types.

    RUN/manifest.json                format name and version, routers, provenance, shards with checksums
    RUN/trace/documents.arrow        id, text, and one column per label
    RUN/trace/tokens-NNNNN.arrow     document, sequence, position, token_id, char_start, char_end, phase; of
                                     conversations also role, index into the manifest's roles
    RUN/trace/routing-NNNNN.arrow    for each router r: experts.r list<uint8|uint16>[k], or packed, see `packed_bytes`;
                                     weights.r list<float16>[k]; in a run without tokens usage.r list<float64>[E]

All files are Arrow IPC with zstd compression. Rows are tokens, ordered by document, sequence and position; in a run
without tokens there is one row for each document.
The manifest lists under ``contents`` what the trace holds besides the experts, see `CONTENTS`.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

FORMAT = "specialize-trace"
# Version 1 called a random router "shadow"; in versions 1 and 2 there was at most one beside each router; before
# version 4 ids of experts were never packed.
FORMAT_VERSION = 4
READABLE_VERSIONS = (1, 2, 3, 4)
PHASES = ("prefill", "generation")
CONTENTS = {
    "weights": "gate weights of the chosen experts",
    "logits": "router logits of all experts, before the score function",
    "norms": "Euclidean norms of the chosen experts' weighted outputs",
    "predictions": "most likely next token of each token, and the loss of the actual one",
    "roles": "role of each token in its conversation",
}
USAGE = "usage"  # contents of a trace without tokens: how much of each document every expert received
_OF_ROUTERS = ("weights", "logits", "norms")
NO_EXPERT = -1  # as read; on disk the largest value of the unsigned type
LAYERS = range(2**15)  # numbers that a layer can have
MOST_EXPERTS = 2**15 - 1  # ids are read as int16

TOKEN_SCHEMA = pa.schema(
    [
        ("document", pa.int32()),  # row of documents.arrow
        ("sequence", pa.int32()),  # running number of the sequence (window) that the model read
        ("position", pa.int32()),  # position in that sequence, special tokens included
        ("token_id", pa.int32()),
        ("char_start", pa.int32()),  # code points into the document's text
        ("char_end", pa.int32()),  # exclusive
        ("phase", pa.uint8()),  # index into PHASES
    ]
)
PREDICTION_FIELDS = (
    pa.field("predicted_token_id", pa.int32()),  # most likely next token
    pa.field("next_token_loss", pa.float32()),  # cross-entropy of the actual next token, nats; NaN without one
)
ROLE_FIELD = pa.field("role", pa.uint8())  # index into the manifest's roles
UNKNOWN = -1  # a token id or a character position that is not known
IPC_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True)
class RouterSpec:
    """One routing point of a model.

    Attributes:
        layer: the layer's number, as the model numbers it.
        name: path of the experts module in the model; unique, apart from the random routers beside that module.
        num_experts: E, the experts to choose from; shared experts are not routed and not counted.
        top_k: k, the number of slots of a token.
        score_function: how router logits become gate weights: softmax, sigmoid, … or unknown.
        normalized: whether a token's gate weights sum to one.
        static: whether the choice depends on the token id alone (hash routing).
        unit: what is routed: each token, or a whole sequence.
        routing: ``learned`` for the model's own router, whether or not it was trained; ``random`` for a random
            router (control) that was run beside it on the same hidden states.
        draw: number of a random router among those beside the same router, from 0; 0 for a learned router.
        stack: the side of an encoder-decoder model; ``decoder`` for all other models.
        identity_experts: how many of the E experts, the last ones, return their input unchanged.
        found_by: how the router was found.
    """

    layer: int
    name: str
    num_experts: int
    top_k: int
    score_function: str = "unknown"
    normalized: bool = False
    static: bool = False
    unit: Literal["token", "sequence"] = "token"
    routing: Literal["learned", "random"] = "learned"
    draw: int = 0
    stack: Literal["encoder", "decoder"] = "decoder"
    identity_experts: int = 0
    found_by: str = "experts module"

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return asdict(self)

    def held(self, contents: Collection[str]) -> tuple[str, ...]:
        """Return what a trace with `contents` holds of this router besides the experts, of weights, logits and norms.

        Of random routers that is gate weights of the first draw: the others are there for their number.
        """
        own = _OF_ROUTERS if self.routing == "learned" else _OF_ROUTERS[:1] if self.draw == 0 else ()
        return tuple(name for name in own if name in contents)


def shard_files(number: int) -> tuple[str, str]:
    """Return the names of the files of a shard: of its tokens, and of their routing."""
    return f"tokens-{number:05d}.arrow", f"routing-{number:05d}.arrow"


def expert_dtype(num_experts: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest unsigned type that holds every expert id and the sentinel."""
    return np.dtype(np.uint8 if num_experts <= 255 else np.uint16)


def bits_of_id(num_experts: int) -> int:
    """Return the bits of the largest expert id."""
    return max(1, (num_experts - 1).bit_length())


def packed_bytes(router: RouterSpec) -> int | None:
    """Return the bytes of a token's packed ids; None where ids are stored as lists.

    In a shard in which every slot of a router holds an expert, the ids of a token are one little-endian integer, that
    of slot 0 in its lowest bits, if it has at most 64 bits and takes fewer bytes than a list. The column's metadata has
    the bits of an id and the number of slots, because columns of other routers may have the same type.
    """
    size = -(-router.top_k * bits_of_id(router.num_experts) // 8)
    return size if size < min(9, router.top_k * expert_dtype(router.num_experts).itemsize) else None


def token_schema(contents: Collection[str]) -> pa.Schema:
    """Return the Arrow schema of a token shard."""
    predictions = PREDICTION_FIELDS if "predictions" in contents else ()
    return pa.schema([*TOKEN_SCHEMA, *predictions, *([ROLE_FIELD] if "roles" in contents else [])])


def numbers_of_tokens(contents: Collection[str]) -> tuple[str, ...]:
    """Return the columns of a token shard that are numbers, not codes of a phase or a role."""
    return tuple(field.name for field in token_schema(contents) if field.name not in ("phase", "role"))


def routing_schema(routers: Sequence[RouterSpec], contents: Collection[str], *, packed: bool = False) -> pa.Schema:
    """Return the Arrow schema of a routing shard: the columns of each router, in the manifest's order.

    Args:
        routers: of the trace.
        contents: what it holds besides the experts.
        packed: whether ids are packed where they can be.
    """
    fields = []
    if USAGE in contents:
        return pa.schema(
            [(f"usage.{index}", pa.list_(pa.float64(), each.num_experts)) for index, each in enumerate(routers)]
        )
    for index, router in enumerate(routers):
        half = {"weights": router.top_k, "logits": router.num_experts, "norms": router.top_k}
        if packed and (size := packed_bytes(router)) is not None:
            layout = {"bits": str(bits_of_id(router.num_experts)), "slots": str(router.top_k)}
            fields.append(pa.field(f"experts.{index}", pa.binary(size), metadata=layout))
        else:
            experts = pa.from_numpy_dtype(expert_dtype(router.num_experts))
            fields.append(pa.field(f"experts.{index}", pa.list_(experts, router.top_k)))
        fields += [pa.field(f"{name}.{index}", pa.list_(pa.float16(), half[name])) for name in router.held(contents)]
    return pa.schema(fields)
