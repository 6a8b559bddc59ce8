"""Arrays in .npz files: example inputs in, outputs out. Never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from anec.errors import AnecError, UsageError


def load_npz(path: Path) -> dict[str, torch.Tensor]:
    """Read named arrays. Pickled objects are refused: ``allow_pickle=False``.

    Raises:
        UsageError: the file is missing, corrupt, or holds pickled objects.
    """
    if not path.is_file():
        raise UsageError(f"{path} is a folder" if path.is_dir() else f"{path} does not exist")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UsageError(f"{path} holds one array without a name", hint="save with numpy.savez(path, x=array)")
        with loaded as archive:
            return {name: torch.from_numpy(np.array(archive[name], order="C")) for name in archive.files}
    except UsageError:
        raise
    except Exception as error:  # numpy raises many kinds for broken archives
        raise UsageError(f"cannot read {path} as .npz: {error}") from error


def save_npz(path: Path, arrays: Mapping[str, torch.Tensor | np.ndarray]) -> None:
    """Write named arrays; the file appears whole or not at all.

    Raises:
        AnecError: the file cannot be written.
    """
    plain = {name: to_numpy(array) for name, array in arrays.items()}
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **plain)  # type: ignore[arg-type]  # names are ours
        partial.replace(path)
    except OSError as error:
        raise AnecError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def to_numpy(array: torch.Tensor | np.ndarray) -> np.ndarray:
    """A numpy array of a tensor; bfloat16, which numpy lacks, as float32."""
    if isinstance(array, np.ndarray):
        return array
    tensor = array.detach().cpu()
    return tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()
