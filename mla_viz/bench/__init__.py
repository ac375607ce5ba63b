"""What is measured by the clock."""
