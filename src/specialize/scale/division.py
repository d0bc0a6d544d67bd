"""How the cores and GPUs of a cluster are divided among workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specialize.errors import EngineError

MOST_WITHOUT_GPUS = 8  # workers by default: each has a copy of the model in memory
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Division:
    """What the workers of a cluster are.

    Attributes:
        workers: how many.
        cores: of each, and the number of its threads.
        gpus: of each.
    """

    workers: int
    cores: int
    gpus: float

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else ""
        plural = "s, each" if self.workers > 1 else ""
        return f"{self.workers} worker{plural} with {self.cores} core{'s' * (self.cores > 1)}{gpus}"

    def check(self, *, workers: int | None, gpus_per_worker: float | None) -> None:
        """Raise EngineError if other workers are asked for than these."""
        asked = {"workers": (workers, self.workers), "gpus_per_worker": (gpus_per_worker, self.gpus)}
        for name, (wanted, given) in asked.items():
            if wanted is not None and wanted != given:
                raise EngineError(f"{name}: expected {given:g}, as of the engine that is open, got {wanted:g}")


def divide_cluster(
    machines: Sequence[Mapping[str, float]], *, workers: int | None = None, gpus_per_worker: float | None = None
) -> Division:
    """Return how many workers a cluster has, and how many cores and GPUs each of them.

    All workers have the same number of cores, as many as possible, and no core has two workers.

    Args:
        machines: the resources of each, as Ray counts them: ``CPU`` and ``GPU``.
        workers: number of workers; default: one for each GPU, and without GPUs one for each core, at most
            `MOST_WITHOUT_GPUS`.
        gpus_per_worker: GPUs of each; default: one if there are any.

    Raises:
        EngineError: there is no room for so many workers.
    """
    has_gpus = any(machine.get("GPU", 0) >= 1 for machine in machines)
    gpus = float(has_gpus) if gpus_per_worker is None else float(gpus_per_worker)
    most = _count_places(machines, 1, gpus)
    if workers is None:
        workers = most if gpus else min(most, MOST_WITHOUT_GPUS)
    if not 1 <= workers <= most:
        found = [f"{sum(int(machine.get(kind, 0)) for machine in machines):,} {name}s" for kind, name in _NAMES.items()]
        raise EngineError(
            f"workers: expected room for {max(workers, 1):,} with a core{f' and {gpus:g} GPUs' * (gpus > 0)} each, got "
            f"{' and '.join(found)} on {len(machines):,} machine{'s' * (len(machines) != 1)}, room for {most:,}; set "
            "--workers or --gpus-per-worker (workers, gpus_per_worker)"
        )
    largest = max(int(machine.get("CPU", 0)) for machine in machines)
    cores = max(number for number in range(1, largest + 1) if _count_places(machines, number, gpus) >= workers)
    return Division(workers, cores, gpus)


_NAMES = {"CPU": "core", "GPU": "GPU"}


def _count_places(machines: Sequence[Mapping[str, float]], cores: int, gpus: float) -> int:
    """Return how many workers of so many cores and GPUs fit on the machines."""
    places = 0
    for machine in machines:
        on_this = int(machine.get("CPU", 0)) // cores
        if gpus >= 1:
            on_this = min(on_this, int(machine.get("GPU", 0) // gpus))
        elif gpus:  # those that share a GPU lie on one: two of 0.6 need two
            on_this = min(on_this, int(machine.get("GPU", 0)) * int(1 / gpus + _ROUNDING))
        places += on_this
    return places
