"""Autoencoders of other people: what they are made of, what they must do, and how they are adapted."""


def first_line(error: BaseException) -> str:
    """What an error of the user's code says first, with its kind where that says more."""
    text = str(error).strip().split("\n")[0]
    plain = text and isinstance(error, RuntimeError | TypeError)
    return text if plain else f"{type(error).__name__}: {text}".strip(": ")
