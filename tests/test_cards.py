"""The Claims page's parts: a number for every input, a card for every claim, values with units."""

import re
from dataclasses import fields, replace

import pytest

from mla_viz.findings.claims.inputs import Inputs
from mla_viz.findings.claims.judge import CONDITIONAL, RIGHT, VERDICTS, WRONG, judge
from mla_viz.ui.claims import chosen_inputs, claim_cards, value_text
from tests.screens import elements, said, section
from tests.test_claims import SMALL

CLAIM = judge(SMALL)[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "there is none"),
        (576, "576 times"),
        (7808, "7,808 times"),
        (64.0, "64 times"),
        (0, "0 times"),
        (56.889, "56.9 times"),
        (1234.56, "1,234.6 times"),
        (19.994, "19.99 times"),
        (20.04, "20.0 times"),
        (0.0043, "0.0043 times"),
        (-0.125, "−0.12 times"),
        (-20.06, "−20.1 times"),
        (-1234, "−1,234 times"),
    ],
)
def test_a_value_has_its_unit_and_three_digits_or_so(value, text):
    assert value_text(replace(CLAIM, value=value)) == text


BADGES = {
    RIGHT: ":green-badge[:material/check: right]",
    CONDITIONAL: ":orange-badge[:material/rule: right with a condition]",
    WRONG: ":red-badge[:material/close: wrong]",
}


def cards(claims):
    """What the cards of some claims say in bold, in words and in number, one after another."""
    for claim in claims:
        yield BADGES[claim.verdict]
        yield f"**“{claim.claim}”**"
        yield claim.say_instead
        yield f"### {value_text(claim)}"


def test_every_claim_has_its_card_and_groups_their_headings():
    claims = judge(SMALL)
    app = section(claim_cards, SMALL)
    assert said(app) == list(cards(claims))
    captions = [caption.value for caption in app.caption]
    assert captions[::2] == [f"Baseline: {claim.baseline}" for claim in claims]
    assert captions[1] == (
        "2·n_heads·v_head_dim / (kv_lora_rank + qk_rope_head_dim), with n_heads 6, v_head_dim 14,"
        " kv_lora_rank 25, qk_rope_head_dim 4  \n"
        f"Source: {claims[0].source}. Id: ratio_mha_128x128"
    )
    groups = ["How much smaller", "How much faster", "Quality and parameters", "The algebra"]
    assert [heading.value for heading in app.header] == groups


def test_verdicts_are_counted_and_can_be_picked():
    claims = judge(SMALL)
    app = section(claim_cards, SMALL)
    (pills,) = app.pills
    assert not app.info
    verdicts = [claim.verdict for claim in claims]
    assert pills.options == [f"{name} ({verdicts.count(name)})" for name in VERDICTS]
    assert (pills.label, pills.value) == ("Verdicts shown", list(VERDICTS))
    pills.set_value([RIGHT, WRONG]).run()
    assert said(app) == list(cards(c for c in claims if c.verdict != CONDITIONAL))
    pills.set_value([]).run()
    assert not [*said(app), *app.header]
    assert app.info[0].value == "No claim has a verdict that is picked above."


def show_inputs(found):
    found.append(chosen_inputs())


def test_every_input_has_a_number_that_begins_at_deepseek_v3_and_is_in_the_address():
    found = []
    app = section(show_inputs, found)
    names = [field.name for field in fields(Inputs)]
    assert [number.key for number in app.number_input] == [f"claim_{name}" for name in names]
    for number, name in zip(app.number_input, names, strict=True):
        assert (number.min, number.step) == (0, 1)
        symbol = re.sub("_head_dim|_rank", "", name)  # labels call a field by its name or say it
        words = {"cache_bits": "cached element", "deployed_bits": "V2's quantised", "gpus": "GPUs"}
        words |= {"n_layers": "Layers", "n_heads": "Heads", "context": "Context, tokens"}
        assert words.get(name, symbol) in number.label
    asked = {name: getattr(SMALL, name) for name in names}
    section(show_inputs, found, **{f"claim_{name}": value for name, value in asked.items()})
    assert found == [Inputs(), SMALL]


def test_numbers_that_are_not_legal_are_refused_in_place_and_the_last_legal_ones_stay():
    found = []
    app = section(show_inputs, found, claim_n_heads=64)
    app.number_input(key="claim_qk_rope_head_dim").set_value(3).run()
    assert app.sidebar.error[0].value.startswith("qk_rope_head_dim: expected an even number")
    assert app.main.error[0].value == (
        f"{app.sidebar.error[0].value}  \nThe page goes on with RoPE dims: 64."
    )
    assert [element.type for element in elements(app.sidebar)][9:12] == [
        "number_input",
        "error",
        "number_input",
    ]
    assert found == [Inputs(n_heads=64), Inputs(n_heads=64)]
    fresh = section(show_inputs, found, claim_gpus=0)
    assert fresh.error[0].value.startswith("gpus: expected a whole number")
    assert found[-1] == Inputs()
    fraction = section(show_inputs, found, claim_n_heads=7.5)
    assert fraction.sidebar.error[0].value.startswith("n_heads: expected a whole number")
    assert fraction.sidebar.error[0].value.endswith("got 7.5")
