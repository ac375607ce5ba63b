"""Every page for everyone: axe's rules, headings, keyboard, phone and paper, in a real browser."""

import os

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.picture import open_painted

pytestmark = pytest.mark.filterwarnings("default")
AXE = ROOT / "mla_viz" / "player" / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .flatMap(({id, nodes}) => nodes.map(node => `${id}: ${node.html.slice(0, 160)}`))"""
PAGES = [("decode", ""), ("absorption", ""), ("quality", ""), ("claims", "")]
# What else a page may show: seen once, on a wide light screen.
OTHER_VIEWS = [
    ("decode", "?source=synthetic&qk_rope_head_dim=7&left=mha&right=gqa&quality=true"),
    ("absorption", "?before_stage=5&step_stage=8&rope_on_content=true"),
    ("quality", "?section=Likeness+of+heads"),
    ("claims", "?claim_n_heads=0"),
]


@pytest.fixture(scope="module")
def axe():
    """The rules' script, which `make lint` installs."""
    if not AXE.exists():
        message = f"axe-core is missing (npm ci --prefix {AXE.parents[2].relative_to(ROOT)})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_on_any_page(chromium, app_url, axe, width, scheme):
    context = chromium.new_context(
        viewport={"width": width, "height": 1000}, color_scheme=scheme, bypass_csp=True
    )
    page, found = context.new_page(), []
    for name, query in PAGES + (OTHER_VIEWS if (width, scheme) == (1440, "light") else []):
        open_painted(page, app_url, name, query)
        page.evaluate(axe)
        found += [f"{name}{query}: {line}" for line in page.evaluate(VIOLATIONS)]
        assert page.locator("h1").count() == 1, name
    if width == 390:
        page.get_by_test_id("stExpandSidebarButton").click()
        page.wait_for_timeout(400)  # it slides in
        found += page.evaluate(VIOLATIONS)
    context.close()
    assert not found, "\n".join(found)
