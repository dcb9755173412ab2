"""The operations of AutoAugment and its successors, on whole batches, with one amount per image.

Each takes uint8 images (n, channels, H, W) and amounts (n,) and returns images of the same kind. They match torchvision's (v2, on
uint8 tensors, nearest neighbor, black fill), which take one amount for all images. The results are equal image by image,
except that colors that should be whole numbers may be rounded down in one of the two.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional


def _move(images: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Pixel (x, y), from the center, takes the value at rows @ (x, y, 1). rows: two rows of three amounts or numbers."""
    count, _, height, width = images.shape
    value = lambda v: v if isinstance(v, Tensor) else torch.full((count,), v, device=images.device)
    matrix = torch.stack([torch.stack([value(v) for v in row], 1) for row in rows], 1)  # (n, 2, 3)
    y, x = torch.meshgrid(
        *(torch.arange(n, device=images.device) - (n - 1) / 2 for n in (height, width)), indexing="ij"
    )
    points = torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3)
    grid = points @ matrix.transpose(1, 2) / torch.stack([torch.full_like(x[0, 0], n / 2) for n in (width, height)])
    grid = grid.view(count, height, width, 2)
    return F.grid_sample(images.float(), grid, "nearest", "zeros", align_corners=False).round().to(torch.uint8)


def shear_x(images: Tensor, amounts: Tensor) -> Tensor:
    return _move(images, [[1.0, amounts, amounts * images.shape[2] / 2], [0.0, 1.0, 0.0]])


def shear_y(images: Tensor, amounts: Tensor) -> Tensor:
    return _move(images, [[1.0, 0.0, 0.0], [amounts, 1.0, amounts * images.shape[3] / 2]])


def translate_x(images: Tensor, amounts: Tensor) -> Tensor:
    return _move(images, [[1.0, 0.0, -amounts.trunc()], [0.0, 1.0, 0.0]])


def translate_y(images: Tensor, amounts: Tensor) -> Tensor:
    return _move(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -amounts.trunc()]])


def rotate(images: Tensor, amounts: Tensor) -> Tensor:
    cos, sin = amounts.deg2rad().cos(), amounts.deg2rad().sin()
    return _move(images, [[cos, -sin, 0.0], [sin, cos, 0.0]])


def _blend(images: Tensor, other: Tensor | float, amounts: Tensor) -> Tensor:
    """(1 + amount) * images - amount * other."""
    amounts = amounts.view(-1, 1, 1, 1)
    return (images * (1 + amounts) - other * amounts).clamp(0, 255).to(torch.uint8)


def brightness(images: Tensor, amounts: Tensor) -> Tensor:
    return _blend(images, 0.0, amounts)


def color(images: Tensor, amounts: Tensor) -> Tensor:
    return _blend(images, functional.rgb_to_grayscale(images).float(), amounts)


def contrast(images: Tensor, amounts: Tensor) -> Tensor:
    mean = functional.rgb_to_grayscale(images).float().mean((1, 2, 3), keepdim=True)
    return _blend(images, mean, amounts)


def sharpness(images: Tensor, amounts: Tensor) -> Tensor:
    """Contrast with the mean of the 3x3 around each pixel, which itself counts five times; the border stays."""
    channels = images.shape[1]
    kernel = torch.full((channels, 1, 3, 3), 1 / 13, device=images.device)
    kernel[:, :, 1, 1] = 5 / 13
    blurred = images.float()
    blurred[:, :, 1:-1, 1:-1] = F.conv2d(images.float(), kernel, groups=channels).round()
    difference = blurred - images  # 0 at the border, which rounding leaves alone this way
    return (images - amounts.view(-1, 1, 1, 1) * difference).clamp(0, 255).to(torch.uint8)


def posterize(images: Tensor, amounts: Tensor) -> Tensor:
    """Keep this many bits."""
    step = 2 ** (8 - amounts.view(-1, 1, 1, 1).long())
    return (images // step * step).to(torch.uint8)


def solarize(images: Tensor, amounts: Tensor) -> Tensor:
    """Invert values of at least 255 times the amount."""
    return torch.where(images >= 255 * amounts.view(-1, 1, 1, 1), 255 - images, images)


OPERATIONS = {
    "Identity": lambda images, amounts: images,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": lambda images, amounts: functional.autocontrast(images),
    "Equalize": lambda images, amounts: functional.equalize(images),
    "Invert": lambda images, amounts: 255 - images,
}


def apply(images: Tensor, which: Tensor, amounts: Tensor) -> Tensor:
    """Image i through operation which[i] of OPERATIONS with amounts[i]; both (n,), on the CPU, where they are drawn."""
    result = images.clone()
    for number, operation in enumerate(OPERATIONS.values()):
        chosen = (which == number).nonzero().squeeze(1)
        if len(chosen):
            place, amount = (x.to(images.device, non_blocking=True) for x in (chosen, amounts[chosen]))
            result[place] = operation(images[place], amount)
    return result
