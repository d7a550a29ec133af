"""What an autoencoder must do to be audited, checked on a few images before anything is computed with it.

It maps images to images of the same shape, is finite on images, answers the same question in the same way whatever
else is in the batch, lies where the images lie and in their precision, and gives gradients to a method that needs them.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memorization.architectures.autoencoder import MEMBERS_AT_ONCE, Autoencoder, Bounded, Centred
from memorization.architectures.external import first_line
from memorization.architectures.external.adapted import Adapted, UnsuitableError, check_answer, check_callable
from memorization.architectures.external.advice import described, of_chance, of_failure, of_loss, written_call
from memorization.components import SettingError
from memorization.data import as_float

TOLERANCE = 1e-3  # by which an answer may depend on the batch, in pixels of [0, 1]: a quarter of an 8-bit level
REPEATED = 1e-5  # and by which two answers to the same images may differ: rounding
BATCH = 2  # images that are enough to check with


def some_images(shape: Sequence[int]) -> Tensor:
    """(BATCH, C, H, W) of noise in [0, 1], to check with where there are no images."""
    return torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def check_contract(
    autoencoder: Autoencoder, images: Tensor, access: str = "queries", batch_size: int = BATCH, prefix: str = ""
) -> None:
    """Raise `ValueError` unless `autoencoder`, in eval mode, can be audited on images (B, C, H, W) like `images`.

    `access` is that of the recovery method: with `gradients`, the autoencoder must give derivatives. `batch_size` is
    the number of images that it will be asked for at once; `SettingError` if that is what does not fit. `prefix` is
    that of the arguments of `Adapted` where they are configured, of which a message names the one to give.
    """
    images = images[:BATCH]
    check_callable(autoencoder)
    if isinstance(autoencoder, nn.Module):
        _check_placement(autoencoder, images)
    first, again, alone = (_answer(autoencoder, part, prefix) for part in (images, images, images[:1]))
    scale = max(1.0, float(first.abs().max()))
    if (difference := float((first - again).abs().max())) > REPEATED * scale:
        what = f"not deterministic: two calls on the same images differ by up to {difference:.2g}"
        way = (
            of_chance(autoencoder, images, prefix) or "; switch off in eval mode what draws at random (dropout, noise)"
        )
        raise ValueError(f"the autoencoder is {what}{way}")
    if (difference := float((first[:1] - alone).abs().max())) > TOLERANCE * scale:
        what = f"answer for an image depends on the others in its batch (by up to {difference:.2g})"
        way = "in eval mode it must treat each image on its own, without statistics of the batch"
        raise ValueError(f"the autoencoder's {what}; {way}")
    if batch_size > BATCH:
        try:
            _answer(autoencoder, many := images[:1].repeat(batch_size, 1, 1, 1), None)
        except ValueError as error:
            way = of_failure(autoencoder, many, str(error), prefix)
            raise SettingError("batch_size", batch_size, f"{error}; choose another{way}") from error
    if access == "gradients" and (reason := _undifferentiable(autoencoder, images)):
        way = "choose one that only queries it, such as iterate"
        raise ValueError(f"the autoencoder gives no gradients, which the method needs; {way} ({reason})")


def check_beyond(autoencoder: Autoencoder, images: Tensor, prefix: str = "") -> None:
    """Raise `ValueError` if `autoencoder` fails on values outside of [0, 1], where an extraction starts.

    images, prefix: as of `check_contract`, which comes first. An answer that is not finite there is no failure.
    """
    try:
        autoencoder(3 * images[:BATCH] - 1)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the user's code
        network, given = described(autoencoder)
        low, high = given.get("value_range", (0, 1))
        way = written_call(f"model(x.clip({low:g}, {high:g}))", prefix, network)
        what = "the autoencoder fails on values outside of [0, 1], where an extraction starts"
        raise ValueError(f"{what}: {first_line(error)}; clip them: {way}") from error


def check_modes(autoencoder: nn.Module, trained: bool) -> None:
    """Raise `ValueError`, naming the user's class, unless its `eval` and `train` do what those of `nn.Module` do.

    A job of the command line calls them, as Lightning does; only with `trained` is it put into training mode.
    `evaluating` does without them. It is left in eval mode.
    """
    network = autoencoder
    while isinstance(network, Adapted | Bounded | Centred):
        network = network[0] if isinstance(network, Bounded) else network.network
    name = type(network).__name__
    calls: list[tuple[str, Callable[[], object]]] = [
        ("train(True)", lambda: autoencoder.train(True)),
        ("train(False)", lambda: autoencoder.train(False)),
        ("eval()", autoencoder.eval),
    ]
    for call, function in calls if trained else calls[1:]:
        try:
            answer = function()
        except Exception as error:  # of the user's code
            way = "leave eval and train as nn.Module has them, or call those with super()"
            raise ValueError(f"{name}.{call} fails: {first_line(error)}; {way}") from error
        if answer is not autoencoder:
            kind = "None" if answer is None else f"a {type(answer).__name__}"
            raise ValueError(f"{name}.{call} returns {kind}; it must end with `return self`, as that of nn.Module does")


def check_loss(loss: float, members: Tensor, autoencoder: Autoencoder, prefix: str = "") -> None:
    """Print a note if a `loss` on the members (N, C, H, W) is beyond what a single grey would have: their variance.

    It says with what range of values `autoencoder` has a smaller one. prefix: see `check_contract`.
    """
    sums = [(float(part.sum()), float(part.square().sum())) for part in map(as_float, members.split(MEMBERS_AT_ONCE))]
    mean, square = (sum(column) / members.numel() for column in zip(*sums, strict=True))
    if loss > (variance := square - mean**2):
        note = f"note: the loss on the members is {loss:.2g}, above their variance of {variance:.2g}"
        note += ": are these the images that it was trained on, and is value_range right?"
        with evaluating(autoencoder):
            print(note + of_loss(autoencoder, members[:MEMBERS_AT_ONCE], loss, prefix), flush=True)


@contextlib.contextmanager
def evaluating(autoencoder: Autoencoder) -> Iterator[None]:
    """Eval mode; afterwards a module is as it was: its parts' modes, and its buffers, such as batch statistics."""
    modules = list(autoencoder.modules()) if isinstance(autoencoder, nn.Module) else []
    modes = [(module, module.training) for module in modules if hasattr(module, "training")]  # not a frozen script
    asked = [(weight, weight.requires_grad) for module in modules[:1] for weight in module.parameters()]
    kept = [
        (module, name, buffer.clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
        if not (is_lazy(buffer) or buffer.is_meta or buffer.is_inference() or buffer.layout != torch.strided)
    ]
    try:
        for module in modules[:1]:  # the autoencoder itself
            try:
                module.eval()
            except Exception:  # of the user's code, or of an exported program, which has no modes
                for part, _ in modes:
                    part.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, grad in asked:
            if weight.requires_grad != grad:
                weight.requires_grad_(grad)
        with torch.no_grad():
            for module, name, value in kept:
                if not _is_alike(buffer := getattr(module, name, None), value):
                    setattr(module, name, value)  # what keeps the last batch, for instance, was replaced
                elif not torch.equal(buffer, value):
                    buffer.copy_(value)


def _is_alike(buffer: Tensor | None, other: Tensor) -> TypeGuard[Tensor]:
    if buffer is None or buffer.shape != other.shape:
        return False
    return buffer.dtype == other.dtype and buffer.device == other.device


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
def _answer(autoencoder: Autoencoder, images: Tensor, prefix: str | None) -> Tensor:
    """The autoencoder's answer, a finite tensor like `images`; raises `ValueError` for anything else.

    With a `prefix`, that says how it is to be described, see `check_contract`.
    """
    given = images.clone()
    try:
        with warnings.catch_warnings(action="ignore"):  # of a call that may be wrong
            output: object = autoencoder(given)
        if torch.equal(given, images):
            check_answer(output, images)
    except Exception as error:  # of the user's code
        failed = f"the autoencoder fails on images of {tuple(images.shape)}: {first_line(error)}"
        reason = str(error) if isinstance(error, UnsuitableError) else failed
        advice = "" if prefix is None else of_failure(autoencoder, images, reason, prefix)
        raise ValueError(reason + advice) from error
    if not torch.equal(given, images):
        way = written_call("model(x.clone())", prefix or "", described(autoencoder)[0])
        raise ValueError(f"the autoencoder changes its input in place; give {way}")
    assert isinstance(output, Tensor)
    if output.dtype != images.dtype or output.device != images.device:
        change = f"maps {images.dtype} on {images.device} to {output.dtype} on {output.device}"
        way = written_call("model(x).to(x)", prefix or "", described(autoencoder)[0])
        raise ValueError(f"the autoencoder {change}; it must keep both: give {way}")
    if not torch.isfinite(output).all():
        raise ValueError("the autoencoder's output holds NaN or infinite values on images; are its weights whole?")
    return output


def _undifferentiable(autoencoder: Autoencoder, images: Tensor) -> str:
    """Why the autoencoder gives no derivatives; empty if it does."""
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        try:
            output = autoencoder(x)
            if not output.requires_grad:
                kind = getattr(autoencoder, "returned", "")
                inside = f"it returns a {kind}" if kind else "torch.no_grad, detach or NumPy within"
                return f"its output does not require grad: {inside}"
            (found,) = torch.autograd.grad(output.sum(), x, allow_unused=True)
            return "its output does not depend on the images by way of gradients" if found is None else ""
        except RuntimeError as error:  # a layer without a derivative
            made = (
                "; make or load the model outside of torch.inference_mode()" if "Inference tensor" in str(error) else ""
            )
            return f"torch: {first_line(error)}{made}"
