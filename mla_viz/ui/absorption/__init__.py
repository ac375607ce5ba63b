"""The Absorption page's parts: dims to count with, stages, and the algebra behind them."""
