"""The decoder language model around any mechanism, its tokenizer, and where weights come from."""
