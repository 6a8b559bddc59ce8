"""Decode with a key-value cache: the cache of a llama becomes states of the Core ML package.

    python examples/llama_cache/decode.py --precision fp16 --output llama.mlpackage

A small llama with random weights and transformers' StaticCache is compiled, saved and loaded again.
Then both decode the same tokens: the package one token at a time with its states, PyTorch the whole
sequence each time without a cache. Exits with 1 when the tokens differ.
Needs transformers: pip install "transformers>=5"
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

import anec

LONGEST = 32
TOKENS = 8


def language_model(seed: int = 0) -> LlamaForCausalLM:
    """A llama of two layers with grouped heads; its generation config asks for a static cache."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config.use_cache = True
    model.generation_config.cache_implementation = "static"
    return model


def compile_step(model: LlamaForCausalLM, precision: str) -> anec.CompiledModel:
    """One step of decoding: a token and its position in, logits out, the cache as states."""
    step = TorchExportableModuleWithStaticCache(model, batch_size=1, max_cache_len=LONGEST)
    example = {"input_ids": torch.tensor([[0]]), "cache_position": torch.tensor([0])}
    return anec.compile(step, (), example, passes="default,ane", precision=precision, output_names=["logits"])


def decode(step: anec.CompiledModel, first: int, count: int) -> tuple[list[int], np.ndarray]:
    """Greedy tokens behind ``first``, and the logits of every step."""
    state = step.make_state()
    tokens, logits = [first], []
    for position in range(count):
        outputs = step.run({"input_ids": [[tokens[-1]]], "cache_position": [position]}, state=state)
        logits.append(outputs["logits"][0, 0])
        tokens.append(int(logits[-1].argmax()))
    return tokens[1:], np.stack(logits)


def eager_logits(model: LlamaForCausalLM, tokens: list[int]) -> np.ndarray:
    """PyTorch's logits behind each of the tokens."""
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()


def run(path: Path, precision: str = "fp16") -> dict[str, object]:
    """Compile, save, load, decode; what was decoded and how close it is.

    Args:
        path: where the package goes.
        precision: fp16 or fp32; the states are float16 in both.
    """
    model = language_model()
    compile_step(model, precision).save(path, overwrite=True)
    step = anec.load(path)
    tokens, logits = decode(step, first=1, count=TOKENS)
    wanted = eager_logits(model, [1, *tokens[:-1]])
    noise = np.sqrt(np.mean((logits - wanted) ** 2))
    return {
        "states": step.state_names,
        "tokens": tokens,
        "eager tokens": wanted.argmax(-1).tolist(),
        "psnr": float(20 * np.log10(np.abs(wanted).max() / noise)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="decode with a llama whose cache is a state of the package")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16")
    parser.add_argument("--output", type=Path, help="keep the package here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.output or Path(folder) / "llama.mlpackage", options.precision)
    for name, value in found.items():
        print(f"{name}: {value}")
    if found["tokens"] != found["eager tokens"]:
        sys.exit("the package decodes other tokens than PyTorch")


if __name__ == "__main__":
    main()
