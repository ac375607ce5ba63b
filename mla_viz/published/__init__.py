"""What others published, each figure with its source."""
