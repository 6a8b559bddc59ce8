"""Models with complex numbers inside: Fourier layers and spectrogram front ends, against eager torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import anec
from lowering import floats


def agrees(
    model: nn.Module, *inputs: torch.Tensor, decibels: float = 60.0, target: str = "iOS18"
) -> anec.CompiledModel:
    """Compile in both precisions and compare with torch: 1e-5 of the largest entry, and ``decibels`` in float16."""
    model = model.eval()
    with torch.no_grad():
        wanted = model(*inputs).double()
    for precision in ("fp16", "fp32"):
        compiled = anec.compile(model, inputs, precision=precision, target=target)
        (output,) = compiled.run(dict(zip(compiled.input_names, inputs, strict=True))).values()
        error = torch.as_tensor(output).double() - wanted
        if precision == "fp32":
            assert float(error.abs().max() / wanted.abs().max()) < 1e-5
        else:
            assert float(20 * torch.log10(wanted.abs().max() / error.square().mean().sqrt())) > decibels
    return compiled


class Mel(nn.Module):
    """A mel spectrogram; Whisper's, with ``whisper``."""

    def __init__(self, size: int, hop: int, mels: int, *, whisper: bool) -> None:
        super().__init__()
        self.size, self.hop, self.whisper = size, hop, whisper
        self.register_buffer("window", torch.hann_window(size))
        centres = torch.linspace(0, size // 2, mels)[:, None]
        width = size // 2 / mels
        self.register_buffer("filters", (1 - (torch.arange(size // 2 + 1) - centres).abs() / width).clamp(min=0))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        stft = torch.stft(audio, self.size, self.hop, window=self.window, return_complex=True)
        if not self.whisper:
            return torch.log(self.filters @ stft.abs() ** 2 + 1e-2)
        mel = self.filters @ stft[..., :-1].abs() ** 2
        log = torch.clamp(mel, min=1e-3).log10()
        return (torch.maximum(log, log.amax(dim=(-2, -1), keepdim=True) - 8.0) + 4.0) / 4.0


@pytest.mark.parametrize("whisper", [False, True])
def test_mel_spectrograms(whisper: bool) -> None:
    model = Mel(80, 32, 10, whisper=whisper)
    compiled = agrees(model, 0.3 * floats(2, 800))
    assert "mil.sqrt" not in [op.name for op in compiled.module.main]
    agrees(model, 0.3 * floats(1, 801), target="iOS15")


class Denoiser(nn.Module):
    """Masks a spectrogram and goes back to samples."""

    def __init__(self, size: int, hop: int, **settings: object) -> None:
        super().__init__()
        self.size, self.hop, self.settings = size, hop, settings
        self.register_buffer("window", torch.hann_window(size))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        arguments = (self.size, self.hop)
        stft = torch.stft(audio, *arguments, window=self.window, return_complex=True, **self.settings)
        masked = stft * torch.sigmoid(stft.abs() - 1)
        return torch.istft(masked, *arguments, window=self.window, length=audio.shape[-1], **self.settings)


@pytest.mark.parametrize(("size", "hop"), [(64, 16), (60, 25)])
@pytest.mark.parametrize("settings", [{}, {"normalized": True, "onesided": False}])
def test_to_a_spectrogram_and_back(size: int, hop: int, settings: dict[str, object]) -> None:
    compiled = agrees(Denoiser(size, hop, **settings), floats(2, 600))
    assert len(compiled.module.main) < 80


class GlobalFilter(nn.Module):
    """The layer of GFNet: a learned filter between rfft2 and irfft2."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.5 * floats(height, width // 2 + 1, channels, 2, seed=3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho") * torch.view_as_complex(self.weight)
        return torch.fft.irfft2(spectrum, s=x.shape[1:3], dim=(1, 2), norm="ortho")


class FourierMixer(nn.Module):
    """The layer of AFNO: a block-diagonal complex perceptron between rfft2 and irfft2."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.weight = nn.Parameter(floats(2, blocks, width, width, seed=4, dtype=torch.complex64) / width)
        with torch.no_grad():
            self.weight += 1j * floats(2, blocks, width, width, seed=5) / width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        z = torch.fft.rfft2(x, dim=(1, 2), norm="ortho").reshape(batch, height, width // 2 + 1, self.blocks, -1)
        for weight in self.weight:
            z = torch.einsum("...bi,bio->...bo", z, weight)
            z = torch.view_as_complex(nn.functional.softshrink(torch.view_as_real(z), 0.01))
        z = z.reshape(batch, height, width // 2 + 1, channels)
        return x + torch.fft.irfft2(z, s=(height, width), dim=(1, 2), norm="ortho")


@pytest.mark.parametrize("width", [8, 7])
def test_filters_in_the_frequency_domain(width: int) -> None:
    agrees(GlobalFilter(6, width, 5), floats(2, 6, width, 5), decibels=55)
    agrees(FourierMixer(2, 3), floats(2, 6, width, 6), decibels=55)


def test_fnet() -> None:
    from transformers import FNetConfig, FNetModel

    config = FNetConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, intermediate_size=32, max_position_embeddings=32
    )
    torch.manual_seed(0)
    network = FNetModel(config).eval()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.network(ids).last_hidden_state  # type: ignore[no-any-return]  # transformers is untyped

    agrees(Model(), torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(1)), decibels=50)


class ConjugateImag(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_complex(x).conj().imag * 2


def test_the_imaginary_part_of_a_conjugate() -> None:
    agrees(ConjugateImag(), floats(2, 3, 2))
