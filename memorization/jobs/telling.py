"""What is said of a training before it begins and once it has ended, a line each."""

from collections.abc import Iterator

from memorization.components import Record
from memorization.data import Split
from memorization.engine.history import History
from memorization.engine.settings import Training

NAMED = 5  # skipped images that a note lists


def beginning(begun: str, images: str, split: Split, facts: Record) -> Iterator[str]:
    """Of a training on `images` (in words, none if empty) of `split`, of which `facts` are known already."""
    shape, parameters = "x".join(map(str, split.shape)), f"{facts['parameters']:,} parameters"
    if not images:
        yield f"{begun}: images of {shape}, none given, {parameters}"
        return
    yield (
        f"{begun}: {images}, each {shape}; "
        f"{parameters} ({facts['parameters_per_pixel']:.1f} a pixel of the training set)"
    )
    if any(split.left_out.values()):
        yield f"note: {left_out(split)}"
    yield from (f"note: {note}" for note in split.notes)


def out_of_reach(least: float, count: int) -> str:
    """Of an autoencoder of `count` images whose width allows no train loss below `least`."""
    return (
        f"note: no weights of this width bring the train loss below {least:.1e}, as the last layer is linear; "
        f"to go lower, set architecture.width to {count} or more"
    )


def end(settings: Training, history: History) -> Iterator[str]:
    """Of a training that is through."""
    if history.loss > settings.target_loss:
        yield (
            f"note: the training ended at its budget of {settings.max_steps} steps with a loss of "
            f"{history.loss:.2e}, above training.target_loss={settings.target_loss:g}; "
            "raise training.max_steps to go lower"
        )
    if settings.privacy_noise:
        yield (
            "note: epsilon counts the steps. The train loss is not private, and it decides when to stop and which "
            "weights are kept; and whoever knows the seed can take the noise away"
        )
    elif settings.clip:
        yield "note: gradients are cut, and without noise there is no epsilon; set training.privacy_noise for one"
    if not history.rungs:
        yield (
            f"note: no rung of training.ladder was reached (the highest is {settings.rungs[0]:g}): no weights "
            "are kept, and nothing can be recovered"
        )


def left_out(split: Split) -> str:
    """What the draw of the images left out; `done.json` names all."""
    few = "; ".join(split.skipped[:NAMED]) + ("; …" if len(split.skipped) > NAMED else "")
    left = [f"{_counted(len(split.skipped), 'unusable image')} ({few})"] if split.skipped else []
    left += [_counted(split.exact_duplicates, "exact duplicate")] if split.exact_duplicates else []
    left += [f"{_counted(split.near_duplicates, 'near duplicate')} of members"] if split.near_duplicates else []
    return f"left out {', '.join(left)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
