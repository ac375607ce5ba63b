"""How far one model's next tokens are from another's: over the same text, token by token."""

from jaxtyping import Bool, Float
from torch import Tensor


def against(
    own: Float[Tensor, "*lead vocab"], other: Float[Tensor, "*lead vocab"]
) -> tuple[Float[Tensor, " *lead"], Bool[Tensor, " *lead"]]:
    """KL(own || other) in nats at each place, and whether both find the same token likeliest.

    Worked: own (1/2, 1/2), other (1/4, 3/4): ln(2)/2 + ln(2/3)/2 = 0.144.
    """
    p, q = own.log_softmax(-1), other.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).double(), own.argmax(-1) == other.argmax(-1)
