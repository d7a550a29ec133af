"""What to say of a model that cannot be audited as it is: the argument with which it can, found by trying.

The model is called on the same few images in other ways, one after the other, until it gives images: with another
layout, size or batch, or by another part of its answer. It costs some calls, and only of a model that would be refused.
"""

import contextlib
import functools
import inspect
import json
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

NORMED = "more than 1 value per channel when training"  # what torch says of a batch norm in training mode, of one image
PATIENCE = 10  # seconds after which no other way is tried
KEYS = ("data", "x", "img", "image", "images", "input", "inputs", "pixel_values", "sample")
RANGES = ((0, 1), (-1, 1), (0, 255))  # usual values of black and white
VAE = re.compile(r"log_?var|log_?sigma|reparam|posterior|latent_dist|(^|_)mu($|_)|vae|variational", re.IGNORECASE)
SAMPLES = "; it samples, as a VAE does"
# How the posterior mean of a VAE is decoded, in several packages.
MEANS: dict[str, Callable[[Any, Any], Any]] = {
    "model.decode(model.encode(x).latent_dist.mean).sample": lambda m, x: m.decode(m.encode(x).latent_dist.mean).sample,
    "model.decode(model.encode(x).mean)": lambda m, x: m.decode(m.encode(x).mean),
    "model.decode(model.encode(x)[0])": lambda m, x: m.decode(m.encode(x)[0]),
    "model.decode(model.encode(x)['mu'])": lambda m, x: m.decode(m.encode(x)["mu"]),
    "model.decode_forward(model.encode_forward(x)[0], model.use_sigmoid)": lambda m, x: m.decode_forward(
        m.encode_forward(x)[0], m.use_sigmoid
    ),
    "model.decoder(model.encoder(x).embedding).reconstruction": lambda m, x: (
        m.decoder(m.encoder(x).embedding).reconstruction
    ),
    "model.decoder(model.encoder(x)[0])": lambda m, x: m.decoder(m.encoder(x)[0]),
    "model.reconstruct(x)": lambda m, x: m.reconstruct(x),
}
# Other ways to call a model: it has no `forward`, takes images without their channel or one at a time, or with labels.
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "model.decode(model.encode(x))": lambda m, x: m.decode(m.encode(x)),
    "model.decoder(model.encoder(x))": lambda m, x: m.decoder(m.encoder(x)),
    "model(x.squeeze(1)).unsqueeze(1)": lambda m, x: m(x.squeeze(1)).unsqueeze(1),
    "torch.stack([model(image) for image in x])": lambda m, x: torch.stack([m(image) for image in x]),
    "torch.stack([model(image[0]) for image in x])[:, None]": lambda m, x: torch.stack([m(i[0]) for i in x])[:, None],
    "model((x, None))": lambda m, x: m((x, None)),
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
    for candidate in _candidates(network, images, reason):
        kind = next(iter(candidate), "")
        if kind in sizes or (sizes and kind == "call") or time.monotonic() > until:
            continue
        try:
            trial = Adapted(network, **{**given, **candidate})
            with warnings.catch_warnings(action="ignore"):
                own, answer = next(trial.answers(images.clone()))
        except Exception:  # of the user's code
            continue
        first = answer if first is None else first
        if candidate and _gives(trial, own, answer):
            way = _written(candidate, prefix, network)
        elif names := _images_in(answer, own):
            way = " or ".join(_written({**candidate, "output": name}, prefix, network) for name in names)
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
    return _of_patches(network, images, first, prefix) or _in_words(network, first, reason, prefix)


def _images_in(answer: Any, own: Tensor) -> list[str]:
    """The parts of an answer that have the shape of what was given, `own`, but are not that, unless all are."""
    names = [name for name, shape in tensors_in(answer).items() if shape == own.shape]
    made = [name for name in names if not torch.equal(torch.as_tensor(chosen(answer, name)).to(own), own)]
    return made or names


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
            return f"{told}: {written_call(text or '... that decodes its mean', prefix, network)}"
    return ""


def _of_mean(autoencoder: Adapted, images: Tensor, prefix: str) -> str:
    """The line to write for a VAE that decodes another code than its posterior mean, and draws none; else empty."""
    network, given = described(autoencoder)
    if isinstance(network, nn.Module) and not given.get("call") and _is_variational(network):
        text, answer = _mean(network, given, images)
        if text and not torch.allclose(answer, autoencoder(images), rtol=0, atol=1e-5):
            way = written_call(text, prefix, network)
            return f"; it decodes another code than its posterior mean; to decode that: {way}"
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
    """The range of values with which the `loss` on images would be least, if less than half; else empty."""
    network, given = described(autoencoder)
    losses: dict[tuple[int, int], float] = {}
    for ends in RANGES:
        trial = Adapted(network, **{**given, "value_range": ends})
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):  # of the user's code
            losses[ends] = reconstruction_loss(trial, images)
    low, high = min(losses, key=lambda ends: losses[ends], default=RANGES[0])
    other = losses.get((low, high), math.inf)
    return f" With {prefix}value_range=[{low},{high}] it is {other:.2g}." if other < loss / 2 else ""


def described(autoencoder: Any) -> tuple[Any, dict[str, Any]]:
    """A model, and how it is described so far."""
    if not isinstance(autoencoder, Adapted):
        return autoencoder, {}
    return autoencoder.network, {**autoencoder.description}


class _Written:
    """A way to call a model that can be read: an expression of `model` and `x`, and the function that it stands for."""

    def __init__(self, text: str, function: Callable[[Any, Any], Any]) -> None:
        self.text, self.function = text, function

    def __call__(self, model: Any, x: Any) -> Any:
        return self.function(model, x)


def _by_name(network: Any, reason: str) -> Iterator[_Written]:
    """Calls with 0 for the arguments that are lacking, such as the time step of a denoiser, or with a name for `x`."""
    if names := _lacking(reason):
        words = ", ".join(f"{name}=0" for name in names)
        yield _Written(f"model(x, {words})", lambda model, x: model(x, **dict.fromkeys(names, 0)))
    with contextlib.suppress(TypeError, ValueError):  # of what has no signature
        for one in inspect.signature(getattr(network, "forward", network)).parameters.values():
            if one.kind is one.KEYWORD_ONLY and one.default is one.empty:
                yield _Written(f"model({one.name}=x)", functools.partial(_call_by_name, one.name))


def _call_by_name(name: str, model: Any, x: Any) -> Any:
    return model(**{name: x})


def _lacking(reason: str) -> list[str]:
    """The arguments that a call lacked, as Python says it."""
    missing = re.search(r"missing \d+ required positional arguments?: (.*)", reason)
    return re.findall(r"'(\w+)'", missing[1]) if missing else []


def _candidates(network: Any, images: Tensor, reason: str) -> Iterator[Description]:
    """Other descriptions, the likelier first; sizes are those that the `reason` names."""
    yield {}
    for call in _by_name(network, reason):
        yield {"call": call}
    numbers = {int(number) for number in re.findall(r"\d+", reason)[:24] if len(number) < 7}
    if NORMED not in reason:
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
    for text, function in CALLS.items():
        yield {"call": _Written(text, function)}
        yield {"call": _Written(text, function), "layout": Layout.flat.value}


def _of_patches(network: Any, images: Tensor, answer: Any, prefix: str) -> str:
    """What to write for a model that answers in patches and can join them, as masked autoencoders do."""
    for name, shape in tensors_in(answer).items():
        with contextlib.suppress(Exception):  # of the user's code, which may have no `unpatchify`
            if math.prod(shape) == images.numel() and network.unpatchify(chosen(answer, name)).shape == images.shape:
                call = written_call(f"model.unpatchify(model(x).{name})", prefix, network)
                return f"; `{name}` holds patches: join them: {call}{_of_masks(network)}"
    return ""


def _of_masks(network: Any) -> str:
    """What to set in a masked autoencoder of transformers, so that it is shown the whole image; empty for another."""
    masked = getattr(getattr(network, "config", None), "mask_ratio", 0)
    return "; it hides parts at random: set model.config.mask_ratio = 0.0" if masked else ""


def _in_words(network: Any, answer: Any, reason: str, prefix: str) -> str:
    """Where nothing was found by trying: what there is, or what the error tells."""
    if answer is not None and not isinstance(answer, Tensor):
        there = told(answer)
        return f": none of its parts has the shape of the images{f'; it has {there}' if there else ''}"
    if names := _lacking(reason):
        words = ", ".join(f"{name}=..." for name in names)
        return f"; say how it is called: {written_call(f'model(x, {words})', prefix, network)}"
    if NORMED in reason:
        return "; in eval mode it must treat each image on its own, without statistics of the batch"
    if "mat1 and mat2" in reason:
        way = "are these images of the size that it was made for (resize_to), and in its layout (channels_last, flat)?"
        return f"; {way}"
    if "to have 3 channels, but got 1 " in reason:
        way = written_call("model(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)", prefix, network)
        return f"; it takes images in colour: give it grey ones as such: {way}"
    if "to have 1 channels, but got 3 " in reason:
        return f"; it takes grey images: {'read them in mode L' if prefix else 'give images.mean(1, keepdim=True)'}"
    if "channels" in reason:
        return "; are these images in its layout (channels_first, channels_last), and in grey or in colour, as it is?"
    return ""


def written_call(text: str, prefix: str, network: Any) -> str:
    """How `network` is called, `text`, as it is typed: in Python an argument, for the command line a function."""
    call = f"call=lambda model, x: {text}"
    made = f"{type(network).__name__}(...)" if isinstance(network, nn.Module) else getattr(network, "__name__", "...")
    return f"{prefix}target=MODULE.net, of def net(): return memorization.adapted({made}, {call})" if prefix else call


def _written(description: Any, prefix: str, network: Any) -> str:
    """A description as it is typed."""
    words = []
    for name, value in description.items():
        if name == "call":
            words.append(written_call(value.text, prefix, network))
        else:
            bare = prefix or str(value).isdecimal()
            words.append(f"{prefix}{name}={value if bare else json.dumps(value)}")
    return (" " if prefix else ", ").join(words)
