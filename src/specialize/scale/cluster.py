"""A Ray cluster: one that runs already, or one on this machine, which ends with the block that it was started for."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from specialize.errors import EngineError, first_line

_STORE_BYTES = 2**29  # of memory that the processes of this machine share; larger objects go to the disk
_SECONDS_TO_ANSWER = 10.0
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anyone
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # paragraphs about a worker that ends; what becomes of its work is reported here
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without GPUs sees none; Ray warns if this is not said
}


@contextmanager
def connected(address: str | None = None) -> Iterator[list[Mapping[str, float]]]:
    """Connect to a cluster, which is used by this process already, runs elsewhere, or is started on this machine.

    Args:
        address: of a cluster that runs; default: that in the variable ``RAY_ADDRESS``, or else one is started.

    Yields:
        The resources of each of its machines.

    Raises:
        EngineError: there is no such cluster, or none can be started.
    """
    with _variables():
        import ray
    ours = not ray.is_initialized()
    if ours:
        _start(ray, address or os.environ.get("RAY_ADDRESS") or "local")
    elif address not in (None, "auto", ray.get_runtime_context().gcs_address):
        raise EngineError(
            f"address: expected that of the cluster that this process uses, {ray.get_runtime_context().gcs_address}, "
            f"got {address}; leave it out, or call ray.shutdown() first"
        )
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any, address: str) -> None:
    how: dict[str, Any] = {}
    if address == "local":
        cores = len(os.sched_getaffinity(0))
        how = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        how |= {"num_cpus": cores} if cores < (os.cpu_count() or 1) else {}  # Ray heeds a container's share, not this
    _check_reachable(address)
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with _variables():
            ray.init(address, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR, **how)
    except Exception as error:  # of the network, another version of Ray or Python, a full disk: all mean no cluster
        where = "on this machine" if address == "local" else f"at {address}"
        raise EngineError(f"expected a Ray cluster {where}, got none ({first_line(error)})") from None
    finally:
        logger.setLevel(before)


def _check_reachable(address: str) -> None:
    """Raise EngineError at once where nobody answers; Ray tries for minutes, and prints what it tries."""
    host, separator, port = address.rpartition(":")
    if not separator:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise EngineError(f"expected a Ray cluster at {address}, got none ({first_line(error)})") from None


@contextmanager
def _variables() -> Iterator[None]:
    """Set variables that Ray and what it starts read, unless the user has."""
    added = {name: value for name, value in _VARIABLES.items() if name not in os.environ}
    os.environ |= added
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
