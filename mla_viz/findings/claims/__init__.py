"""Popular claims, recomputed: what may be changed, the rule of each, the verdict."""
