"""Write tests/ane/apple_distilbert.anec: Apple's DistilBERT for the Neural Engine as Core ML gets it, without weights.

Made once, from Apple's own code and coremltools' own converter, to have a program at hand that is known
to run on the Neural Engine but for four ops (apple/ml-ane-transformers, README). Its package on PyPI
pins a torch of 2022 and leans on a transformers of its time, so both are put beside the environment:

    pip install --no-deps --target OLD ane-transformers==0.1.3 transformers==4.30.2 tokenizers==0.13.3 \\
        huggingface-hub==0.16.4
    pip install --target OLD requests tqdm filelock
    PYTHONPATH=OLD python tools/make_apple_distilbert.py

The weights are drawn, with scales and shifts of norms other than 1 and 0: coremltools drops those, and
what it then sees is another program. The text holds none of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from ane_transformers.huggingface.distilbert import DistilBertForSequenceClassification
from transformers import DistilBertConfig

import anec

TARGET = Path(__file__).parent.parent / "tests" / "ane" / "apple_distilbert.anec"
LENGTH = 128


def main() -> None:
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(DistilBertConfig(return_dict=False)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = (torch.randint(0, 30000, (1, LENGTH)), torch.ones(1, LENGTH, dtype=torch.int64))
    with torch.no_grad():
        traced = torch.jit.trace(model, inputs)
    package = ct.convert(
        traced,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS15,
        inputs=[
            ct.TensorType(name, shape=tensor.shape, dtype=np.int32)
            for name, tensor in zip(("input_ids", "attention_mask"), inputs, strict=True)
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "distilbert.mlpackage"
        package.save(str(path))
        module = anec.load(path).module
        module.meta.clear()
        TARGET.write_text(str(module), encoding="utf-8")
    print(f"wrote {TARGET}: {sum(not op.is_constant for op in module.ops())} ops")


if __name__ == "__main__":
    main()
