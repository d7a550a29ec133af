"""What to say of a model that cannot be audited as it is: the argument with which it can, found by trying.

The model is called on the same few images in other ways, one after the other, until it gives images: with another
layout, size or batch, or by another part of its answer. It costs some calls, and only of a model that would be refused.
"""

import contextlib
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from memorization.architectures.autoencoder import reconstruction_loss
from memorization.architectures.external.adapted import Adapted, Description, Layout, chosen, tensors_in, told

PATIENCE = 10  # seconds after which no other way is tried
KEYS = ("data", "x", "img", "image", "images", "input", "inputs", "pixel_values", "sample")
RANGES = ((0, 1), (-1, 1), (0, 255))  # usual values of black and white
VAE = re.compile(r"log_?var|log_?sigma|reparam|posterior|latent_dist|(^|_)mu($|_)|vae|variational", re.IGNORECASE)
SAMPLES = "; it samples, as a VAE does"
# How the posterior mean of a VAE is decoded, in several packages.
MEANS: dict[str, Callable[[Any, Any], Any]] = {
    "model.decode(model.encode(x).latent_dist.mean).sample": lambda m, x: m.decode(m.encode(x).latent_dist.mean).sample,
    "model.decode(model.encode(x)[0])": lambda m, x: m.decode(m.encode(x)[0]),
    "model.decode_forward(model.encode_forward(x)[0], model.use_sigmoid)": lambda m, x: m.decode_forward(
        m.encode_forward(x)[0], m.use_sigmoid
    ),
    "model.decoder(model.encoder(x).embedding).reconstruction": lambda m, x: (
        m.decoder(m.encoder(x).embedding).reconstruction
    ),
    "model.decoder(model.encoder(x)[0])": lambda m, x: m.decoder(m.encoder(x)[0]),
    "model.reconstruct(x)": lambda m, x: m.reconstruct(x),
}


@torch.no_grad()
def of_failure(autoencoder: Any, images: Tensor, reason: str, prefix: str = "") -> str:
    """How `autoencoder`, which failed on `images` for a `reason`, is to be described; empty if that is not found.

    prefix: of the arguments' names, `architecture.` on the command line.
    """
    network, given = described(autoencoder)
    until = time.monotonic() + PATIENCE
    first: Any = None
    sizes: dict[str, str] = {}  # the first way of padding, and of resizing
    for candidate in _candidates(network, images, reason, prefix):
        kind = next(iter(candidate), "")
        if kind in sizes or time.monotonic() > until:
            continue
        try:
            trial = Adapted(network, **{**given, **candidate})
            with warnings.catch_warnings(action="ignore"):
                own, answer = next(trial.answers(images.clone()))
        except Exception:  # of the user's code
            continue
        first = answer if first is None else first
        if candidate and _gives(trial, own, answer):
            way = _written(candidate, prefix)
        elif names := [name for name, shape in tensors_in(answer).items() if shape == own.shape]:
            way = " or ".join(_written({**candidate, "output": name}, prefix) for name in names)
            has = ", ".join(f"`{name}`" for name in names)
            other = Adapted(network, **{**given, **candidate, "output": names[0]})
            mean = (of_chance if _draws(other, images) else _of_mean)(other, images, prefix)
            held = f": {type(answer).__name__} has {has} of shape {tuple(own.shape)}"
            return held + (mean if mean.startswith(SAMPLES) else f": give {way}{mean}")  # `output` would sample
        elif not (isinstance(answer, Tensor) or prefix) and _gives(trial, own, answer):
            return "; give output=torch.as_tensor"
        else:
            continue
        if kind not in ("pad_to", "resize_to"):
            return f"; give {way}, with which it does"
        sizes[kind] = way
    if sizes:
        return f"; give {' or '.join(sizes.values())}, with which it does"
    return _of_patches(network, images, first, prefix) or _in_words(first, reason, prefix)


def _gives(trial: Adapted, own: Tensor, answer: Any) -> bool:
    """Does it give images?"""
    try:
        trial.images(own, answer)
    except Exception:  # of the user's code, too
        return False
    return True


def _draws(autoencoder: Adapted, images: Tensor) -> bool:
    """Do two calls on the same images differ?"""
    with warnings.catch_warnings(action="ignore"):
        return not torch.equal(autoencoder(images.clone()), autoencoder(images.clone()))


@torch.no_grad()
def of_chance(autoencoder: Any, images: Tensor, prefix: str = "") -> str:
    """The line to write for a model that draws at random, if it is a VAE or masks; empty for another."""
    told = f"{SAMPLES}: give what it makes of its posterior mean"
    network, given = described(autoencoder)
    if masked := _of_masks(network):
        return masked
    if isinstance(network, nn.Module) and not given.get("call"):
        text, _ = _mean(network, given, images)
        if text or _is_variational(network):
            return told + _as_call(text or "... that decodes its mean", prefix)
    return ""


def _of_mean(autoencoder: Adapted, images: Tensor, prefix: str) -> str:
    """The line to write for a VAE that decodes another code than its posterior mean, and draws none; else empty."""
    network, given = described(autoencoder)
    if isinstance(network, nn.Module) and not given.get("call") and _is_variational(network):
        text, answer = _mean(network, given, images)
        if text and not torch.allclose(answer, autoencoder(images), rtol=0, atol=1e-5):
            return "; it decodes another code than its posterior mean; to decode that" + _as_call(text, prefix)
    return ""


def _mean(network: nn.Module, given: dict[str, Any], images: Tensor) -> tuple[str, Tensor]:
    """How the posterior mean of a VAE is decoded, and what it gives; empty if that is not found."""
    for text, call in MEANS.items():
        trial = Adapted(network, **{**given, "call": call, "output": "", "input_key": ""})
        try:
            with warnings.catch_warnings(action="ignore"):
                first, again = trial(images.clone()), trial(images.clone())
        except Exception:  # of the user's code
            continue
        if torch.equal(first, again):
            return text, first
    return "", torch.empty(0)


def _is_variational(network: nn.Module) -> bool:
    names = {*dir(type(network)), *(name for name, _ in network.named_modules()), type(network).__name__}
    return any(VAE.search(part) for name in names for part in name.split("."))


@torch.no_grad()
def of_loss(autoencoder: Any, images: Tensor, loss: float, prefix: str = "") -> str:
    """The range of values with which the `loss` on images would be less than half; empty if there is none."""
    network, given = described(autoencoder)
    for low, high in RANGES:
        trial = Adapted(network, **{**given, "value_range": (low, high)})
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):  # of the user's code
            if (other := reconstruction_loss(trial, images)) < loss / 2:
                return f" With {prefix}value_range=[{low},{high}] it is {other:.2g}."
    return ""


def described(autoencoder: Any) -> tuple[Any, dict[str, Any]]:
    """A model, and how it is described so far."""
    if not isinstance(autoencoder, Adapted):
        return autoencoder, {}
    return autoencoder.network, {**autoencoder.description}


class _Zeros:
    """Calls a model with 0 for the arguments that it lacks, such as the time step of a denoiser."""

    def __init__(self, names: list[str]) -> None:
        self.words = dict.fromkeys(names, 0)

    def __call__(self, model: Any, x: Any) -> Any:
        return model(x, **self.words)

    def __str__(self) -> str:
        return f"lambda model, x: model(x, {', '.join(f'{name}=0' for name in self.words)})"


def _lacking(reason: str) -> list[str]:
    """The arguments that a call lacked, as Python says it."""
    missing = re.search(r"missing \d+ required positional arguments?: (.*)", reason)
    return re.findall(r"'(\w+)'", missing[1]) if missing else []


def _candidates(network: Any, images: Tensor, reason: str, prefix: str) -> Iterator[Description]:
    """Other descriptions, the likelier first; sizes are those that the `reason` names."""
    yield {}
    if not prefix and (names := _lacking(reason)):
        yield {"call": _Zeros(names)}
    numbers = {int(number) for number in re.findall(r"\d+", reason)[:24] if len(number) < 7}
    for count in [1, 2, *sorted(number for number in numbers if 2 < number <= 256)]:
        yield {"batch": count}
    for layout in (Layout.flat, Layout.channels_last):
        yield {"layout": layout.value}
    if not re.search(r"mat1 and mat2", reason):
        code = getattr(getattr(type(network), "forward", network), "__code__", None)
        own = [text for text in getattr(code, "co_consts", ()) if isinstance(text, str) and text.isidentifier()]
        for key in dict.fromkeys([*own, *KEYS]):  # those that it names itself first
            yield {"input_key": key}
    for multiple in (2, 4, 8, 16, 32, 64):
        yield {"pad_to": multiple}
    if "must match" in reason:  # of skips of a network whose own sizes differ
        return
    channels, largest = images.shape[1], 4 * max(images.shape[2:])
    roots = {math.isqrt(n // channels) for n in numbers if n and n == channels * math.isqrt(n // channels) ** 2}
    for side in sorted(roots, reverse=True) + sorted(numbers - roots, reverse=True):
        if 4 <= side <= largest and (side, side) != tuple(images.shape[2:]):
            yield {"resize_to": side}
            yield {"resize_to": side, "layout": Layout.flat.value}


def _of_patches(network: Any, images: Tensor, answer: Any, prefix: str) -> str:
    """What to write for a model that answers in patches and can join them, as masked autoencoders do."""
    for name, shape in tensors_in(answer).items():
        with contextlib.suppress(Exception):  # of the user's code, which may have no `unpatchify`
            if math.prod(shape) == images.numel() and network.unpatchify(chosen(answer, name)).shape == images.shape:
                call = _as_call(f"model.unpatchify(model(x).{name})", prefix)
                return f"; `{name}` holds patches: join them{call}{_of_masks(network)}"
    return ""


def _of_masks(network: Any) -> str:
    """What to set in a masked autoencoder of transformers, so that it is shown the whole image; empty for another."""
    masked = getattr(getattr(network, "config", None), "mask_ratio", 0)
    return "; it hides parts at random: set model.config.mask_ratio = 0.0" if masked else ""


def _in_words(answer: Any, reason: str, prefix: str) -> str:
    """Where nothing was found by trying: what there is, or what the error tells."""
    if answer is not None and not isinstance(answer, Tensor):
        there = told(answer)
        return f": none of its parts has the shape of the images{f'; it has {there}' if there else ''}"
    if names := _lacking(reason):
        words = ", ".join(f"{name}=..." for name in names)
        return f"; say how it is called{_as_call(f'model(x, {words})', prefix)}"
    if "mat1 and mat2" in reason:
        way = "are these images of the size that it was made for (resize_to), and in its layout (channels_last, flat)?"
        return f"; {way}"
    if "to have 3 channels, but got 1 " in reason:
        way = _as_call("model(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)", prefix)
        return f"; it takes images in colour: give it grey ones as such{way}"
    if "channels" in reason:
        return "; are these images in its layout (channels_first, channels_last), and in grey or in colour, as it is?"
    return ""


def _as_call(text: str, prefix: str) -> str:
    """How a call is given: in Python as an argument, on the command line by a function."""
    way = f", by a function that is named as {prefix}target: " if prefix else ": call="
    return f"{way}lambda model, x: {text}"


def _written(description: Any, prefix: str) -> str:
    return (" " if prefix else ", ").join(f"{prefix}{name}={value}" for name, value in description.items())
