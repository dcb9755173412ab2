"""Exports a trained network for use elsewhere, with its data set's normalization built in, and checks it against
ours."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import kdexp
from kdexp.datasets.batches import Pixels
from kdexp.errors import UsageError, needed
from kdexp.experiment.networks import build_network
from kdexp.storage.files import torch_bytes, write_atomically, writing

TOLERANCE = 1e-4  # for logits; float32 sums in a different order differ by about 1e-6


class FromPixels(nn.Module):
    """images (N, channels, H, W) float32 in 0..1 -> logits (N, classes) float32. mean, std: of each channel."""

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std).logits


def export(run_folder: Path, to: Path, kinds: tuple[str, ...]) -> list[str]:
    """Write model.pt and model.onnx, whichever `kinds` asks for, after checking that their logits match our network's;
    returns a line for each. Raises UsageError."""
    for package in ("onnxscript", "onnxruntime") if "onnx" in kinds else ():
        try:
            needed(package, "onnx")
        except ValueError as error:
            raise UsageError(f"{error}, or use --format pt") from None
    try:
        network = kdexp.load(run_folder)
    except ValueError as error:
        raise UsageError(str(error)) from None
    data, made = network.config["dataset"], {}
    if "pt" in kinds:
        made["model.pt"] = _state_dict(network, data)
    if "onnx" in kinds:
        made["model.onnx"] = _onnx(network, data)
    lines = []
    for name, (content, forward) in made.items():
        difference = largest_difference(forward, network, data)
        if not difference <= TOLERANCE:
            raise UsageError(
                f"{name} and {run_folder} give different logits, by up to {difference:.1e}. Nothing was written"
            )
        lines.append(f"{to / name}   {len(content) / 1e6:.1f} MB   logits match within {difference:.1e}")
    with writing(to, cure="Choose another folder with --to DIR"):
        to.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in made.items():
        write_atomically(to / name, content)
    return lines


@torch.no_grad()
def largest_difference(forward: Callable[[Tensor], Tensor], network: nn.Module, data: dict) -> float:
    """The largest difference between two networks' logits on random images, in batches of 1, 2 and 64."""
    pixels, draws = Pixels(data["mean"], data["std"]), torch.Generator().manual_seed(0)
    differences = []
    for count in (1, 2, 64):
        images = torch.randint(256, (count, len(data["mean"]), data["image_size"], data["image_size"]), generator=draws)
        differences.append((forward(images / 255) - network(pixels.normalise(images)).logits).abs().max().item())
    return max(differences)


def _state_dict(network: nn.Module, data: dict) -> tuple[bytes, Callable]:
    content = torch_bytes(FromPixels(network, data["mean"], data["std"]).state_dict())
    again = build_network(network.config["model"]["student"], network.config["plugins"])
    model = FromPixels(again, [0.0] * len(data["mean"]), [1.0] * len(data["mean"])).eval()
    model.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return content, model


def _onnx(network: nn.Module, data: dict) -> tuple[bytes, Callable]:
    model = FromPixels(network, data["mean"], data["std"]).eval()
    example = torch.rand(2, len(data["mean"]), data["image_size"], data["image_size"])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        model,
        (example,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # the exporter records which file on this machine each operation comes from
    content = proto.SerializeToString()
    session = needed("onnxruntime", "onnx").InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
