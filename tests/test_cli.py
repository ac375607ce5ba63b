import json

import pytest

import mla_viz
from mla_viz.cli import main, run_record

SMALL = ["decode", "Once upon a time", "--source", "synthetic", "--max-new-tokens", "3"]


def refusal(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def test_decode_prints_one_object_and_nothing_else(capsys):
    main([*SMALL, "--heads", "4", "--latent", "8", "--json"])
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert err == ""
    assert record["prompt"] == "Once upon a time"
    assert [t["source"] for t in record["tokens"]].count("generated") == 3
    assert record["model"]["kv_lora_rank"] == 8
    assert record["left"]["cache_elems_per_token_per_layer"] == 4 * 80
    assert record["right"]["cache_bytes"] == len(record["steps"]) * 5 * 24 * 4
    assert set(record["steps"][0]["max_abs_diff"]) == {"scores", "probs", "out", "logits"}
    text, probability = record["steps"][0]["top"]["left"][0]
    assert isinstance(text, str)
    assert 0 < probability <= 1
    assert record["max_abs_diff"] < 1e-3
    assert record["same_tokens"] is True


def test_command_line_and_python_give_the_same_record(capsys):
    main([*SMALL, "--seed", "5", "--json"])
    printed = json.loads(capsys.readouterr().out)
    run = mla_viz.decode("Once upon a time", source="synthetic", max_new_tokens=3, seed=5)
    own = json.loads(json.dumps(run_record(run)))
    for record in (printed, own):
        for side in ("left", "right"):
            for step in record[side]["steps"]:
                step.pop("time_us")
    assert printed == own


def test_different_models_have_null_differences(capsys):
    main([*SMALL, "--right", "gqa", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["max_abs_diff"] is None
    assert record["steps"][0]["max_abs_diff"]["logits"] is None


def test_words_for_people_name_both_sides(capsys):
    main(SMALL)
    out = capsys.readouterr().out
    assert "mla_expanded" in out
    assert "mla_absorbed" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--heads", "0"], "heads: expected a whole number from 1"),
        (["--latent", "0"], "latent: expected a whole number from 1"),
        (["--heads", "two"], "invalid int value: 'two'"),
        (["--qk-rope-head-dim", "5"], "qk_rope_head_dim: expected an even number"),
        (["--left", "magic"], "left: expected one of mla_expanded"),
        (["--temperature", "nan"], "temperature: expected a number"),
        (["--dtype", "float8"], "dtype: expected one of float64"),
        (["--device", "cuda:99"], "device: expected one that is there"),
        (["--device", "abacus"], "device: expected auto, cpu"),
        (["--heads", "1024", "--latent", "65536"], "free memory"),
        (["--nonsense"], "unrecognized arguments"),
    ],
)
def test_bad_options_get_one_line(arguments, words, capsys):
    assert words in refusal([*SMALL, *arguments], capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["decode", ""], "prompt: expected some text"),
        (["decode", "word " * 9000, "--source", "synthetic"], "prompt: expected at most 8191"),
        (["evaluate", "--text", "/no/such/file"], "text: expected a readable UTF-8 file"),
        (
            ["evaluate", "--text", "x", "--mechanism", "mha"],
            "mechanism: expected one of mla_expanded",
        ),
        (["evaluate", "--text", "x", "--source", "gpt"], "source: expected one of trained"),
        ([], "required: command"),
        (["paint"], "invalid choice: 'paint'"),
    ],
)
def test_bad_commands_get_one_line(arguments, words, capsys):
    assert words in refusal(arguments, capsys)
