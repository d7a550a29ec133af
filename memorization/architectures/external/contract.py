"""What an autoencoder must do to be audited, checked on a few images before anything is computed with it.

It maps images to images of the same shape, is finite on images, answers the same question in the same way whatever
else is in the batch, lies where the images lie and in their precision, and gives gradients to a method that needs them.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memorization.architectures.autoencoder import MEMBERS_AT_ONCE, Autoencoder
from memorization.architectures.external import first_line
from memorization.components import SettingError
from memorization.data import as_float

TOLERANCE = 1e-3  # by which an answer may depend on the batch, in pixels of [0, 1]: a quarter of an 8-bit level
REPEATED = 1e-5  # and by which two answers to the same images may differ: rounding
BATCH = 2  # images that are enough to check with


def check_contract(autoencoder: Autoencoder, images: Tensor, access: str = "queries", batch_size: int = BATCH) -> None:
    """Raise `ValueError` unless `autoencoder`, in eval mode, can be audited on images (B, C, H, W) like `images`.

    `access` is that of the recovery method: with `gradients`, the autoencoder must give derivatives. `batch_size` is
    the number of images that it will be asked for at once; `SettingError` if that is what does not fit.
    """
    images = images[:BATCH]
    if isinstance(autoencoder, type):
        raise ValueError(f"the autoencoder is the class {autoencoder.__name__}; give an instance, with its weights")
    if isinstance(autoencoder, torch.export.ExportedProgram):
        raise ValueError("the autoencoder is an ExportedProgram, which cannot be called; give its module()")
    if isinstance(autoencoder, nn.Module):
        _check_placement(autoencoder, images)
    first, again, alone = (_answer(autoencoder, part) for part in (images, images, images[:1]))
    scale = max(1.0, float(first.abs().max()))
    if (difference := float((first - again).abs().max())) > REPEATED * scale:
        what = f"not deterministic: two calls on the same images differ by up to {difference:.2g}"
        raise ValueError(f"the autoencoder is {what}; switch off in eval mode what draws at random (dropout, noise)")
    if (difference := float((first[:1] - alone).abs().max())) > TOLERANCE * scale:
        what = f"answer for an image depends on the others in its batch (by up to {difference:.2g})"
        way = "in eval mode it must treat each image on its own, without statistics of the batch"
        raise ValueError(f"the autoencoder's {what}; {way}")
    if batch_size > BATCH:
        try:
            _answer(autoencoder, images[:1].repeat(batch_size, 1, 1, 1))
        except ValueError as error:
            raise SettingError("batch_size", batch_size, f"{error}; choose another") from error
    if access == "gradients" and not _is_differentiable(autoencoder, images):
        way = "choose one that only queries it, such as iterate"
        raise ValueError(f"the autoencoder gives no gradients, which the method needs; {way}")


def check_loss(loss: float, members: Tensor) -> None:
    """Print a note if a `loss` on the members (N, C, H, W) is beyond what a single grey would have: their variance."""
    sums = [(float(part.sum()), float(part.square().sum())) for part in map(as_float, members.split(MEMBERS_AT_ONCE))]
    mean, square = (sum(column) / members.numel() for column in zip(*sums, strict=True))
    if loss > (variance := square - mean**2):
        note = f"note: the loss on the members is {loss:.2g}, above their variance of {variance:.2g}"
        print(f"{note}: are these the images that it was trained on, and is value_range right?", flush=True)


@contextlib.contextmanager
def evaluating(autoencoder: Autoencoder) -> Iterator[None]:
    """Eval mode; afterwards every part of a module is in its earlier mode."""
    modules = list(autoencoder.modules()) if isinstance(autoencoder, nn.Module) else []
    modes = [module.training for module in modules]
    with contextlib.suppress(NotImplementedError):  # of an exported program, which has no modes
        for module in modules[:1]:  # the autoencoder itself
            module.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _check_placement(autoencoder: nn.Module, images: Tensor) -> None:
    for tensor in [*autoencoder.parameters(), *autoencoder.buffers()]:
        if tensor.is_meta:
            raise ValueError("the autoencoder has no weights: they are on the meta device; load them first")
        if tensor.device != images.device:
            way = f"move one of them: autoencoder.to('{images.device}')"
            raise ValueError(f"the autoencoder is on {tensor.device}, the images on {images.device}; {way}")
    for parameter in autoencoder.parameters():
        if is_lazy(parameter):
            raise ValueError("the autoencoder's lazy layers have no weights yet; call it once and load them")
        if parameter.is_floating_point() and parameter.dtype != images.dtype:
            way = f"give autoencoder.to({images.dtype}), or export it so"
            raise ValueError(f"the autoencoder's weights are {parameter.dtype}, the images {images.dtype}; {way}")


@torch.no_grad()
def _answer(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """The autoencoder's answer, a finite tensor like `images`; raises `ValueError` for anything else."""
    given = images.clone()
    try:
        output: object = autoencoder(given)
    except Exception as error:  # of the user's code
        raise ValueError(f"the autoencoder fails on images of {tuple(images.shape)}: {first_line(error)}") from error
    if not torch.equal(given, images):
        raise ValueError("the autoencoder changes its input in place; give lambda x: autoencoder(x.clone())")
    if not isinstance(output, Tensor):
        way = "it must return the images alone: wrap it in a function that does"
        raise ValueError(f"the autoencoder returns a {type(output).__name__}; {way}")
    if output.shape != images.shape:
        raise ValueError(f"the autoencoder maps {tuple(images.shape)} to {tuple(output.shape)}; it must keep the shape")
    if output.dtype != images.dtype or output.device != images.device:
        change = f"maps {images.dtype} on {images.device} to {output.dtype} on {output.device}"
        raise ValueError(f"the autoencoder {change}; it must keep both: return output.to(x)")
    if not torch.isfinite(output).all():
        raise ValueError("the autoencoder's output holds NaN or infinite values on images; are its weights whole?")
    return output


def _is_differentiable(autoencoder: Autoencoder, images: Tensor) -> bool:
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        try:
            output = autoencoder(x)
            return output.requires_grad and torch.autograd.grad(output.sum(), x, allow_unused=True)[0] is not None
        except RuntimeError:  # a layer without a derivative
            return False
