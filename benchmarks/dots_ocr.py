"""The vision tower of dots.ocr at full size: anec from the original form, coremltools from a rewritten one.

    python benchmarks/dots_ocr.py [--layers 42] [--check] [--json out.json]

1,262,091,264 parameters, 784 patches, float32, random weights. anec takes the form its authors wrote,
with grid_thw bound. coremltools 9.0 can neither convert nor export that; it gets one rewritten by hand,
in which positions and the mask are buffers. Measured is (export + compile + save), each in a process of
its own: CPU time of the process, and the peak of anonymous memory, the model's own 5 GB included.
`--check` runs anec's package and compares it with eager PyTorch. It takes 10 GB of memory and as much
disk, and one run of each tool.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

from compile_time import Peak, in_process, package_size, tell

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "dots_ocr"))

GRID = [[1, 28, 28]]


def tower(layers: int):
    import torch
    from dots_vision import VisionConfig, VisionTower

    torch.manual_seed(0)
    model = VisionTower(replace(VisionConfig(), layers=layers)).eval().requires_grad_(False)
    return model, torch.randn(784, 588)


def rewritten(model):
    """The same tower with everything that grid_thw decides computed beforehand."""
    import torch
    import torch.nn.functional as F
    from dots_vision import Attention

    grid = torch.tensor(GRID)
    angles = model.rotary(grid[:, 1:].max())[model.positions(grid)].flatten(1)
    count = int(grid.prod())

    def rotate(x, cos, sin):
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin

    def attention(self, x, mask, turn):
        q, k, v = self.qkv(x).reshape(count, 3, self.heads, -1).permute(1, 0, 2, 3).unbind(0)
        q, k, v = (part.transpose(0, 1)[None] for part in (rotate(q, *turn), rotate(k, *turn), v))
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
        return self.proj(mixed.squeeze(0).transpose(0, 1).reshape(count, -1))

    class Rewritten(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = model
            self.register_buffer("mask", torch.ones(1, count, count, dtype=torch.bool))
            self.register_buffer("cos", angles.cos().unsqueeze(1).repeat(1, 1, 2))
            self.register_buffer("sin", angles.sin().unsqueeze(1).repeat(1, 1, 2))

        def forward(self, patches):
            x = self.tower.patch_embed(patches)
            for block in self.tower.blocks:
                x = block(x, self.mask, (self.cos, self.sin))
            return self.tower.merger(self.tower.post_trunk_norm(x))

    Attention.forward = attention
    return Rewritten().eval()


def compile_with_anec(model, patches, out: Path) -> None:
    import torch

    import anec

    grid = torch.tensor(GRID)
    anec.compile(model, (patches, grid), bind={"grid_thw": grid}, precision="fp32").save(out)


def compile_with_coremltools(model, patches, out: Path) -> None:
    import coremltools as ct
    import torch

    program = torch.export.export(rewritten(model), (patches,)).run_decompositions({})
    ct.convert(
        program, minimum_deployment_target=ct.target.iOS18, compute_precision=ct.precision.FLOAT32, skip_model_load=True
    ).save(str(out))


TOOLS = {"anec": compile_with_anec, "coremltools": compile_with_coremltools}


def difference(layers: int, out: Path) -> float:
    """rel of anec's package to eager PyTorch, on patches it was not compiled with."""
    import torch

    import anec

    model, patches = tower(layers)
    patches = torch.randn_like(patches)
    with torch.no_grad():
        wanted = model(patches, torch.tensor(GRID))
    del model
    found = torch.from_numpy(anec.load(out).run({"patches": patches})["output"])
    return float((found - wanted).abs().max() / wanted.abs().max())


def worker(tool: str, layers: int, out: Path, check: bool) -> None:
    warnings.filterwarnings("ignore")
    # What imports take is in neither.
    import coremltools  # noqa: F401

    import anec.api.compiling  # noqa: F401

    with Peak() as memory:
        model, patches = tower(layers)
        start, wall = time.process_time(), time.perf_counter()
        TOOLS[tool](model, patches, out)
        found = {"cpu": time.process_time() - start, "wall": time.perf_counter() - wall}
    del model
    found |= {"peak": memory.peak, "size": package_size(out)}
    if check and tool == "anec":
        found["rel"] = difference(layers, out)
    tell(found)


def measure(tool: str, layers: int, check: bool) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--worker", tool, str(Path(folder) / "out.mlpackage"), "--layers", str(layers)]
        return in_process(__file__, *arguments, *["--check"] * check)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=42, help="fewer layers for a quick look")
    parser.add_argument("--check", action="store_true", help="compare anec's package with eager PyTorch")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2, metavar=("TOOL", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker[0], options.layers, Path(options.worker[1]), options.check)
        return
    found = {tool: measure(tool, options.layers, options.check) for tool in TOOLS}
    for tool, row in found.items():
        numbers = " ".join(f"{key} {value:.3g}" for key, value in row.items() if key != "error")
        print(f"{tool:12} {row.get('error') or numbers}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
