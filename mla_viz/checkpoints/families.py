"""What sets each family's attention apart from DeepSeek-V3's: a row a model_type.

All name their tensors alike: q_proj, or q_a_proj, q_a_layernorm and q_b_proj; kv_a_proj_with_mqa,
kv_a_layernorm, kv_b_proj and o_proj, and all normalise latents with an epsilon of 1e-6, whatever
rms_norm_eps says. Knows no tensor.

Source: transformers 5.23, modeling_<model_type>.py.
"""

from dataclasses import dataclass, replace
from typing import NoReturn

from mla_viz.config import told
from mla_viz.published.fields import refuse

INTERLEAVED, HALVES, AS_NAMED, NONE = "interleaved", "halves", "as named", "none"
LATENT_EPS = 1e-6


@dataclass(frozen=True)
class Family:
    """One family.

    `architecture` begins the names of its classes; `pairs` says which elements RoPE turns together:
    neighbours, x_i with x_(i + width/2), one of both as rope_interleave says, or none at all.
    Without a v_head_dim in the file, values are d_model / n_heads wide where `v_of_heads` is.
    `attentions` are those of one layer; with `widened`, latents are multiplied by
    sqrt(d_model / rank) behind their norm; `dense_below` names the field with the number of tokens
    up to which a sparse index leaves no token out, and `outputs` are those of the class's forward.
    """

    architecture: str
    pairs: str = AS_NAMED
    theta: float = 10000.0
    attentions: int = 1
    widened: bool = False
    dense_below: str | None = None
    outputs: int = 2
    v_of_heads: bool = False


_V3 = Family("DeepseekV3")
_SPARSE = Family("DeepseekV32", pairs=INTERLEAVED, dense_below="index_topk")
FAMILIES = {
    "deepseek_v2": Family("DeepseekV2", pairs=INTERLEAVED),
    "deepseek_v3": _V3,
    "kimi_k2": _V3,
    "deepseek_v32": _SPARSE,
    "glm_moe_dsa": replace(_SPARSE, architecture="GlmMoeDsa", outputs=3),
    "glm4_moe_lite": Family("Glm4MoeLite"),
    "minicpm3": Family("MiniCPM3", pairs=HALVES, v_of_heads=True),
    "longcat_flash": Family(
        "LongcatFlash", pairs=INTERLEAVED, theta=1e7, attentions=2, widened=True
    ),
    "youtu": Family("Youtu"),
    "mistral4": Family("Mistral4"),
    "axk1": Family("AXK1"),
    "kimi_linear": Family("KimiLinear", pairs=NONE),
}
OTHERS = {
    "axk2": "its heads' outputs are gated",
    "bailing_hybrid": "its heads' outputs are gated",
    "dots3_note_text": "some of its layers see a window of another rank",
    "glm5_next_text": "its index pools tokens",
    "hy_v4": "its heads' outputs are gated, beside a sink",
    "kimi_k3": "its heads' outputs are gated",
    "mistral_large4_text": "its layers share latents and scale queries by what they hold",
    "sarvam_mla": "transformers has no class to hold it against",
}


def find_family(kind: object, architectures: object) -> Family:
    """The row of a model_type.

    Raises:
        ValueError: there is none, or the file names classes of another family.
    """
    if not isinstance(kind, str) or kind not in FAMILIES:
        _refuse_kind(kind)
    family = FAMILIES[kind]
    named = architectures if isinstance(architectures, list) else []
    others = {row.architecture for row in FAMILIES.values()} - {family.architecture}
    for name in named:
        if str(name).partition("For")[0] in others:
            refuse(" architectures", f"{family.architecture}... for {kind}", told(name))
    return family


def _refuse_kind(kind: object) -> NoReturn:
    why = f" ({OTHERS[kind]})" if str(kind) in OTHERS else ""
    refuse(" model_type", f"one of {', '.join(FAMILIES)}", f"{told(kind)}{why}")
