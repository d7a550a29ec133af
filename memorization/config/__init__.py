"""The typed configuration and its groups."""
