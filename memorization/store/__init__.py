"""The run store: files, signatures, locks, and finished runs read back."""
