"""Loading: a saved model package back into `mil` IR, op by op; weights stay where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from anec.backend.describe import AUTHOR, FIELDS, SIGNATURE_KEY, read_dims, read_signature
from anec.backend.quiet import Model_pb2
from anec.backend.reading import FunctionReader, Package
from anec.backend.target import target_of_opset
from anec.errors import AnecError, UnsupportedError, UsageError
from anec.ir.build import assuming
from anec.ir.graph import Module


def load(path: str | Path) -> Module:
    """Read a ``.mlpackage`` that holds an ML Program, anec's own or any other.

    Every op becomes one op; settings become attributes, small constants literals, tensors weights
    that refer to the package's weights file. Nothing is dequantized, folded or renamed. Weights inside
    ``constexpr_*`` ops are named after op and parameter: MIL keeps no other name for them.

    Raises:
        UsageError: there is no package at ``path``.
        UnsupportedError: it is no ML Program, or holds control flow or lists.
        AnecError: it is damaged.
    """
    package = Path(os.path.abspath(path))
    model = _read_model(package)
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise UnsupportedError(
            f"{package} is a {kind or 'empty model'}, not an ML Program",
            hint="convert it with minimum_deployment_target=coremltools.target.iOS15 or later",
        )
    try:
        return _Loader(package, model).module()
    except AnecError as error:
        error.where = f"{package}" + (f": {error.where}" if error.where else "")
        raise
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        # What a damaged protobuf lacks or holds is found where it is used.
        raise AnecError(f"{package} is damaged: {type(error).__name__}: {error}") from error


def _read_model(package: Path) -> Any:
    if not package.exists():
        raise UsageError(f"there is no {package}")
    if package.suffix == ".mlmodelc":
        raise UsageError(f"{package} is compiled for a device", hint="load the .mlpackage it was made from")
    file = _root_model(package) if package.is_dir() else package
    model = Model_pb2.Model()
    try:
        model.ParseFromString(file.read_bytes())
    except OSError as error:
        raise AnecError(f"cannot read {file}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError has moved between versions
        raise AnecError(f"{file} is damaged, or no Core ML model") from error
    if not model.specificationVersion:
        raise AnecError(f"{file} is damaged, or no Core ML model")
    return model


def _root_model(package: Path) -> Path:
    """The model file that the manifest names."""
    try:
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        return package / "Data" / str(entry["path"])
    except OSError as error:
        raise AnecError(f"{package} is no model package: cannot read its Manifest.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AnecError(f"the Manifest.json of {package} is damaged") from error


class _Loader:
    """Builds the module of one model."""

    def __init__(self, package: Path, model: Any) -> None:
        self.model = model
        folder = _root_model(package).parent / "weights" if package.is_dir() else package.parent
        self.user = dict(model.description.metadata.userDefined)
        own = SIGNATURE_KEY in self.user
        known = read_signature(self.user.pop(SIGNATURE_KEY, "{}"))
        self.result = Module(dims=read_dims(known))
        self.package = Package(self.result, folder, own, known)

    def module(self) -> Module:
        self._meta()
        description = self.model.description
        functions = self.model.mlProgram.functions
        described = {entry.name: entry for entry in description.functions} or {"main": description}
        missing = [name for name in described if name not in functions]
        if missing:
            raise AnecError(f"the function {missing[0]} is described, but not there")
        targets = {target_of_opset(function.opset) for function in functions.values()}
        if len(targets) != 1:
            raise UnsupportedError("the functions are of different opsets: " + ", ".join(sorted(targets)))
        self.result.target = targets.pop()
        with assuming(self.result.dims):
            for name, entry in described.items():
                self.result.functions[name] = FunctionReader(self.package, name, functions[name], entry).graph
        default = description.defaultFunctionName
        if default and default != ("main" if "main" in described else next(iter(described))):
            self.result.meta["default_function"] = default
        return self.result

    def _meta(self) -> None:
        metadata = self.model.description.metadata
        for key, name in FIELDS.items():
            text = getattr(metadata, name)
            if text and text != AUTHOR:
                self.result.meta[key] = text
        self.result.meta.update(sorted(self.user.items()))
