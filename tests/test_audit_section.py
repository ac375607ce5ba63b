"""The Memory page's section for what an engine reports, without a browser."""

import pytest

from mla_viz.findings.audit import audit
from mla_viz.published.catalog import cached_model
from mla_viz.ui.memory.asked import Asked
from mla_viz.ui.memory.audit import EXAMPLE, audit_section
from tests.screens import page, said, section, tables

pytestmark = [pytest.mark.usefixtures("shipped"), pytest.mark.filterwarnings("default")]

SGLANG = "[TP0] KV Cache is allocated. #tokens: 383872, KV size: 19.36 GB"
V3 = Asked({"DeepSeek-V3": cached_model("DeepSeek-V3")})


def written(app, text):
    app.text_area(key="report").set_value(text).run()
    assert not app.exception
    return app


def test_it_waits_for_a_report_and_the_example_fills_it_in():
    app = section(audit_section, V3, {})
    assert not app.exception
    assert tables(app) == []
    app.button[0].click().run()
    assert app.text_area(key="report").value == EXAMPLE["report"]
    found = audit(EXAMPLE["audit_model"], EXAMPLE["report"])
    assert said(app)[0] == f"**{found.verdict}**"
    assert "expanded K and V" in found.verdict
    parts, causes = tables(app)
    assert [row["part"] for row in parts] == [
        "latent",
        "rope key",
        "K, as printed",
        "V, as printed",
        "fixed",
        "all of it, 2,048 tokens",
    ]
    assert parts[-1]["measured a token"] == "276 kB"
    assert (causes[0]["cause"], causes[0]["times the expected"]) == ("expanded K and V", "8.89")
    assert "27 x 6,144 bytes of keys (16 x 192)" in said(app)[1]


def test_what_cannot_be_read_is_said_and_the_last_good_result_stays():
    app = section(audit_section, V3, {}, audit_model="GLM-4.7-Flash")
    written(app, SGLANG)
    good = tables(app)
    assert said(app)[0].startswith("**It is what it should be")
    written(app, "a large cache")
    assert app.error[0].value.startswith("reported: expected lines of vLLM")
    assert "GLM-4.7-Flash" in app.caption[1].value
    assert tables(app) == good
    fresh = written(section(audit_section, V3, {}), "a large cache")
    assert len(fresh.error) == 1
    assert tables(fresh) == []


def test_the_address_holds_what_tells_and_restores_it():
    app = section(audit_section, V3, {}, audit_model="GLM-4.7-Flash")
    written(app, "Load weight end.\n" * 500 + SGLANG)
    assert app.query_params["report"] == SGLANG
    again = section(audit_section, V3, {}, audit_model="GLM-4.7-Flash", report=SGLANG)
    assert tables(again) == tables(app)
    written(app, "")
    assert "report" not in app.query_params


def test_ranks_and_the_sidebar_s_numbers_reach_the_audit():
    text = "70272000 B @ 1000"
    asked = Asked(V3.models, batch=8, cache_dtype="fp8", page=64)
    app = section(audit_section, asked, {}, audit_tp=8, report=text)
    found = audit("DeepSeek-V3", text, "fp8", 8, 64, 8)
    assert said(app)[0] == f"**{found.verdict}**"
    app.number_input(key="audit_tp").set_value(0.0).run()
    assert app.error[0].value.startswith("ranks: expected a whole number from 1")


def test_what_can_be_taken_along():
    app = section(audit_section, V3, {}, report="4997120 B @ 1")
    buttons = {each.proto.label: each for each in app.get("download_button")}
    assert set(buttons) == {"Causes as CSV", "All of it as JSON"}


def test_it_is_a_tab_of_the_memory_page():
    app = page("pages/memory.py", part="Why is mine larger?", report="4997120 B @ 1")
    assert not app.exception
    assert any("71.11 times the expected bytes" in text for text in said(app))
