"""The Python API: compile, load, read, opt."""

from anec.api.compiling import compile  # noqa: A004  # the field's word, as in torch.compile
from anec.api.model import CompiledModel, load
from anec.api.text import opt, read

__all__ = ["CompiledModel", "compile", "load", "opt", "read"]
