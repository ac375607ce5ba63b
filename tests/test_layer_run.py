"""One layer of a checkpoint alone: a run for the player, its command, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import mla_viz
from mla_viz.cli import main
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.player.payload import pack_rest, pack_run
from mla_viz.run.inside import GAPS
from mla_viz.run.layer import MOST_TOKENS, read_hidden, seeded_hidden
from mla_viz.run.trace import DIFFERENCES
from tests.checkpoints import YARN, attended, tiny_model

SEQ = 11


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A layer, the hidden states that it got in its model, its output there, and its folder."""
    model, folder = tiny_model("deepseek_v3", YARN), tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    hidden, out = attended(model, 1, SEQ)
    return mla_viz.load_attention(folder, 1), hidden, out, folder


@pytest.mark.parametrize("right", MLA_MECHANISMS)
def test_a_run_holds_what_the_layers_trace_and_transformers_compute(tiny, right):
    layer, hidden, out, _ = tiny
    run = layer.run(hidden, "recompute", right, "of a model")
    trace = layer.trace(hidden, right)
    assert (run.n_steps, run.prompt_len, run.n_layers) == (SEQ, SEQ, 1)
    for step in range(SEQ):
        for rows, seen in ((run.right.scores, trace.scores), (run.right.probs, trace.probs)):
            np.testing.assert_allclose(rows.row(step)[0], seen[step], atol=2e-5)
    np.testing.assert_allclose(run.right.vectors.out[:, 0], out, atol=1e-4)
    assert run.right.cache_bytes[-1] == trace.cache_bytes
    assert run.right.cache_bytes[-1] == SEQ * run.right.cache_elems * 4
    assert run.max_abs_diff < 1e-4
    assert (run.max_abs_diff == 0) == (right == "recompute")
    alone, note = run.notes
    assert alone == "One layer alone, deepseek_v3 layer 1, counted from 0: no token is chosen."
    assert note == "of a model"


def test_the_inside_of_a_step_agrees_and_its_scores_follow_from_its_keys(tiny):
    layer, hidden, _, _ = tiny
    run = layer.run(hidden)
    inside, scale = run.inside(7, 0, 2), layer.geometry.softmax_scale
    for lane in (inside.left, inside.right):
        q = lane.q if lane.q_latent is None else lane.q_latent
        np.testing.assert_allclose(lane.keys @ q * scale, inside.left.scores, atol=1e-4)
    np.testing.assert_allclose(inside.left.x, hidden[7])


def test_no_token_is_chosen_and_no_logits_are_compared(tiny):
    layer, hidden, _, _ = tiny
    run = layer.run(hidden)
    assert not run.chooses
    assert run.left.candidates(3) == []
    assert (run.differences[:, DIFFERENCES.index("logits")] == 0).all()
    assert (run.differences[:, DIFFERENCES.index("scores")] > 0).any()
    assert set(vars(run.gaps)) == set(GAPS)


def test_it_is_saved_loaded_and_packed_like_any_run(tiny, tmp_path):
    layer, hidden, _, _ = tiny
    run = layer.run(hidden)
    run.save(tmp_path / "run.safetensors")
    assert mla_viz.load_run(tmp_path / "run.safetensors") == run
    assert pack_rest(run, 0)[4:] and pack_run(run)
    run.save_html(tmp_path / "run.html")
    assert "mla-viz: deepseek_v3 layer 1" in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_random_hidden_states_are_of_variance_one_and_follow_the_seed(tiny):
    layer = tiny[0]
    one = seeded_hidden(layer, 200, 3)
    assert one.shape == (200, layer.geometry.d_model)
    assert one.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(one, seeded_hidden(layer, 200, 3))
    assert not torch.equal(one, seeded_hidden(layer, 200, 4))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_every_dtype(tiny, dtype):
    run = mla_viz.load_attention(tiny[3], 1, dtype).run(tiny[1])
    assert run.dtype == dtype
    assert 0 < run.max_abs_diff < (0.5 if dtype == "bfloat16" else 1e-12)


# The command


def test_the_command_prints_the_run_and_writes_it(tiny, capsys, tmp_path):
    folder = str(tiny[3])
    files = ["--html", str(tmp_path / "a.html"), "--save", str(tmp_path / "a.safetensors")]
    main(["layer", folder, "--layer", "1", "--tokens", "5", "--seed", "2", "--json", *files])
    record = json.loads(capsys.readouterr().out)
    run = mla_viz.load_run(tmp_path / "a.safetensors")
    assert record["max_abs_diff"] == run.max_abs_diff
    assert len(record["steps"]) == run.n_steps == 5
    assert record["steps"][2]["max_abs_diff"]["logits"] is None
    assert record["notes"][1] == "Hidden states are random, of variance 1, seed 2."
    np.testing.assert_array_equal(run.left.vectors.x[:, 0], seeded_hidden(tiny[0], 5, 2))
    assert (tmp_path / "a.html").stat().st_size > 100_000
    main(["layer", folder, "--tokens", "5"])
    told = capsys.readouterr().out
    assert told.startswith("deepseek_v3 layer 0\n")
    assert "same tokens" not in told


def test_hidden_states_come_from_a_file(tiny, capsys, tmp_path):
    file = tmp_path / "h.safetensors"
    save_file({"hidden": tiny[1].to(torch.bfloat16)}, file)
    main(["layer", str(tiny[3]), "--layer", "1", "--hidden", str(file), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert len(record["steps"]) == SEQ
    assert record["notes"][1] == "Hidden states of h.safetensors."
    assert torch.equal(read_hidden(file), tiny[1].to(torch.bfloat16).float())


WRONG = {
    "layer: expected a whole number from 0 to 1, got 2": ["--layer", "2"],
    f"tokens: expected a whole number from 1 to {MOST_TOKENS}, got 0": ["--tokens", "0"],
    "left: expected one of mla_expanded": ["--left", "mha"],
    "right: expected one of mla_expanded": ["--right", "x"],
    "hidden: expected safetensors with it, got ": ["--hidden", "none.safetensors"],
    "dtype: expected one of": ["--dtype", "int8"],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_not_legal_gets_one_line_and_status_2(tiny, capsys, message):
    with pytest.raises(SystemExit) as left:
        main(["layer", str(tiny[3]), *WRONG[message]])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mla_viz: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(2, 32)}, "hidden: expected safetensors with it, got "),
        ({"hidden": torch.zeros(2, 32, dtype=torch.int64)}, "hidden: expected safetensors with it"),
        ({"hidden": torch.zeros(2, 31)}, "hidden: expected [seq, 32], got [2, 31]"),
        (
            {"hidden": torch.full((2, 32), torch.inf)},
            "hidden: expected finite numbers of torch.float32",
        ),
    ],
)
def test_a_file_of_other_hidden_states_is_refused(tiny, capsys, tmp_path, tensors, message):
    save_file(tensors, tmp_path / "h.safetensors")
    with pytest.raises(SystemExit):
        main(["layer", str(tiny[3]), "--hidden", str(tmp_path / "h.safetensors")])
    assert capsys.readouterr().err.startswith(f"mla_viz: {message}")
