"""What serves a crowd: worker processes, the queue before them, and what they made."""
