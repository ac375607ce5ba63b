"""Attention mechanisms as pure functions on tensors. Knows no model, no trace and no screen."""
