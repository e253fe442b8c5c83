"""The first neural language model: embeddings of a window's tokens side by side, one hidden layer, the next token.

Source: Bengio, Ducharme, Vincent & Jauvin 2003, JMLR 3, equation 1 without the direct connections; here the hidden
layer is normalised (Ba et al. 2016, arXiv 1607.06450) and its activation GELU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dsgd.models.shapes import check_positive, check_tokens

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class NeuralLm:
    """Embeddings of `embedding` numbers a token, one hidden layer of `width`; inputs are tokens below the classes."""

    embedding: int = 24
    width: int = 192

    def __post_init__(self) -> None:
        check_positive("embedding", (self.embedding,))
        check_positive("width", (self.width,))

    @property
    def smooth(self) -> bool:
        return True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from tokens (batch, context) to logits (batch, classes) of the next one.

        Noise for the embeddings stands behind each token: inputs (batch, context, 1 + embedding) are taken too.
        """
        check_tokens(shape, "neural_lm")
        return _module_class()(self, shape[0], classes)


@cache
def _module_class() -> type[nn.Module]:
    """The class of the module; a function makes it, because naming the model must not import torch."""
    from torch import nn
    from torch.nn.functional import gelu

    class Module(nn.Module):
        def __init__(self, of: NeuralLm, context: int, classes: int) -> None:
            super().__init__()
            self.embedding_width = of.embedding
            self.embedding = nn.Embedding(classes, of.embedding)
            self.hidden, self.norm = nn.Linear(context * of.embedding, of.width), nn.LayerNorm(of.width)
            self.output = nn.Linear(of.width, classes)

        def forward(self, x: Tensor) -> Tensor:
            tokens, noise = (x, None) if x.dim() == 2 else (x[..., 0], x[..., 1:])
            x = self.embedding.weight[tokens.long()]
            x = x if noise is None else x + noise
            logits: Tensor = self.output(gelu(self.norm(self.hidden(x.flatten(1)))))
            return logits

    return Module
