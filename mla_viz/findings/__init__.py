"""What was found out: losses of trained models, the worked example, popular claims judged."""
