"""The words of the command line: every option of every verb, once.

A verb takes its options and arguments from here, so that one name means one thing and one thing has
one name. `option("seed", 0, of="which documents are held out")` is `--seed`, with the words that
all verbs share and those that this verb adds. A test (tests/cli/test_vocabulary.py) refuses an
option that is made in another way, and two that say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from fromscratch.cli import completing
from fromscratch.cli.overrides import refuse_spaces


@dataclass(frozen=True)
class Word:
    """An option.

    Attributes:
        means: What it is, for every verb that has it.
        metavar: What its value is, in capitals; "" for a flag, and where choices are listed.
        complete: Its values, from what is typed so far.
    """

    means: str
    metavar: str = ""
    complete: Callable[[str], list[completing.Offer]] | None = None


OPTIONS: Mapping[str, Word] = {
    # --- for every verb that has anything like it -----------------------------------------------
    "out": Word("Where to write", "PATH"),
    "overwrite": Word("Replace what is in --out."),
    "json": Word("Print JSON for a program, and nothing else on standard output."),
    "picture": Word("Also draw a picture, as PNG", "FILE"),
    "no-picture": Word("Draw no picture."),
    "name": Word("What it is called", "NAME"),
    "seed": Word("Of what is drawn at random", "N"),
    "device": Word("Where to compute: auto, cpu, cuda, cuda:1 or mps.", "DEVICE",
                   completing.devices),
    "template": Word("Chat template", "NAME", completing.templates),
    "run": Word("Folder of the run.", "RUN"),
    "from": Word("Start from this model's weights: a run, a checkpoint, a Hugging Face folder, or "
                 "ORG/NAME on the hub.", "MODEL", completing.models),
    "scale": Word("Folder of a ladder: its prediction is kept, for the report to compare with.",
                  "FOLDER", completing.paths),
    "or-resume": Word("Where the run is there already, go on with it: for a script."),
    "then": Word("Shell command to run at the end, success or not; FROMSCRATCH_OUTCOME in its "
                 "environment says which. Example: --then 'shutdown -h now'", "COMMAND"),
    "open": Word("Open the page in the browser."),
    "port": Word("Port of the page", "N"),
    "full": Word("Read all text, however large the data."),
    "split": Word("Which side of data", ""),
    "context": Word("Tokens of a window", "N"),
    "price": Word("Dollars for an hour of one device", "DOLLARS"),
    "watts": Word("Power of one device, for the energy", "WATTS"),
    "limit": Word("Only the first so many items", "N"),
    "data": Word("Text: a file, a folder, or a glob in quotes", "SOURCE", completing.paths),
    # --- text -------------------------------------------------------------------------------------
    "tokenizer": Word("gpt2, bytes, or a folder with tokenizer.json", "TOKENIZER",
                      completing.tokenizers),
    "val-fraction": Word("Share of documents held out, for validation.", "SHARE"),
    "documents": Word("What a document of plain text is: auto is the file, or a passage of one "
                      "where there are few files."),
    "field": Word("The field of JSON and Parquet records that is the text.", "NAME"),
    "render": Word("Records are conversations: render them by this chat template (alpaca).",
                   "NAME", completing.templates),
    "on-bad": Word("At what cannot be read: stop with an error, or skip it and list it."),
    "dedup": Word("Leave out copies of documents that came before: exact, or near ones too."),
    "keep-local": Word("Disk that copies of files from the hub may take, such as 6GB.", "SIZE"),
    "hub-cache": Word("Folder for copies of files from the hub.", "FOLDER"),
    "part": Word("Do one part of the work, I/N: 0/4, 1/4, 2/4 or 3/4; `data merge` joins them.",
                 "I/N"),
    "parts": Word("Do the work in so many parts, several at a time, and join them.", "N"),
    "executor": Word("Where the parts are made."),
    "workers": Word("Parts at the same time.", "N"),
    "cores": Word("Cores for a part, on a cluster.", "N"),
    "memory": Word("Memory for a part, on a cluster.", "SIZE"),
    "slurm-partition": Word("Slurm's partition for the parts.", "NAME"),
    "slurm-time": Word("Slurm's time limit for a part, such as 4:00:00.", "TIME"),
    "sbatch": Word("A further option of Slurm's sbatch, such as account=NAME; may be repeated.",
                   "NAME=VALUE"),
    "shard-tokens": Word("Tokens in a file of the output.", "N"),
    "no-validation": Word("Hold nothing out."),
    "fast": Word("Use gigatoken where it is installed and its ids are found the same."),
    "samples": Word("How many random documents to show.", "N"),
    "sample": Word("Text to learn from at most; documents are taken evenly from all sources.",
                   "SIZE"),
    "vocab-size": Word("Ids in all, end-of-text and special tokens included.", "N"),
    "pattern": Word("How text is cut before merging: modern, gpt2 or line.", "NAME"),
    "special": Word("A further special token, such as '<|user|>'; may be repeated.", "TOKEN"),
    "candidates": Word("What to compare, parted by commas: gpt2, bytes, bpe:N, bpe:N:PATTERN "
                       "(trained on these sources), or a folder with tokenizer.json.", "NAMES"),
    "width": Word("Width of the model, for the size of the embedding.", "N"),
    "text": Word("A text to show token by token.", "TEXT"),
    # --- what a run takes, and what it gave -------------------------------------------------------
    "gpu": Word("For this GPU, e.g. rtx3090; `here`: as measured.", "GPU", completing.gpus),
    "gpus": Word("How many of them.", "N"),
    "hours": Word("Hours there are", "HOURS"),
    "dollars": Word("Dollars there are", "DOLLARS"),
    "budget": Word("Time for it, e.g. 1h, 30m, 1h30m.", "TIME"),
    "mfu": Word("Share of the GPU's peak to assume.", "SHARE"),
    "precision": Word("What the model computes in"),
    "micro-batch": Word("Sequences at a time, e.g. 4,8,16.", "NUMBERS"),
    "minutes": Word("Minutes of training.", "MINUTES"),
    "sampler": Word("grid (every combination), tpe or random.", "NAME"),
    "trials": Word("How many to draw with tpe or random.", "N"),
    "show": Word("Train nothing: show the results in this folder.", "FOLDER", completing.paths),
    "watch": Word("Serve the page on this machine and keep it up to date instead."),
    "landscape": Word("Compute the loss around the weights, too; can be interrupted."),
    "landscape-points": Word("Points along each of its two axes; odd.", "N"),
    "landscape-range": Word("How far, in norms of the weights' rows.", "X"),
    "format": Word("auto, rangeflow, nanogpt, build-nanogpt, jsonl, tensorboard or trainer-state.",
                   "NAME"),
    "tokens-per-step": Word("Tokens of each update, where the log does not say: curves against "
                            "tokens.", "N"),
    "which": Word("Which one of several runs that stand in one log: 1, 2, ...", "N"),
    # --- how good a model is ----------------------------------------------------------------------
    "stride": Word("Tokens between the starts of windows; less than --context overlaps.", "N"),
    "separate": Word("Each document by itself, not after the one before."),
    "batch-size": Word("Windows at a time.", "N"),
    "limit-documents": Word("Of each text, the first so many documents.", "N"),
    "tasks": Word("Tasks of lm-evaluation-harness, such as hellaswag,arc_easy,piqa.", "NAMES"),
    "hellaswag": Word("HellaSwag: its file, or hf:Rowan/hellaswag for the hub's.", "FILE"),
    "core": Word("nanochat's evaluation bundle, a folder.", "FOLDER"),
    "shots": Word("Worked examples before each item of --tasks.", "N"),
    "include-path": Word("A folder with tasks of your own.", "FOLDER"),
    "against": Word("An evaluation set: JSON, JSON lines or text; may be repeated.", "FILE"),
    "ngram": Word("Words that must follow one another in both.", "N"),
    "explain": Word("Tell the story of one regret, e.g. R15, and what is true here.", "ID"),
    "strict": Word("Exit with 1 for warnings, too."),
    "test": Word("Instruction file: Alpaca's JSON, JSON lines, chats.", "FILE"),
    "judge": Word("OpenAI-compatible endpoint: https://api.openai.com/v1.", "URL"),
    "model": Word("The judge's model there.", "NAME"),
    "concurrency": Word("Requests under way at a time.", "N"),
    "timeout": Word("Seconds to wait for a reply.", "SECONDS"),
    "retries": Word("How often a failed request is repeated.", "N"),
    "retry-unparsed": Word("Ask again where no score could be read."),
    "api-key-file": Word("File that holds the key; else the environment's OPENAI_API_KEY.", "FILE"),
    "price-in": Word("Dollars for a million tokens of prompt.", "DOLLARS"),
    "price-out": Word("Dollars for a million tokens of reply.", "DOLLARS"),
    "yes": Word("Spend it without asking."),
    # --- text that a model writes -----------------------------------------------------------------
    "max-new-tokens": Word("Tokens to write at most", "N"),
    "temperature": Word("0 always takes the likeliest token.", "X"),
    "top-k": Word("Draw from the k likeliest tokens; 0 from all.", "N"),
    "top-p": Word("Draw from the likeliest tokens with this probability.", "X"),
    "min-p": Word("Draw from tokens at least so likely, times the likeliest; 0 from all.", "X"),
    "repetition-penalty": Word("Above 1, tokens that were there already get less likely.", "X"),
    "presence-penalty": Word("Above 0, tokens that it wrote already get less likely, once.", "X"),
    "frequency-penalty": Word("Above 0, the same for each time that it wrote them.", "X"),
    "stop": Word("End where this text would come; may be repeated.", "TEXT"),
    "n": Word("Samples to write.", "N"),
    "logprobs": Word("With --json: each token's log-probability, and so many of the likeliest.",
                     "N"),
    "slide": Word("Past the model's context, go on with the newer half of the text; or refuse."),
    "quantize": Word("int8: a byte a weight, on a CPU; faster, and slightly less exact.", "KIND",
                     completing.quantized),
    "dtype": Word("What the weights are kept in: float32, bfloat16 or float16", "DTYPE",
                  completing.dtypes),
    "prompt": Word("Answer this and leave.", "TEXT"),
    "system": Word("What the model is told before all else.", "TEXT"),
    # --- serving and exporting --------------------------------------------------------------------
    "host": Word("Address to listen on; others than this machine's need --api-token.", "ADDRESS"),
    "api-token": Word("What requests must carry; FROMSCRATCH_API_TOKEN in the environment does not "
                      "show in `ps`.", "TOKEN"),
    "parallel": Word("Texts that are written at the same time.", "N"),
    "queue": Word("Texts that may wait; more are told to come again.", "N"),
    "max-texts": Word("Texts of one request at most (n).", "N"),
    "max-seconds": Word("Time for one text; it ends as it is by then.", "SECONDS"),
    "max-body": Word("Bytes of a request at most.", "N"),
    "allow-origin": Word("Another site whose pages may use the server, as https://example.org; may "
                         "be repeated.", "URL"),
    "to": Word("gguf: a file for llama.cpp, Ollama, LM Studio; hf: a folder for transformers, with "
               "a model card; space: a Hugging Face Space to chat in.", "KIND", completing.targets),
    "type": Word("Of gguf: f32, f16 or q8_0.", "TYPE", completing.gguf_types),
    "license": Word("The licence that you choose, as on the hub: mit, apache-2.0, ...", "NAME"),
    "approximate-gelu": Word("Of gguf: accept the tanh approximation of GELU."),
    "push": Word("Of hf and space: also upload, to ORG/NAME on the hub.", "ORG/NAME"),
    "public": Word("What --push makes may be seen by all."),
}  # fmt: skip
"""Every option there is, without its hyphens."""

_MODEL = "A run, a checkpoint, a Hugging Face folder, or ORG/NAME on the hub."
ARGUMENTS: Mapping[str, Word] = {
    "RECIPE": Word("A shipped recipe's name, or a .toml file.", "RECIPE", completing.recipes),
    "KEY=VALUE": Word("Changes of the recipe, such as optim.lr=3e-4 model.n_layer=6.", "KEY=VALUE"),
    "RECIPE|FOLDER": Word("A recipe; or the folder of a ladder, to ask it again.", "RECIPE|FOLDER",
                          completing.recipes),
    "MODEL": Word(_MODEL, "MODEL", completing.models),
    "MODELS": Word(f"{_MODEL} Several are compared.", "MODEL", completing.models),
    "RUN": Word("Folder of the run.", "RUN", completing.runs),
    "RUNS": Word("Folder of the run; several are compared.", "RUN", completing.runs),
    "DATA": Word("A folder that `prepare` wrote.", "DATA", completing.prepared),
    "WHAT": Word("A recipe with its changes; or prepared data, a run or a model. Several runs are "
                 "compared.", "WHAT", completing.examined),
    "SOURCE": Word("Files, folders or globs of text, JSON lines or Parquet; "
                   'hf:ORG/NAME[:CONFIG] of the hub; "stdlib".', "SOURCE", completing.paths),
    "PROMPT": Word("What to continue; empty starts a document, - reads it from standard input.",
                   "PROMPT"),
    "TOKENIZER": Word("gpt2, bytes, or a folder with tokenizer.json.", "TOKENIZER",
                      completing.tokenizers),
    "CHECKPOINT": Word("A .pt, .pth, .ckpt, .bin or .safetensors file; or a Hugging Face folder "
                       "with pytorch_model.bin.", "CHECKPOINT", completing.paths),
    "SETTING": Word("What no shape tells", "KEY=VALUE"),
    "FILE_OR_FOLDER": Word("The logs.", "FILE_OR_FOLDER", completing.paths),
    "PART": Word("The folder of every part, in any order.", "PART", completing.prepared),
}  # fmt: skip
"""Every argument there is, by what stands for it in a line of usage."""


def option(
    name: str, default: Any = None, *, of: str = "", short: str | None = None, **more: Any
) -> Any:
    """An option of a verb.

    Args:
        name: Without its hyphens; one of `OPTIONS`.
        default: Where it is not given; ... where it must be.
        of: What this verb adds to what the option means everywhere.
        short: A name of one letter besides, with its hyphen.
        more: As typer takes it; `show_default` as a text for a default that is worked out.
    """
    word = OPTIONS[name]
    names = [f"--{name}/--no-{name}" if name in _BOTH_WAYS else f"--{name}"]
    said: dict[str, Any] = {"metavar": word.metavar or None, "autocompletion": word.complete}
    said |= {"help": _words(word.means, of)} | more
    return typer.Option(default, *names, *([short] if short else []), **said)


def argument(name: str, default: Any = ..., *, of: str = "", **more: Any) -> Any:
    """An argument of a verb.

    Args:
        name: One of `ARGUMENTS`.
        default: Where it is not given; ... where it must be.
        of: What this verb adds to what the argument means everywhere.
        more: As typer takes it.
    """
    word = ARGUMENTS[name]
    said: dict[str, Any] = {"metavar": word.metavar, "autocompletion": word.complete}
    return typer.Argument(default, **(said | {"help": _words(word.means, of)} | more))


def overrides(of: str = "") -> Any:
    """Changes of a recipe, after all else: `optim.lr=3e-4 model.n_layer=6`."""
    return argument(
        "KEY=VALUE", None, of=of, callback=refuse_spaces, autocompletion=completing.overrides
    )


_BOTH_WAYS = ("slide", "fast")


def _words(means: str, of: str) -> str:
    """`means: of.`, or `means.`"""
    if not of:
        return means if means.endswith((".", ")", "...", "'")) else f"{means}."
    return f"{means.removesuffix('.')}: {of}{'' if of.endswith(('.', ')')) else '.'}"
