"""Weights & Biases: the runs, and dashboards of them."""
