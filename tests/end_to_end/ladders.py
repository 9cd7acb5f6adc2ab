"""A small ladder that is settled by hand, so that no machine is too slow for its budget."""

from pathlib import Path

from fromscratch.foundation.files import dump_json, write_atomically
from fromscratch.foundation.names import SCALE_LADDER
from fromscratch.plan.ladder import Rung, sizes_of
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.scale_plan import LadderPlan, Measure, settle_ladder

RECIPE = """
[model]
family = "modern"
n_layer = 2
n_head = 4
d_model = 32
context = 16
[data]
path = "{data}"
tokenizer = "bytes"
[optim]
lr = 1e-2
[train]
tokens = 8192
tokens_per_step = 128
micro_batch = 8
[eval]
tokens = 512
"""


def settle(
    folder: Path,
    recipe: Path,
    *,
    held_out: dict[str, int | str],
    seconds: float = 0.1,
    lengths: tuple[int, ...] = (512, 1024, 2048),
    budget: float = 3600.0,
) -> LadderPlan:
    """Writes the plan of three sizes, each of some lengths."""
    resolved = load_recipe(str(recipe))
    sizes = sizes_of(resolved.model)
    rungs = [Rung(size, tokens, seconds) for size in sizes[:3] for tokens in lengths]
    measures = [Measure(s.parameters, 1e9, 1e9 / s.flops_per_token, 1e6, 8, "x") for s in sizes[:3]]
    plan = settle_ladder(
        resolved,
        recipe.read_text(),
        rungs,
        typed=str(recipe),
        each=0.05,
        budget=budget,
        overrides=(),
        reference=8192,
        device="x",
        precision="fp32",
        measures=tuple(measures),
        planned_in=1.0,
        data={"train_tokens": 10**6, **held_out},
    )
    folder.mkdir(parents=True)
    write_atomically(folder / SCALE_LADDER, dump_json(plan.to_json()))
    return plan
