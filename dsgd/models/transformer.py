"""A small transformer that predicts the token after a window of tokens.

Source: Vaswani et al. 2017, arXiv 1706.03762, with the normalisation before each part and GELU as in GPT-2 (Radford et
al. 2019). The last block computes the last position alone, which is all that is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dsgd.models.shapes import check_positive, check_tokens

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_BLOCKS = 1000


@dataclass(frozen=True)
class Transformer:
    """`depth` blocks of attention with `heads` heads and a hidden layer of four times `width`; positions are learnt.

    Every position sees the whole window. Its inputs are tokens below the number of classes.
    """

    width: int = 32
    depth: int = 1
    heads: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads"):
            check_positive(name, (getattr(self, name),))
        if self.depth > MOST_BLOCKS:
            raise ValueError(f"depth is {self.depth}; it must be at most {MOST_BLOCKS} blocks")
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}; it must be a divisor of the width {self.width}")

    @property
    def smooth(self) -> bool:
        return True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from tokens (batch, context) to logits (batch, classes) of the next one.

        Noise for the embeddings stands behind each token: inputs (batch, context, 1 + width) are taken too.
        """
        check_tokens(shape, "transformer")
        return _module_class()(self, shape[0], classes)


@cache
def _module_class() -> type[nn.Module]:
    """The class of the module; a function makes it, because naming the model must not import torch."""
    import torch
    from torch import nn
    from torch.nn.functional import gelu

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
            self.mixed = nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Tensor, start: int) -> Tensor:
            """The positions from `start` on, of x (batch, context, width)."""
            normal, x = self.norm1(x), x[:, start:]
            query = self._parted(self.query(normal[:, start:]))
            key, value = map(self._parted, self.key_value(normal).chunk(2, dim=2))
            shares = (query @ key.mT / math.sqrt(key.shape[-1])).softmax(dim=-1)
            x = x + self.mixed((shares @ value).transpose(1, 2).flatten(2))
            return x + self.down(gelu(self.up(self.norm2(x))))

        def _parted(self, x: Tensor) -> Tensor:
            """(batch, positions, width) to (batch, heads, positions, width / heads)."""
            return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    class Module(nn.Module):
        def __init__(self, of: Transformer, context: int, classes: int) -> None:
            super().__init__()
            self.embedding_width = of.width
            self.embedding = nn.Embedding(classes, of.width)
            self.position = nn.Parameter(torch.randn(context, of.width))
            self.blocks = nn.ModuleList(Block(of.width, of.heads) for _ in range(of.depth))
            self.norm, self.output = nn.LayerNorm(of.width), nn.Linear(of.width, classes)

        def forward(self, x: Tensor) -> Tensor:
            tokens, noise = (x, None) if x.dim() == 2 else (x[..., 0], x[..., 1:])
            x = self.embedding.weight[tokens.long()] + self.position
            x = x if noise is None else x + noise
            for k, block in enumerate(self.blocks, start=1):
                x = block(x, x.shape[1] - 1 if k == len(self.blocks) else 0)
            logits: Tensor = self.output(self.norm(x[:, -1]))
            return logits

    return Module
