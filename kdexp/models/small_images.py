"""Adapts networks made for 224x224 images to small ones: their stem, classifier and taps."""

import difflib
from collections.abc import Callable

import torch
from torch import nn

from kdexp.models import Wrapped, outputs_of, wrap


def adapted(
    make: Callable[..., nn.Module],
    num_classes: int,
    image_size: int,
    stem: str,
    taps: dict[str, str] | None,
    in_channels: int = 3,
) -> Wrapped:
    """Turn a network from another library into one of ours.

    make: returns the network when called with num_classes. stem: "small" adapts it to small images as the field does
    (see `adapt`), "original" leaves it alone. taps: tap -> module; None for `last_of_each_size`. in_channels: of the
    images; if not 3, the first convolution is replaced by one of as many channels. Raises ValueError.
    """
    if stem not in ("small", "original"):
        raise ValueError(f"stem={stem}: must be small or original")
    device = torch.get_default_device()
    with torch.device("cpu"):  # some compute their widths with tensors, and meta tensors have no values
        net = make(num_classes=num_classes)
    net.to(device)
    if stem == "small":
        adapt(net, num_classes)
    if in_channels != 3:
        read_channels(net, in_channels)
    try:
        return wrap(net, taps or last_of_each_size(net, image_size, in_channels), image_size, in_channels)
    except (RuntimeError, AssertionError) as error:  # maps shrink to nothing, or a transformer's size is fixed
        raise ValueError(f"does not run on images of {image_size}x{image_size}: {error}") from None


def adapt(net: nn.Module, num_classes: int) -> None:
    """Adapt a network in place, as public CIFAR versions of these networks do. A stem that halves the image becomes a 3x3
    convolution with stride 1, and the pooling right after it is removed (ResNet, ShuffleNet, DenseNet, MobileNet;
    transformers keep their patches). A classifier with hidden layers on a pooled 7x7 map (VGG, AlexNet) becomes one
    linear layer on the mean."""
    modules = dict(net.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    stem = modules[convolutions[0]]
    if stem.kernel_size[0] > stem.stride[0] > 1:
        small = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=stem.bias is not None)
        net.set_submodule(convolutions[0], small)
        names = list(modules)
        for name in names[: names.index(convolutions[1])]:
            if isinstance(modules[name], nn.MaxPool2d):
                net.set_submodule(name, nn.Identity())
    pool = getattr(net, "avgpool", None)
    if isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size not in (1, (1, 1)):
        net.avgpool, channels = nn.AdaptiveAvgPool2d(1), modules[convolutions[-1]].out_channels
        net.classifier = nn.Linear(channels, num_classes)


def read_channels(net: nn.Module, in_channels: int) -> None:
    """Replace the first convolution by one that reads images of this many channels."""
    name, first = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    shape = (first.kernel_size, first.stride, first.padding, first.dilation)
    device = first.weight.device
    net.set_submodule(
        name, nn.Conv2d(in_channels, first.out_channels, *shape, bias=first.bias is not None, device=device)
    )


def check_name(arch: str, there: list[str], library: str) -> None:
    """Raises ValueError, with similar names, for a network that the library does not have."""
    if arch not in there:
        near = difflib.get_close_matches(arch, there, 3, cutoff=0.5)
        raise ValueError(f"{library} has no such network. Similar names: {', '.join(near) or 'none'}")


def last_of_each_size(net: nn.Module, image_size: int, in_channels: int = 3) -> dict[str, str]:
    """stage3, stage2, stage1: the last feature map of each of the last three sizes, among modules at most two levels
    deep (`layer1`, `features.3`: blocks, not their insides); embedding: the mean of the last."""
    shallow = {module: name for name, module in net.named_modules() if name and name.count(".") < 2}
    _, outputs = outputs_of(net, shallow, image_size, in_channels)
    by_size: dict[int, str] = {}
    for name, (output, version) in outputs.items():
        shape: tuple = getattr(output, "shape", ())
        if len(shape) == 4 and shape[2] == shape[3] > 1 and output._version == version:
            by_size[shape[2]] = name
    last = [by_size[size] for size in sorted(by_size)[:3]]  # the smallest first
    stages = {f"stage{3 - place}": name for place, name in enumerate(last)}
    return dict(sorted(stages.items())) | ({"embedding": last[0]} if last else {})
