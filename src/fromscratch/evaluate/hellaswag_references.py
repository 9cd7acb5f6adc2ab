"""What others score on HellaSwag, by the way that its items become text.

Light to import: reports draw these beside a run's own scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

ALL_ITEMS = 10_042
"""In the validation set, which every published score is of."""

Style = Literal["completion", "harness"]
"""How an item becomes text: see hellaswag.py."""

# Of OpenAI's weights on all items, from the head of hellaswag.py in karpathy/build-nanogpt, which
# gives its own numbers ("completion") and those of lm-evaluation-harness.
REFERENCES: Mapping[Style, Mapping[str, Mapping[str, float]]] = {
    "completion": {
        "acc": {"GPT-2 124M": 0.2859, "GPT-2 1558M": 0.3842},
        "acc_norm": {"GPT-2 124M": 0.2955, "GPT-2 1558M": 0.4893},
    },
    "harness": {
        "acc": {"GPT-2 124M": 0.2892, "GPT-2 1558M": 0.4004},
        "acc_norm": {"GPT-2 124M": 0.3114, "GPT-2 1558M": 0.5089},
    },
}


def references(style: Style, metric: str, n: int) -> dict[str, float]:
    """Published values to hold a score on `n` items against; their names say if that is fewer."""
    less = "" if n == ALL_ITEMS else f" (all {ALL_ITEMS:,} items)"
    return {f"{name}{less}": value for name, value in REFERENCES[style][metric].items()}
