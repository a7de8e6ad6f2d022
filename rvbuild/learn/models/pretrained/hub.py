"""Weights on the Hugging Face hub: whether they are here or can be downloaded, and what to do if not."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable

from rvbuild.errors import ModelError
from rvbuild.learn.models.pretrained.weights import PATIENCE_S, PRETRAINED

WEIGHTS = "model.safetensors"


def is_here(hub_id: str, *files: str) -> bool:
    """Tell whether one of these files of a repository is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in files)


def require_reachable(url: str, failure: Callable[[Exception], ModelError]) -> None:
    """Ask the server of `url` whether it is there; raise what `failure` makes of the error if not."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE_S / 3):
            pass
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise failure(error) from error


def not_downloaded(name: str, hub_id: str, file: str, error: Exception) -> ModelError:
    """Return the error that says what to do without the weights of a network."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return ModelError(
        f"{PRETRAINED}: the weights of {name} could not be downloaded from https://huggingface.co/{hub_id} "
        f"({reason[0]}); download {file} there by other means and name that file: "
        f'`pretrained = "path/to/{file}"`, or train from random weights: `pretrained = false`'
    )
