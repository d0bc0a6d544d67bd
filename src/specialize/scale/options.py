"""Which engine runs the work, and how many workers it has."""

from dataclasses import dataclass, fields
from numbers import Real
from os import PathLike
from pathlib import Path

from specialize.addresses import copy_of, is_address, show
from specialize.choices import EngineName, check_choice, check_positive
from specialize.errors import EngineError, show_value


@dataclass(frozen=True)
class EngineOptions:
    """Which engine runs independent pieces of work.

    Attributes:
        engine: ``local``, this process; or ``ray``, workers of a Ray cluster.
        address: of a cluster that runs already, such as ``auto`` or ``10.0.0.1:6379``; default: that in the environment
            variable ``RAY_ADDRESS``, or else one on this machine, which ends with the work.
        workers: number of workers; default: one for each GPU, and without GPUs one for each core, at most 8.
        gpus_per_worker: GPUs that each worker has to itself, a fraction where several share one; default: one where the
            cluster has any, else none.

    Raises:
        EngineError: the engine is unknown, a number is out of range, or an option of workers is given without them.
    """

    engine: EngineName = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, EngineName, error=EngineError)
        given = [field.name for field in fields(self)[1:] if getattr(self, field.name) is not None]
        if given and not self.is_remote:
            raise EngineError(f"{given[0]}: expected it only with the engine ray, got it without; add --engine ray")
        if self.workers is not None:
            check_positive("workers", self.workers, error=EngineError)
        gpus = self.gpus_per_worker
        if gpus is not None and (not isinstance(gpus, Real) or not 0 <= gpus < float("inf") or (gpus > 1 and gpus % 1)):
            raise EngineError(
                f"gpus_per_worker: expected a whole number, or a fraction of one GPU, got {show_value(gpus)}"
            )
        if self.address is not None and (not self.address or self.address.startswith("ray://")):
            raise EngineError(
                f"address: expected auto or the HOST:PORT of a cluster, whose machines see the same files, got "
                f"{show_value(self.address)}; start the command on one of its machines"
            )

    @property
    def is_remote(self) -> bool:
        """Whether work leaves this process."""
        return self.engine != "local"

    def check_run(self, run: object) -> None:
        """Check that workers see the run folder, which is not so of the copy of what an address holds.

        Args:
            run: the run folder, or its address.

        Raises:
            EngineError: there are workers, and the run is at an address.
        """
        if not self.is_remote or not isinstance(run, str | PathLike):
            return
        if not run.startswith("file:") if is_address(run) else copy_of(Path(run)) is not None:
            raise EngineError(
                f"{show(run)}: expected with the engine {self.engine} a run folder that all workers see, got an "
                "address; use a folder, and copy it to the address, or leave the engine out"
            )
