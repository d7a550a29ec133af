"""How much of its training data does an autoencoder hold? See the README."""

from memorization.audit import audit
from memorization.runs import load_results, load_run

__all__ = ["audit", "load_results", "load_run"]
