"""The files of configuration of this package."""
