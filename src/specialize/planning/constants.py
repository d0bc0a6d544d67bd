"""What is assumed where nothing can be measured: rates of earlier runs, and numbers of data sheets."""

from dataclasses import dataclass

# Measured on two cores of a server CPU, English text, one process; seconds.
TAGGING = 45e-6  # a token
MEASURING_TOKENS = 14e-6  # a token and router, with 200 permutations
EMBEDDING = 0.05  # a document, of which a model reads 256 tokens at most; on a processor
FITTING = 0.006  # a document, two fits
MEASURING_DOCUMENTS = 11e-6  # a token and router, with 1,000 permutations
MEASURING_CONDITIONS = 0.5e-6  # a token and condition
READING = 2e-6  # a token: every process that traces reads and tokenizes the whole corpus
IMPORTING = {"trace": 5.0, "syntax": 10.0, "topics": 30.0, "ablate": 10.0}
LOADING = 1e9  # bytes of weights a second

# Bytes, of the same runs.
PROCESS = {"trace": 6e8, "syntax": 7e8, "topics": 1.2e9, "ablate": 1.0e9}  # of memory, besides what grows
TAG = 0.8  # of a token, on disk
EMBEDDED = 1536  # of a document, on disk: 384 numbers in single precision
CELL = {"token": 590.0, "document": 930.0}  # of results, on disk: for each router, expert and label
CONDITION_CELL = 1400.0  # of results, on disk: for each condition and label
CHANGE = 1.9  # of a token and condition, on disk
LOADED_AT_ONCE = 8e9  # of memory of the host, where weights are loaded to several devices file by file

LABELS = {"token": 17, "document": 40}
TOPICS_POWER = 0.35  # of the number of documents, with which that of topics grows
CHARACTERS = 4.4  # of a token
LAYERS_AGAIN = 0.53  # of the layers, that an ablation of single experts computes again
UTILISATION = 0.3  # of the peak, for a forward pass of a Mixture of Experts without a serving engine
USABLE = 0.9  # of a device's memory


@dataclass(frozen=True)
class Accelerator:
    """One accelerator, by its data sheet.

    Attributes:
        title: its name.
        tflops: dense peak in bfloat16, 10¹² operations a second.
        memory: bytes.
    """

    title: str
    tflops: float
    memory: float


ACCELERATORS = {
    "a100": Accelerator("NVIDIA A100 SXM 80 GB", 312, 80e9),
    "h100": Accelerator("NVIDIA H100 SXM 80 GB", 989, 80e9),
    "h200": Accelerator("NVIDIA H200 SXM 141 GB", 989, 141e9),
    "b200": Accelerator("NVIDIA B200 180 GB", 2250, 180e9),
    "mi300x": Accelerator("AMD Instinct MI300X 192 GB", 1307, 192e9),
}
