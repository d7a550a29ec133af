"""Autoencoders of other people: what they are made of, what they must do, and how they are adapted."""
