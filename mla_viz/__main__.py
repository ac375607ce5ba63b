"""Entry of `python -m mla_viz`."""

from mla_viz.cli import main

main()
