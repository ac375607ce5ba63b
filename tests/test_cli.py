import json
import sys
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import mla_viz
from mla_viz import cli
from mla_viz.cli import main, quality_record, run_record
from mla_viz.config import MLAGeometry
from mla_viz.findings.scores import Score
from mla_viz.run.settings import Settings
from mla_viz.run.trace import AttentionRows, CacheCells, Run, Side, Token
from tests import golden
from tests.test_family import FAMILY, MHA, MLA, made

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


def side(mechanism, cache_bytes, time_us, top_text, cache_dtype=None):
    no_rows = AttentionRows([], 2, 2)
    return Side(
        mechanism=mechanism,
        geometry=MLAGeometry(8, 2, 2, 2, 2, 4),
        n_layers=2,
        elem_bytes=4,
        cache_bytes=np.array(cache_bytes),
        allocated_bytes=np.array([7777, 7777]),
        working_bytes=np.array([5555, 5555]),
        time_us=np.array(time_us),
        top_text=top_text,
        top_probs=np.array([[0.75, 0.25], [0.5, 0.125]]),
        scores=no_rows,
        probs=no_rows,
        cells=CacheCells(np.zeros((2, 2)), np.zeros((2, 0, 6), np.uint8), 1),
        vectors=golden.mla_vectors(MLAGeometry(8, 2, 2, 2, 2, 4), [], 2, 2, absorbed=False),
        cache_dtype=cache_dtype,
    )


RUN = Run(
    prompt="Hi",
    text=" you",
    tokens=(
        Token(0, "<|endoftext|>", 0, "prompt"),
        Token(5, "Hi", 1, "prompt"),
        Token(9, " you", 2, "generated"),
    ),
    model={"name": "toy", "kv_lora_rank": 4},
    n_layers=2,
    source="synthetic",
    dtype="float32",
    device="cpu",
    temperature=0.7,
    top_k=3,
    left=side("mla_expanded", [96, 192], [[100.0, 50.0], [20.0, 30.0]], (("a", "b"), ("c", "d"))),
    right=side(
        "mla_absorbed", [48, 960], [[1.0, 2.0], [3.0, 4.5]], (("e", "f"), ("g", "h")), "int8"
    ),
    differences=np.array([[1e-7, 2e-7, 3e-7, 4e-7], [8e-7, 5e-7, 6e-7, 7e-7]]),
    gaps=None,
    same_tokens=True,
    notes=("first note", "second note"),
)
# FLOPs of a layer at the t-th token: query, latent, what is rebuilt or moved, score and context,
# output; two layers.
FIXED_FLOPS = 2 * 8 * 2 * (2 + 2) + 2 * 8 * (4 + 2) + 2 * 4 * 2 * (2 + 2) + 2 * 2 * 2 * 8


def expanded_flops(t):
    return 2 * (FIXED_FLOPS + 2 * 2 * (2 + 2) * t + 2 * 2 * 2 * t)


def absorbed_flops(t):
    return 2 * (FIXED_FLOPS + 2 * 2 * (4 + 2) * t + 2 * 2 * 4 * t)


RECORD = {
    "prompt": "Hi",
    "text": " you",
    "tokens": [
        {"id": 0, "text": "<|endoftext|>", "pos": 0, "source": "prompt"},
        {"id": 5, "text": "Hi", "pos": 1, "source": "prompt"},
        {"id": 9, "text": " you", "pos": 2, "source": "generated"},
    ],
    "model": {
        "name": "toy",
        "kv_lora_rank": 4,
        "source": "synthetic",
        "dtype": "float32",
        "device": "cpu",
    },
    "left": {
        "mechanism": "mla_expanded",
        "cache_elems_per_token_per_layer": 2 * (2 + 2 + 2),
        "ranks": None,
        "cache_dtype": None,
        "cache_bytes": 192,
        "steps": [
            {"pos": 0, "cache_bytes": 96, "flops": expanded_flops(1), "time_us": 150.0},
            {"pos": 1, "cache_bytes": 192, "flops": expanded_flops(2), "time_us": 50.0},
        ],
    },
    "right": {
        "mechanism": "mla_absorbed",
        "cache_elems_per_token_per_layer": 4 + 2,
        "ranks": None,
        "cache_dtype": "int8",
        "cache_bytes": 960,
        "steps": [
            {"pos": 0, "cache_bytes": 48, "flops": absorbed_flops(1), "time_us": 3.0},
            {"pos": 1, "cache_bytes": 960, "flops": absorbed_flops(2), "time_us": 7.5},
        ],
    },
    "steps": [
        {
            "pos": 0,
            "max_abs_diff": {"scores": 1e-7, "probs": 2e-7, "out": 3e-7, "logits": 4e-7},
            "top": {"left": [["a", 0.75], ["b", 0.25]], "right": [["e", 0.75], ["f", 0.25]]},
        },
        {
            "pos": 1,
            "max_abs_diff": {"scores": 8e-7, "probs": 5e-7, "out": 6e-7, "logits": 7e-7},
            "top": {"left": [["c", 0.5], ["d", 0.125]], "right": [["g", 0.5], ["h", 0.125]]},
        },
    ],
    "max_abs_diff": 8e-7,
    "same_tokens": True,
    "notes": ["first note", "second note"],
}


@pytest.fixture
def asked(monkeypatch):
    """What the commands ask of the engine, which answers with hand-made records."""
    calls = []

    def decoded(settings):
        calls.append(settings)
        return RUN

    def evaluated(**arguments):
        calls.append(arguments)
        if arguments["on_story"]:
            arguments["on_story"](1, 2)
            arguments["on_story"](2, 2)
        return Score(2.0725, 0.8254, 58_602, 1.4, 2.4, 960.0)

    monkeypatch.setattr(cli, "decode", decoded)
    monkeypatch.setattr(cli, "evaluate", evaluated)
    return calls


def test_a_run_is_printed_as_one_object_with_every_field(capsys, asked):
    main(["decode", "Hi", "--json"])
    out, err = capsys.readouterr()
    assert json.dumps(json.loads(out)) == json.dumps(RECORD)
    assert (asked, err) == ([Settings("Hi")], "")


def test_different_models_have_null_differences():
    record = json.loads(json.dumps(run_record(replace(RUN, differences=None))))
    none = dict.fromkeys(("scores", "probs", "out", "logits"))
    assert [step["max_abs_diff"] for step in record["steps"]] == [none, none]
    assert record["max_abs_diff"] is None


def test_words_for_people_have_the_same_numbers(capsys, asked, monkeypatch):
    main(["decode", "Hi"])
    assert capsys.readouterr().out.splitlines() == [
        "Hi| you",
        "mla_expanded  caches 12 values a token and layer, 192 bytes after 2 tokens;"
        " attention 0.2 ms in all, measured once",
        "mla_absorbed  caches 6 values a token and layer in int8, 960 bytes after 2 tokens;"
        " attention 0.0 ms in all, measured once",
        "largest difference: 8.0e-07 (float32); same tokens: True",
        "first note",
        "second note",
    ]
    assert asked == [Settings("Hi")]
    monkeypatch.setattr(cli, "decode", lambda _: replace(RUN, differences=None))
    main(["decode", "Hi"])
    assert "largest difference: different models (float32)" in capsys.readouterr().out


CHOSEN = {
    "source": "synthetic",
    "heads": 3,
    "latent": 7,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 4,
    "v_head_dim": 14,
    "q_lora_rank": 20,
    "layers": 2,
    "left": "mla_merged",
    "right": "recompute",
    "max_new_tokens": 5,
    "temperature": 0.25,
    "top_k": 9,
    "seed": 11,
    "dtype": "float64",
    "device": "cpu",
    "cache_dtype": "fp8_all",
    "ranks": "each",
}


def test_every_setting_has_an_option_of_its_name_and_type(asked):
    options = [(f"--{name.replace('_', '-')}", str(value)) for name, value in CHOSEN.items()]
    main(["decode", "Hi", *[text for option in options for text in option]])
    assert asked == [Settings("Hi", **CHOSEN)]
    assert {"prompt", *CHOSEN} == {field.name for field in fields(Settings)}


def help_of(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_tells_every_default(capsys):
    printed = help_of("decode", capsys)
    assert printed.startswith("usage: python -m mla_viz decode")
    for option, default in (
        ("source", "'trained'"),
        ("heads", "the source's own"),
        ("latent", "the source's own"),
        ("q-lora-rank", "the source's own"),
        ("layers", "the source's own"),
        ("left", "the source's own"),
        ("max-new-tokens", "48"),
        ("temperature", "0.7"),
        ("top-k", "40"),
        ("seed", "0"),
        ("dtype", "'float32'"),
        ("device", "'auto'"),
    ):
        name = option.replace("-", "_").upper()
        assert f"--{option} {name} default: {default}" in printed
    for command in ("evaluate", "quality", "claims"):
        assert "--json one JSON" in help_of(command, capsys)


def test_a_prompt_is_read_as_utf_8_in_any_locale(asked):
    """Where the locale knows ASCII alone, Python has a lone surrogate for every other byte."""
    main(["decode", "Märchen 🦊".encode().decode("ascii", "surrogateescape")])
    assert asked == [Settings("Märchen 🦊")]


def test_help_that_cannot_be_written_is_an_error(monkeypatch):
    class Full(StringIO):
        def write(self, _):
            raise OSError("full")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="full"):
        main(["--help"])


def test_evaluate_asks_for_what_its_options_say(capsys, asked):
    main(["evaluate", "--text", "a.txt"])
    out, err = capsys.readouterr()
    said = "2.0725 nats/token, 0.8254 bits/byte over 58,602 tokens; 960 bytes cached a token"
    assert (out, err) == (f"{said}, all layers\n", "")
    chosen = {
        "source": "mla-8",
        "heads": 3,
        "latent": 7,
        "mechanism": "mla_merged",
        "dtype": "float64",
        "device": "cpu",
        "cache_dtype": "int8",
    }
    options = [
        text
        for name, value in chosen.items()
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    main(["evaluate", "--text", "b.txt", *options, "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "nats_per_token": 2.0725,
        "bits_per_byte": 0.8254,
        "tokens": 58_602,
        "repeated": 1.4,
        "novel": 2.4,
        "cache_bytes_per_token": 960.0,
    }
    nothing = {"source": "trained", "dtype": "float32", "device": "auto"}
    nothing = dict.fromkeys(chosen) | nothing
    assert asked == [
        {"text": Path("a.txt"), **nothing, "on_story": None},
        {"text": Path("b.txt"), **chosen, "on_story": None},
    ]


def test_evaluate_counts_stories_before_people_alone(capsys, asked, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["evaluate", "--text", "a.txt"])
    assert capsys.readouterr().err == "\rstory 1 of 2\rstory 2 of 2\n"
    assert len(asked) == 1


def test_the_family_is_one_object_with_every_field(data_folder):
    (data_folder / "family").mkdir()
    (data_folder / "family" / "mla-8.safetensors").touch()
    one_seed = made("mha", "MHA", 2.0)
    record = quality_record(replace(FAMILY, members=(one_seed, MLA)))
    spread = 0.1 / 2**0.5
    layer = 32 * 4 * 12 + 32 * 12 + 8 + 8 * 4 * 16 + 4 * 8 * 32 + 3 * 32 * 24 + 2 * 32
    flops = 32 * 4 * 12 + 32 * 12 + 2 * 4 * 8 * 8 + 64 * 4 * (12 + 8) + 4 * 8 * 32 + 3 * 32 * 24
    mha, mla = record["models"]
    assert (record["tokens"], record["stories"], len(record)) == (8_000_000, 250, 6)
    assert record["name_recall_chance"] == 0.1
    assert (record["text_tokens"], record["passes"]) == (1_500_000, 8 / 1.5)
    assert mla.pop("geometry") == MLA.geometry.describe()
    assert flat(mla) == pytest.approx(
        {
            "params": 2048 * 32 + 2 * layer + 32,
            "cache_elems_per_token_per_layer": 12,
            "flops_last_token": 2 * (2 * flops + 32 * 2048),
            "seeds": 2,
            "nats_per_token.mean": 2.45,
            "nats_per_token.std": spread,
            "bits_per_byte": 2.45 / 4,
            "repeated": 1.96,
            "novel": 2.94,
            "name_recall": 0.245,
            "name_recall_std_error": 0.1,
            "head_likeness.content_keys": 2.45 / 5,
            "head_likeness.values": 2.45 / 8,
            "shipped": True,
        }
    )
    assert (mla["name"], mla["mechanism"]) == ("mla-8", "mla_absorbed")
    assert (mha["name"], mha["mechanism"], mha["shipped"]) == ("mha", "mha", False)
    assert mha["geometry"] == one_seed.geometry.describe()
    assert (mha["seeds"], mha["nats_per_token"]) == (1, {"mean": 2.0, "std": None})


def flat(record):
    """Numbers of a nested record by their path."""
    numbers = {}
    for name, value in record.items():
        if isinstance(value, dict):
            numbers |= {f"{name}.{inner}": x for inner, x in flat(value).items()}
        elif not isinstance(value, str):
            numbers[name] = value
    return numbers


def test_the_family_for_people_and_for_programs(capsys, monkeypatch):
    shown = replace(FAMILY, members=(replace(MHA, runs=MHA.runs[:1]), MLA))
    monkeypatch.setattr(cli, "load_family", lambda: shown)
    main(["quality"])
    assert capsys.readouterr().out.splitlines() == [
        "model            cached nats/token    std seeds",
        "MHA                  64      2.000      -     1",
        "MLA-8                12      2.450  0.071     2",
    ]
    main(["quality", "--json"])
    assert json.loads(capsys.readouterr().out) == quality_record(shown)


def test_command_line_and_python_give_the_same_record(capsys):
    main([*SMALL, "--seed", "5", "--json"])
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert err == ""
    run = mla_viz.decode("Once upon a time", source="synthetic", max_new_tokens=3, seed=5)
    own = json.loads(json.dumps(run_record(run)))
    for record in (printed, own):
        for side in ("left", "right"):
            for step in record[side]["steps"]:
                step.pop("time_us")
    assert printed == own


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
        (["--device", "cuda:99"], "device: expected one of auto, cpu"),
        (["--device", "abacus"], "device: expected one of auto, cpu"),
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
        (["decode", "Once \udcff"], r"prompt: expected text in UTF-8, got 'Once \udcff'"),
        (["decode", "Hi", "--source", "\udcff"], "source: expected text in UTF-8"),
        (["decode", "Hi", "--heads", "9" * 5000], "invalid int value: ..."),
        (["claims", "--set", f"context={'9' * 5000}"], "context: expected a whole number, got '99"),
        (["evaluate", "--text", "/dev/zero"], "text: expected a readable UTF-8 file"),
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
