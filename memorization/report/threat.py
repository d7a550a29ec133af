"""What each method may use: its access to the autoencoder, what it knows, and the bank of images that it recalls."""

import sys
from typing import Any

from markupsafe import Markup

from memorization.extraction import TO_RECALL
from memorization.recovery import METHODS, OPERATORS, Tries
from memorization.report.findings import Findings


def threat_models(findings: Findings) -> dict[str, dict[str, str]]:
    """What each method is, its access to the autoencoder, and what it knows."""
    cards, used = {}, {cell.recovery for cell in findings.cells}
    for name, method in METHODS.items():
        if name in used:
            text = code(sys.modules[method.__module__].__doc__)
            cards[name] = {"text": text, "access": method.access, "knows": code(method.knows)}
    return cards


def code(text: str | None) -> Markup:
    """The first paragraph of a text in one line, with its `quoted` parts as code."""
    parts = " ".join((text or "").split("\n\n")[0].split()).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def bank(config: dict[str, Any], loss: float) -> str:
    """The bank that a recovery recalls images from at a train loss; empty if it recalls none.

    config: that of its run. One of older code says nothing of recall, and had none.
    """
    method, operator = METHODS.get(config["recovery"]["name"]), OPERATORS.get(config["operator"]["name"])
    if not method or "recall" not in config["recovery"]:
        return ""
    starts, recall = config["recovery"]["starts"], config["recovery"]["recall"]
    return described(Tries(method(), operator() if operator else None, starts, recall).recalls(loss))


def described(recalled: int) -> str:
    """The bank in words, of which `recalled` images are tried; empty if none are."""
    made = f"made once with about {TO_RECALL.queries:,} queries of the autoencoder"
    return f"a bank of images that came out unasked, {made}; {recalled} of them are tried" if recalled else ""
