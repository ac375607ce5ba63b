"""Whole models of a folder, run by our attention, against transformers' own run of them."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import mla_viz
from mla_viz.cli import main
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.sources import find_source
from tests.checkpoints import FAMILIES, PLAIN, UNTURNED, YARN, change_config, tiny_model

TOLERANCE = 1e-4
SIZE = 64
PROMPT = "abcdefg"
NEW = 6


def write_tokenizer(folder):
    """Letters as tokens of their own."""
    letters = [chr(0x21 + i) for i in range(SIZE)]
    letters[3:29] = [chr(ord("a") + i) for i in range(26)]
    vocab = {letter: i for i, letter in enumerate(dict.fromkeys(letters))}
    spare = (chr(0x100 + i) for i in range(SIZE))
    while len(vocab) < SIZE:
        vocab[next(spare)] = len(vocab)
    bpe = Tokenizer(models.BPE(vocab, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.save(str(folder / "tokenizer.json"))


def saved(folder, kind="deepseek_v3", rope=PLAIN):
    model = tiny_model(kind, rope, max_position_embeddings=64, model_max_length=64)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def greedy(model, ids, new):
    """The logits of all tokens and the likeliest continuation, as transformers has them."""
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[0]
    with torch.inference_mode():
        return model(out[None]).logits[0], out.tolist()


@pytest.mark.parametrize(
    ("kind", "rope"),
    [(k, PLAIN) for k in FAMILIES] + [(k, YARN) for k in FAMILIES if k not in UNTURNED],
)
def test_logits_and_greedy_tokens_are_those_of_transformers(tmp_path, kind, rope):
    model = saved(tmp_path, kind, rope)
    source = find_source(str(tmp_path))
    ids = source.tokenizer().encode(PROMPT)
    logits, tokens = greedy(model, ids, NEW)
    weights = source.load(source.geometry(mla_viz.Settings("x", source=str(tmp_path)).shape, ""), 0)
    for mechanism in MLA_MECHANISMS:
        decoder = weights.decoder(mechanism)
        seen = [decoder.feed(torch.tensor(ids)).logits]
        written = list(ids)
        for _ in range(NEW):
            written.append(int(seen[-1][-1].argmax()))
            fed = written if decoder.whole_prefix else written[-1:]
            seen.append(decoder.feed(torch.tensor(fed)).logits[-1:])
        gap = (torch.cat(seen) - logits).abs().max() / logits.abs().max()
        assert gap < TOLERANCE, mechanism
        assert written == tokens, mechanism


def test_a_run_of_a_folder_is_a_run_like_others(tmp_path):
    model = saved(tmp_path, rope=YARN)
    run = mla_viz.decode(PROMPT, source=str(tmp_path), temperature=0.0, max_new_tokens=NEW)
    ids = [token.id for token in run.tokens]
    assert ids == greedy(model, ids[: run.prompt_len], len(ids) - run.prompt_len)[1]
    assert run.left.mechanism == "mla_expanded"
    assert run.n_layers == 2
    assert run.max_abs_diff < 1e-4
    assert run.right.cache_bytes[-1] == 2 * run.n_steps * (16 + 8) * 4
    run.save(tmp_path / "run.safetensors")
    assert mla_viz.load_run(tmp_path / "run.safetensors") == run
    run.save_html(tmp_path / "run.html")
    assert run.left.geometry.softmax_scale != 16**-0.5
    assert f" · {run.left.geometry.softmax_scale:.4g}" in run.left.operations(3)[4].formula
    inside = run.inside(step=3, layer=1, head=2)
    np.testing.assert_allclose(inside.left.out, inside.right.out, atol=1e-4)


def test_a_label_that_transformers_does_not_know(tmp_path):
    model = saved(tmp_path)
    change_config(tmp_path, model_type="kimi_k2")
    run = mla_viz.decode(PROMPT, source=str(tmp_path), temperature=0.0, max_new_tokens=NEW)
    ids = [token.id for token in run.tokens]
    assert ids == greedy(model, ids[: run.prompt_len], len(ids) - run.prompt_len)[1]


def test_no_text_is_longer_than_a_sparse_index_leaves_whole(tmp_path):
    model = tiny_model("deepseek_v32", index_topk=8)
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    run = mla_viz.decode("abcde", source=str(tmp_path), max_new_tokens=NEW, temperature=0.0)
    assert len(run.tokens) == 8
    assert run.notes == ("6 new tokens asked, 3 fit the context of 8.",)


def test_a_cache_in_eight_bits(tmp_path):
    saved(tmp_path)
    run = mla_viz.decode(PROMPT, source=str(tmp_path), cache_dtype="int8", max_new_tokens=2)
    assert 1e-4 < run.max_abs_diff < 1
    assert run.right.cache_bytes[-1] == run.n_layers * run.n_steps * run.right.row_bytes


def test_the_command_line_decodes_a_folder_and_compares(tmp_path, capsys):
    saved(tmp_path)
    arguments = [PROMPT, "--source", str(tmp_path), "--max-new-tokens", "2", "--json", "--compare"]
    main(["decode", *arguments])
    record = json.loads(capsys.readouterr().out)
    assert record["model"]["name"] == "deepseek_v3"
    assert record["max_abs_diff"] < 1e-4


def without_transformers(_, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)


def nested(folder, _):
    """A language model within another, as Kimi-K2.5's is."""
    file = folder / "model.safetensors"
    tensors = {f"language_model.{name}": x for name, x in load_file(file).items()}
    save_file(tensors, file)
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole = {"model_type": "kimi_k25", "text_config": record}
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")


REFUSED = {
    "no transformers": (without_transformers, {}, "pip install transformers"),
    "no tokenizer": (
        lambda folder, _: (folder / "tokenizer.json").unlink(),
        {},
        "expected a tokenizer.json",
    ),
    "no class": (
        lambda folder, _: change_config(folder, architectures=None),
        {},
        "architectures: expected a class of transformers that begins DeepseekV3, got None",
    ),
    "no memory": (
        lambda _, monkeypatch: monkeypatch.setattr(
            "mla_viz.checkpoints.whole.usable_bytes", lambda _: 1000
        ),
        {},
        "source: expected a model that fits 1,000 bytes",
    ),
    "other weights": (None, {"left": "mha"}, "left: expected one of mla_expanded"),
    "other size": (None, {"heads": 3}, "n_heads: expected 4 for the trained model, got 3"),
    "no weights": (
        lambda folder, _: (folder / "model.safetensors").unlink(),
        {},
        "found neither",
    ),
    "no latent attention": (
        lambda folder, _: save_file({"x": torch.ones(1)}, folder / "model.safetensors"),
        {},
        "expected a layer with kv_a_proj_with_mqa",
    ),
    "nested": (
        nested,
        {},
        "expected all weights of DeepseekV3ForCausalLM, found no lm_head.weight",
    ),
    "long prompt": (None, {"prompt": "a" * 64}, "prompt: expected at most 63 tokens"),
    "layers of transformers": (
        lambda folder, _: change_config(folder, hidden_act="no such"),
        {},
        "expected what transformers reads",
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_folder_that_cannot_be_run_is_refused_in_one_line(tmp_path, monkeypatch, how):
    spoil, asked, message = REFUSED[how]
    saved(tmp_path)
    if spoil:
        spoil(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=message) as error:
        mla_viz.decode(**{"prompt": PROMPT, "source": str(tmp_path), **asked})
    assert "\n" not in str(error.value)


def test_a_name_that_is_neither_source_nor_folder_is_refused():
    for name in ("nowhere", "a\0b"):
        with pytest.raises(ValueError, match="source: expected one of trained"):
            mla_viz.Settings("x", source=name)
