"""What every mechanism is, told without tensors: names, cached segments, ledger, colour."""
