"""How the shipped weights were made: reads a text that is never committed, writes weights."""
