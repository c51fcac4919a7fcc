"""Reach a Dask cluster that exists, so that joblib trains students there. It starts none and knows no suite."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tempadvisor.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

SECONDS = 5  # to wait for the scheduler, and for its first worker


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Client]:
    """Connect to the scheduler at `address`, such as tcp://10.0.0.1:8786; joblib's backend "dask" then goes there.

    Raises:
        UsageError: the package is missing, nothing answers within seconds, or there is no worker that has
            tempadvisor.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            "backend dask needs the package distributed. Run: pip install 'tempadvisor[cluster]'.",
            code="missing_package",
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what fails is said in one line below
    try:
        client: Client = Client(address, timeout=SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"scheduler must be the address of a running Dask scheduler. {address} does not answer: {error}.",
            code="no_scheduler",
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS)
            client.submit(_ready, pure=False).result(timeout=10 * SECONDS)
        except TimeoutError:
            raise UsageError(
                f"the cluster at {address} must have workers. None came in time.", code="no_workers"
            ) from None
        except ImportError as error:
            raise UsageError(f"workers must have tempadvisor installed. Got: {error}.", code="no_workers") from None
        yield client


def place(client: Client, value: Any) -> Any:
    """Send `value` once, to the scheduler, and return what stands for it in calls.

    Workers take it from one another. It is the result of a task, not scattered, so the death of all that hold it
    loses nothing: the scheduler sends it again.
    """
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
        return client.submit(_same, value, pure=False)


def arrived(placed: Any) -> Any:
    """Return what was placed; where the cluster has one core left, joblib runs jobs here and hands out a promise."""
    return placed.result() if hasattr(placed, "result") else placed


def _same(value: Any) -> Any:
    return value


def _ready() -> None:
    """Import what a worker trains with."""
    import tempadvisor.batched  # noqa: F401
