"""The page of Python functions: what a program of somebody else's would call.

Their docstrings are read by mkdocstrings when the page is built; here stands which they are.
"""

from __future__ import annotations

FUNCTIONS = {
    "Models": (
        "fromscratch.checkpoint.bundle.load_bundle",
        "fromscratch.checkpoint.bundle.ModelBundle",
        "fromscratch.generate.engine.generate",
        "fromscratch.generate.engine.generate_text",
        "fromscratch.generate.batch.Request",
        "fromscratch.generate.batch.complete",
        "fromscratch.generate.sampling.SamplingOptions",
        "fromscratch.generate.ready.make_ready",
    ),
    "Data": (
        "fromscratch.data.shards.Manifest",
        "fromscratch.data.shards.TokenStream",
        "fromscratch.tokenizer.tokenizer.Tokenizer",
    ),
    "Recipes and runs": (
        "fromscratch.runs.recipe_files.load_recipe",
        "fromscratch.runs.planning.make_plan",
        "fromscratch.runs.assemble.new_run",
        "fromscratch.runs.pick_up.open_run",
        "fromscratch.report.build.build_report",
        "fromscratch.foundation.errors.UserError",
    ),
}
"""By heading: dotted names."""


def page() -> str:
    """The page, in Markdown; a line of three colons is mkdocstrings's."""
    parts = [
        "# Python\n",
        "The command line is made of these. Before version 1.0 they may change from one release to "
        "the next; the files on disk and the recipes do not change without saying so.\n",
    ]
    for heading, names in FUNCTIONS.items():
        parts.append(f"## {heading}\n")
        parts += [f"::: {name}\n" for name in names]
    return "\n".join(parts)
