"""One layer's attention, read from a published checkpoint. Knows no run and no screen."""
