"""Entry of `python -m mla_viz.bench`."""

from mla_viz.bench.engine import main

main()
