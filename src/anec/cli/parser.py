"""The arguments of every command."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from anec._version import VERSION
from anec.cli import commands, console
from anec.errors import UsageError

_SOURCE = (
    "file.py:factory, package.module:factory or model.pt2. A factory returns (module, args), "
    "(module, args, kwargs) or anec.Source(...); naming one runs its code"
)
_PIPELINE = """
pipelines:
  a{x=1 y=two},fix(b,c),-d   passes with options; fix() repeats until nothing changes; -d drops every d
  named pipelines: default, ane, finish (appended to every compilation); `anec passes` lists all
"""
_EXIT_CODES = "exit codes: 0 done, 1 the model or a check failed, 2 the call was wrong"


class _Parser(argparse.ArgumentParser):
    """Tells a wrong argument as any other error: what, and where to look; not the whole usage."""

    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help"
        if message.endswith("--passes: expected one argument"):
            hint = "a pipeline that begins with - is written --passes=-name"
        console.error(UsageError(message, hint=hint))
        self.exit(UsageError.exit_code)


class _Help(argparse.RawDescriptionHelpFormatter):
    pass


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="anec",
        description="Compile PyTorch models for Core ML and the Apple Neural Engine, one checked pass at a time.",
        epilog=_EXIT_CODES,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"anec {VERSION}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        epilog = _PIPELINE * (name in ("compile", "opt", "analyze", "explain")) + _EXIT_CODES
        made = subparsers.add_parser(name, help=help, description=help, epilog=epilog, formatter_class=_Help)
        made.set_defaults(run=run)
        return made

    _compile(command("compile", commands.compile_command, "compile a torch model to an .mlpackage"))
    _opt(command("opt", commands.opt_command, "run passes on IR text"))
    _run(command("run", commands.run_command, "run a package or IR text on this machine"))
    _check(command("check", commands.check_command, "compare two programs, or check a package"))
    _diff(command("diff", commands.diff_command, "show how two IR texts differ"))
    _passes(command("passes", commands.passes_command, "list the passes, or describe one"))
    _analyze(command("analyze", commands.analyze_command, "which ops are supported, and where they may run"))
    _explain(command("explain", commands.explain_command, "show why ane-layout holds ops as it does"))
    return parser


def _plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE|MODULE", help="load passes, rules and ops from here"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def _instruments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--disable", action="append", default=[], metavar="PASS", help="leave out a pass")
    parser.add_argument("--stop-after", metavar="PASS", help="run nothing behind this pass")
    parser.add_argument("--dump", metavar="DIR", help="write the module behind each pass, inputs, weights and a trace")
    parser.add_argument("--dump-on", choices=["change", "all", "failure"], default="change", help="what to dump")
    parser.add_argument(
        "--check",
        choices=["off", "rewrites", "numerics", "all"],
        default="off",
        help="rewrites: judge each rewrite in float64; numerics: the program behind each pass",
    )
    parser.add_argument("--time", action="store_true", help="show the time of each pass")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each rule that fired or nearly matched")
    _plugins(parser)
    _json(parser)


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    parser.add_argument("--trust", action="store_true", help="load a .pt2 that holds pickled payloads (runs its code)")


def _bindings(parser: argparse.ArgumentParser, *, functions: bool = True) -> None:
    parser.add_argument("--bind", action="append", default=[], metavar="NAME=VALUE",
                        help="fix an input before export: a number, JSON, or @file.npy")  # fmt: skip
    parser.add_argument("--shapes", action="append", default=[], metavar="NAME=SHAPE[,SHAPE...]",
                        help="the shapes an input may have: x=1x3x480x640,1x3x640x640 lists them, "
                        "x=1x3x32..640x32..640 gives ranges, ids=1xS:2..128 names a size for mask=1xS")  # fmt: skip
    if functions:
        parser.add_argument("--function", action="append", default=[], metavar="NAME:K=V,...",
                            help="one function of several: what it binds, or a shape such as x=1x3x64x64")  # fmt: skip


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="iOS18", metavar="iOSNN", help="iOS15 to iOS18, iOS26 (default iOS18)")


def _compile(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument("-o", "--output", metavar="OUT", help="where to write (default: the source's name)")
    parser.add_argument("--passes", default="default", help="the pipeline (default: default); finish is appended")
    _target(parser)
    parser.add_argument("--precision", choices=["fp16", "fp32", "mixed"], default="fp16",
                        help="what the program computes in; mixed: float16 but for what that cannot hold")  # fmt: skip
    parser.add_argument("--io-dtype", choices=["fp32", "fp16"], default="fp32", help="float inputs and outputs")
    parser.add_argument("--ane-generation", metavar="CHIP",
                        help="shape for this Neural Engine: M1 to M5, or A14 to A19; the same as --passes "
                        "'...,ane{generation=CHIP}' (default M1)")  # fmt: skip
    _bindings(parser)
    parser.add_argument("--emit", choices=["mlpackage", "mil", "anec"], default="mlpackage",
                        help="mlpackage, or the IR as text: mil behind finish, anec behind --passes")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="run everything, write nothing")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    _instruments(parser)


def _opt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN.anec", help="IR text, its weights beside it")
    parser.add_argument("--passes", required=True, help="the pipeline; nothing is appended")
    parser.add_argument("-o", "--output", metavar="OUT.anec", help="where to write (default: standard output)")
    parser.add_argument("--inputs", metavar="IN.npz", help="example inputs, for checks and lossy passes")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    _instruments(parser)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="X.mlpackage|X.anec", help="what to run")
    parser.add_argument("--inputs", required=True, metavar="IN.npz", help="an array for each input, by name")
    parser.add_argument("-o", "--output", metavar="OUT.npz", help="where to write (default: show a summary)")
    parser.add_argument("--function", metavar="NAME", help="which function, of several")
    parser.add_argument("--precision", choices=["declared", "double", "pessimistic"], default="declared",
                        help="how to round (default: as the program declares)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    _json(parser)


def _limit(text: str) -> float:
    found = float(text)
    if not found >= 0:
        raise ValueError
    return found


def _seed(text: str) -> int:
    found = int(text)
    if not 0 <= found < 2**63:
        raise ValueError
    return found


# What argparse calls them.
_limit.__name__ = "limit (0 or more)"
_seed.__name__ = "seed (0 to 2**63 - 1)"


def _check(parser: argparse.ArgumentParser) -> None:
    form = "SOURCE, .mlpackage, .anec or .npz"
    parser.add_argument("actual", metavar="A", help=f"what to judge: {form}")
    parser.add_argument("reference", metavar="B", nargs="?", help=f"what is right: {form}")
    parser.add_argument("--inputs", metavar="IN.npz", help="inputs (default: a SOURCE's own, else drawn)")
    parser.add_argument("--compile", action="store_true", help="check the package A by Apple's compiler on a Mac, "
                        "elsewhere by coremltools' own op types")  # fmt: skip
    parser.add_argument("--metric", metavar="FILE.py:F", help="a metric of yours: f(outputs_a, outputs_b)")
    parser.add_argument("--rtol", type=_limit, help="largest rel = max|a-b| / max|b| (default 1e-4 for float32)")
    parser.add_argument("--atol", type=_limit, default=0.0, help="differences up to this never fail")
    parser.add_argument("--min-psnr", type=_limit, metavar="DB",
                        help="smallest psnr (default 40 where one has float16)")  # fmt: skip
    parser.add_argument("--seed", type=_seed, default=0, help="of drawn inputs")
    parser.add_argument("--trust", action="store_true", help="load .pt2 files that hold pickled payloads")
    _bindings(parser)
    _plugins(parser)
    _json(parser)


def _diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A.anec", help="IR text")
    parser.add_argument("second", metavar="B.anec", help="IR text")
    parser.add_argument("--names", action="store_true", help="count other value names as a difference")
    _json(parser)


def _passes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="describe this pass or named pipeline")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="show each rule's IR before and after; a short page does so anyway")  # fmt: skip
    _plugins(parser)
    _json(parser)


def _percent(text: str) -> float:
    found = float(text)
    if not 0 <= found <= 100:
        raise ValueError
    return found


_percent.__name__ = "percentage (0 to 100)"  # what argparse calls it


def _analyze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE|X.mlpackage|X.anec", help=_SOURCE)
    parser.add_argument("--trust", action="store_true", help="load a .pt2 that holds pickled payloads (runs its code)")
    _target(parser)
    _bindings(parser, functions=False)
    parser.add_argument("--passes", default="default", help="what runs before the ops are judged (default: default)")
    parser.add_argument("--ane-generation", metavar="CHIP", help="predict for this Neural Engine: M1 to M5, or A14 to "
                        "A19 (default: the one that --passes names, else M1); passes that ask are told")  # fmt: skip
    parser.add_argument("--compute-units", default="cpu-and-ne", choices=["cpu-and-ne", "all"],
                        help="what Core ML may use: all adds the GPU")  # fmt: skip
    parser.add_argument("--fail-below", type=_percent, metavar="PERCENT",
                        help="exit code 1 when fewer ops are predicted to run on the Neural Engine")  # fmt: skip
    parser.add_argument("--compare", nargs="?", const="disagreements.json", metavar="OUT.json",
                        help="on a Mac: save where Core ML's own plan of a package disagrees")  # fmt: skip
    _plugins(parser)
    _json(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layout", action="store_true", required=True,
                        help="the edges that the minimum cut goes through, and what holds ops as written")  # fmt: skip
    parser.add_argument("source", metavar="SOURCE|X.mlpackage|X.anec", help=_SOURCE)
    parser.add_argument("--trust", action="store_true", help="load a .pt2 that holds pickled payloads (runs its code)")
    _target(parser)
    _bindings(parser, functions=False)
    parser.add_argument("--passes", default="default,ane",
                        help="the pipeline, run up to ane-layout (default: default,ane)")  # fmt: skip
    _plugins(parser)
    _json(parser)
