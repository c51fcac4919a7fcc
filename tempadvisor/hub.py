"""Loading weights from a hub: quietly, and without waiting for a network that is not there. Nothing is ever sent."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and the hub's log lines to itself: what matters of them is in the error."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm", "urllib3", "httpx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def offline_without_network(pretrained: bool) -> Iterator[None]:
    """Let the hub look only into its cache where it cannot be reached, instead of trying again and again."""
    if not pretrained or _reachable():
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable() -> bool:
    """Return whether the hub's host answers within two seconds; a proxy is taken at its word."""
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True
