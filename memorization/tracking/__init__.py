"""Weights & Biases: the runs, and dashboards of them."""


def unreached(error: Exception) -> str:
    """That the server is not reached, and why: the first line of the error, or its kind if it has no text."""
    return f"W&B is not reached ({(str(error) or type(error).__name__).splitlines()[0].rstrip('.')})"
