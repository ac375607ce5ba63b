"""How a cache keeps its values in fewer bits: codes, and a scale for every group of neighbours.

The last group of a vector may be shorter. Scales count as bytes. Knows no arrays.
"""

from dataclasses import dataclass, replace

from mla_viz.config import told


@dataclass(frozen=True)
class Format:
    """One way to keep a vector: `bits` a value, `scale_bytes` for every `group` of values.

    Where `group` is None the whole vector shares one scale.

    `keep_rope` says that the RoPE key stays as it is, in the dtype of the model.
    """

    name: str
    bits: int
    group: int | None
    scale_bytes: int
    keep_rope: bool = True

    def groups(self, width: int) -> int:
        """Groups of a vector, the last one shorter where need be."""
        return -(-width // (self.group or width)) if width else 0

    def row_bytes(self, width: int) -> int:
        """Bytes of a vector, its scales included. 64 values in int8: 64 + 2 2 = 68."""
        return -(-width * self.bits // 8) + self.groups(width) * self.scale_bytes

    @property
    def about(self) -> str:
        """`int8: 8 bits a value, and a scale of 2 bytes for every 32 of them`."""
        scale = f"a scale of {self.scale_bytes} bytes for every {self.group} of them"
        return f"{self.name}: {self.bits} bits a value, and {scale}"


# What runs here. int8 and int4 take what llama.cpp's q8_0 and q4_0 do, fp8 (e4m3) what FlashMLA's
# fp8_ds_mla does of a latent.
_KEPT = (Format("int8", 8, 32, 2), Format("fp8", 8, 128, 4), Format("int4", 4, 32, 2))
_ALL = tuple(replace(each, name=f"{each.name}_all", keep_rope=False) for each in _KEPT)
FORMATS = {each.name: each for each in (*_KEPT, *_ALL)}

# What published caches take, by the names of the engines that keep them: their int8 has a scale for
# a whole vector, their fp8 one for a whole tensor, which is not counted.
OF_ENGINES = {
    "int8": Format("int8 by vectors", 8, None, 4),
    "fp8": Format("fp8 by tensors", 8, None, 0),
    "q8_0": FORMATS["int8"],
    "q4_0": FORMATS["int4"],
    "fp8_ds_mla": FORMATS["fp8"],
}


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise ValueError(f"cache_dtype: expected one of {', '.join(FORMATS)}, got {told(name)}")
    return FORMATS[name]
