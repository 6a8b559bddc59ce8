"""Writing model packages: whole or not at all, and the same bytes for the same module."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anec.backend.blob import BlobWriter
from anec.backend.constants import FileStore
from anec.backend.paths import MODEL, WEIGHTS, check_output
from anec.backend.proto import serialize, to_spec
from anec.backend.target import opset
from anec.errors import AnecError
from anec.ir.graph import Module
from anec.ir.weights import FileData, TensorData

_AUTHOR = "com.apple.CoreML"
# The manifest's identifiers must be unique in it, not in the world: they follow from the names.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://developer.apple.com/documentation/coreml")


def save(
    module: Module, path: str | Path, *, overwrite: bool = False, metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``module`` as a model package.

    The weights are written once, straight from where they are, into a temporary folder beside the
    destination, which is renamed at the end; when anything fails, nothing stays behind.

    Args:
        module: holds ``mil`` ops only.
        path: ends in ``.mlpackage``.
        overwrite: replace an existing package.
        metadata: ``author``, ``short_description``, ``version``, ``license``, and user-defined keys.

    Raises:
        UsageError: the path is no place for a package, or is taken.
        UnsupportedError: something the target does not have.
        AnecError: the package cannot be written.
    """
    destination = check_output(path, overwrite=overwrite)
    number = opset(module.target)
    with _staged(destination) as stage:
        with BlobWriter(stage / WEIGHTS) as writer:
            model = to_spec(module, metadata, store=FileStore(writer, number))
        (stage / MODEL).parent.mkdir(parents=True, exist_ok=True)
        (stage / MODEL).write_bytes(serialize(model))
        (stage / "Manifest.json").write_text(_manifest(stage), encoding="utf-8")
        _pin(module, destination)


def _manifest(stage: Path) -> str:
    items = [("model.mlmodel", "CoreML Model Specification")]
    if (stage / WEIGHTS).exists():
        items.append(("weights", "CoreML Model Weights"))
    identifiers = {name: str(uuid.uuid5(_NAMESPACE, name)) for name, _ in items}
    entries = {
        identifiers[name]: {
            "author": _AUTHOR,
            "description": description,
            "name": name,
            "path": f"{_AUTHOR}/{name}",
        }
        for name, description in items
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": identifiers["model.mlmodel"],
    }
    return json.dumps(manifest, indent=4, sort_keys=True) + "\n"


def _pin(module: Module, destination: Path) -> None:
    """Map the weights that lie in the package about to be replaced, so that they outlive it.

    Their place in the file is forgotten: behind it there will be other bytes.
    """
    for weight in module.weights.values():
        place = getattr(weight.data, "path", None)
        if not isinstance(place, Path) or destination not in place.parents:
            continue
        tensor = weight.tensor()
        if isinstance(weight.data, FileData):
            weight.data = TensorData(tensor)


@contextmanager
def _staged(destination: Path) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that takes its place when the block ends well."""
    stage: Path | None = None
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        yield stage
        _open_up(stage)
        _swap(stage, destination)
    except OSError as error:
        raise AnecError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        if stage is not None and stage.exists():
            shutil.rmtree(stage, ignore_errors=True)


def _open_up(stage: Path) -> None:
    """Give the folder the mode any new folder has; ``mkdtemp`` makes private ones."""
    mask = os.umask(0)
    os.umask(mask)
    stage.chmod(0o777 & ~mask)


def _swap(stage: Path, destination: Path) -> None:
    if not destination.exists():
        stage.rename(destination)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{destination.name}.old.", dir=destination.parent))
    try:
        destination.rename(aside / destination.name)
        try:
            stage.rename(destination)
        except BaseException:
            (aside / destination.name).rename(destination)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def mlmodel(path: str | Path, compute_units: str = "ALL", *, function: str | None = None) -> Any:
    """The package as coremltools' ``MLModel``; it can predict on macOS only.

    Args:
        path: the package.
        compute_units: a member of ``coremltools.ComputeUnit``.
        function: the function to run; the package's default if None.
    """
    import sys

    from anec.backend.quiet import ct, quiet

    with quiet():
        return ct.models.MLModel(
            str(path),
            compute_units=ct.ComputeUnit[compute_units],
            skip_model_load=sys.platform != "darwin",
            function_name=function,
        )
