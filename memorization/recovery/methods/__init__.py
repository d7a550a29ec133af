"""The recovery methods, one file each."""
