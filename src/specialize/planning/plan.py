"""The plan of a job: what each stage takes, how each number is known, and what was assumed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Literal, get_args

from specialize.planning.architecture import Architecture

Basis = Literal["measured", "computed", "assumed"]  # the later one is that of a number that is made of both
STAGES = ("trace", "syntax", "topics", "ablate")


@dataclass(frozen=True)
class Amount:
    """A number, and how it is known.

    Attributes:
        value: the number.
        basis: measured (extrapolated from short runs on this machine), computed (from the configuration and counts),
            or assumed (from a constant of another machine, or one that the user gave).
    """

    value: float
    basis: Basis

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.value + other.value, _weaker(self.basis, other.basis))

    def times(self, factor: float, basis: Basis = "measured") -> "Amount":
        """Return the product with a factor, which is known by `basis`."""
        return Amount(self.value * factor, _weaker(self.basis, basis))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return {"value": self.value, "basis": self.basis}


def _weaker(*bases: Basis) -> Basis:
    return max(bases, key=get_args(Basis).index)


def add(amounts: Iterable[Amount]) -> Amount:
    """Return the sum of amounts; that of none is computed."""
    total = Amount(0.0, "measured")
    found = list(amounts)
    for amount in found:
        total = total + amount
    return total if found else Amount(0.0, "computed")


@dataclass(frozen=True)
class StagePlan:
    """What one stage takes in one process.

    Attributes:
        name: of the stage.
        start: wall time in seconds of what every worker does before its share: imports, loading, reading the corpus.
        work: wall time in seconds of what workers can share; None if it is unknown.
        cpu: time of the processor in seconds; None if it was not measured.
        host: largest memory of the process on the host, in bytes; None if it is unknown.
        device: largest memory on all devices of the process, in bytes; None where it uses none, or it is unknown.
        disk: bytes that it leaves in the run folder, by what they hold.
        devices: GPUs that a worker holds, or 1 for a machine without.
        workers: workers that the wanted wall time needs; None if none is wanted, or no number is enough.
    """

    name: str
    start: Amount
    work: Amount | None
    host: Amount | None
    device: Amount | None
    disk: Mapping[str, Amount]
    cpu: Amount | None = None
    devices: int = 1
    workers: int | None = None

    @property
    def seconds(self) -> Amount | None:
        """Wall time of one worker in seconds."""
        return None if self.work is None else self.start + self.work

    @property
    def bytes(self) -> Amount:
        """Bytes that it leaves in the run folder."""
        return add(self.disk.values())

    @property
    def device_hours(self) -> Amount | None:
        """Hours of all devices of all workers: each worker has the start, and all share the work."""
        if self.work is None:
            return None
        return (self.start.times(self.workers or 1) + self.work).times(self.devices / 3600)

    def cost(self, price: float | None) -> Amount | None:
        """Return the price of all device hours.

        Args:
            price: of a device for an hour; None if it is not known.
        """
        return _price(self.device_hours, price)

    def divided(self, hours: float) -> "StagePlan":
        """Return the plan with the number of workers that end within so many hours, if any number does."""
        left = 3600 * hours - self.start.value
        if self.work is None or (left <= 0 < self.work.value):
            return replace(self, workers=None)
        return replace(self, workers=max(1, ceil(self.work.value / left)) if self.work.value else 1)

    def as_dict(self, price: float | None) -> dict[str, Any]:
        """Return a JSON-serialisable form, with the unit in each name.

        Args:
            price: of a device for an hour; None if it is not known.
        """
        return {
            "stage": self.name,
            "time_seconds": _as_dict(self.seconds),
            "start_seconds": self.start.as_dict(),
            "cpu_seconds": _as_dict(self.cpu),
            "device_hours": _as_dict(self.device_hours),
            "devices_per_worker": self.devices,
            "workers": self.workers,
            "cost": _as_dict(self.cost(price)),
            "peak_host_memory_bytes": _as_dict(self.host),
            "peak_device_memory_bytes": _as_dict(self.device),
            "disk_bytes": self.bytes.as_dict(),
            "disk_bytes_by_part": {name: amount.as_dict() for name, amount in self.disk.items()},
        }


def _price(hours: Amount | None, price: float | None) -> Amount | None:
    return None if price is None or hours is None else hours.times(price, "assumed")


def _as_dict(amount: Amount | None) -> dict[str, Any] | None:
    return None if amount is None else amount.as_dict()


@dataclass(frozen=True)
class Plan:
    """What a job takes.

    Attributes:
        architecture: of the model.
        corpus: name of the corpus; None if only its size was given.
        documents: number of documents.
        tokens: number of tokens.
        stages: what each stage takes, in their order.
        assumptions: what the numbers rest on, one line each.
        hours: the wanted wall time of each stage.
        price_per_hour: of a device.
    """

    architecture: Architecture
    corpus: str | None
    documents: Amount
    tokens: Amount
    stages: tuple[StagePlan, ...]
    assumptions: tuple[str, ...] = ()
    hours: float | None = None
    price_per_hour: float | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> Amount:
        """Bytes of the run folder after all stages."""
        return add(stage.bytes for stage in self.stages)

    @property
    def seconds(self) -> Amount | None:
        """Wall time of one stage after the other, in seconds; None if one is unknown."""
        return _add_known(stage.seconds for stage in self.stages)

    @property
    def device_hours(self) -> Amount | None:
        """Hours of all devices of all workers; None if that of a stage is unknown."""
        return _add_known(stage.device_hours for stage in self.stages)

    @property
    def cost(self) -> Amount | None:
        """Price of all device hours; None without a price."""
        return _price(self.device_hours, self.price_per_hour)

    def stage(self, name: str) -> StagePlan:
        """Return what a stage takes; raise KeyError if it is not planned."""
        return {stage.name: stage for stage in self.stages}[name]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form, with the unit in each name and the basis of each number."""
        return {
            "model": self.architecture.as_dict(),
            "corpus": self.corpus,
            "documents": self.documents.as_dict(),
            "tokens": self.tokens.as_dict(),
            "machine": dict(self.machine),
            "wanted_hours_per_stage": self.hours,
            "price_per_device_hour": self.price_per_hour,
            "stages": [stage.as_dict(self.price_per_hour) for stage in self.stages],
            "total": {
                "time_seconds": _as_dict(self.seconds),
                "device_hours": _as_dict(self.device_hours),
                "cost": _as_dict(self.cost),
                "disk_bytes": self.bytes.as_dict(),
            },
            "assumptions": list(self.assumptions),
        }


def _add_known(amounts: Iterable[Amount | None]) -> Amount | None:
    known = list(amounts)
    return None if any(each is None for each in known) else add(each for each in known if each is not None)
