"""Naive multi-head attention and absorbed multi-head latent attention, step by step."""
