"""The line that says where absorbing costs nothing: where it stands, and where its click leads."""

from itertools import product

import pytest

from mla_viz.config import MLAGeometry
from mla_viz.cost import operations
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.run.settings import Settings
from mla_viz.ui.decode.trade import trade, trade_words
from tests.screens import section


def flops(mechanism, g, tokens):
    return sum(op.flops for op in operations(mechanism, g, tokens, 4))


@pytest.mark.parametrize("latent", [8, 16, 32, 33, 64])
@pytest.mark.parametrize(("left", "right"), list(product(MLA_MECHANISMS, repeat=2)))
def test_it_is_said_exactly_where_each_token_costs_the_same_and_caches_differ(left, right, latent):
    g = MLAGeometry(128, 8, 32, 16, 32, latent)
    grown = [flops(side, g, 40) - flops(side, g, 39) for side in (left, right)]
    kinds = {"mla_expanded": "heads", "recompute": "none"}
    differ = kinds.get(left, "latent") != kinds.get(right, "latent")
    assert (trade_words(g, left, right) is not None) == (grown[0] == grown[1] and differ)


def shown(**settings):
    return section(trade, Settings(**settings))


def test_the_example_says_it_and_one_click_doubles_the_latent_dim():
    app = shown()
    assert "a latent of 32 is as wide as a head" in app.caption[0].value
    assert "512 beside heads of 128" in app.caption[0].value
    (button,) = app.button
    assert button.label == "Latent dim 64"
    assert button.click().run().session_state.latent == 64


@pytest.mark.parametrize(
    "settings", [{"latent": 64}, {"left": "mha"}, {"left": "mla_reexpand"}, {"latent": 31}]
)
def test_elsewhere_nothing_is_said(settings):
    app = shown(**settings)
    assert not app.caption
    assert not app.button
