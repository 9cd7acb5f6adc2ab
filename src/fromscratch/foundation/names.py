"""The one place that spells names on disk: in DATA/, RUN/, CHECKPOINT/ and other folders.

What is written into them is said where it is written; how, in files.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# --- names inside DATA/ ---------------------------------------------------------------------------
DATA_MANIFEST = "manifest.json"  # what the data is, below; written last
DATA_TOKENIZER = "tokenizer.json"  # Hugging Face's tokenizer of the text
DATA_TOKENIZER_CONFIG = "tokenizer_config.json"  # which tokens are special
DATA_INCOMPLETE = "INCOMPLETE"  # the command that makes the folder, until it is whole
DATA_JOURNAL = "progress.json"  # how far a preparation has come; gone at its end
DATA_SEEN = "seen.db"  # keys of the documents so far, to find copies; gone at the end
DATA_LOCK = "prepare.lock"  # locked by the process that prepares
DATA_PART = "part.json"  # in a part: its manifest, and what joining needs to know
DATA_PART_KEYS = "keys.bin"  # in a part: its documents' keys, to find copies across parts
DATA_PART_BANDS = "bands.bin"  # in a part: likewise, for near copies

# --- names inside a folder of prepared conversations ----------------------------------------------
EXAMPLES_MANIFEST = "examples.json"  # what the examples are, below; written last
EXAMPLES_IDS = "ids.npy"  # token ids of all examples, one after the other
EXAMPLES_LEARNED = "learned.npy"  # of each token, whether it is learned
EXAMPLES_STARTS = "starts.npy"  # each example's first token, and the end
EXAMPLES_SIDES = "sides.npy"  # of each example: train, val or test
EXAMPLES_TEST = "test.jsonl"  # the records of the test side, as they were
EXAMPLES_SPOOL = "conversations.tmp"  # while it is being made

# --- names inside DATA-parts/, where several tasks prepare the parts of DATA ----------------------
PARTS_PLAN = "plan.json"  # which task prepares what
PARTS_TOKENIZER = "tokenizer"  # a folder: the tokenizer of all parts
PARTS_LOGS = "logs"  # a folder: the tasks' logs
PARTS_JOINING_LOGS = "joining"  # a folder: the logs of the task that joins

# --- names inside RUN/ ----------------------------------------------------------------------------
RUN_RECIPE = "recipe.toml"  # every setting, defaults included
RUN_ASKED = "asked.toml"  # the recipe as the command that made the run had it
RUN_METRICS = "metrics.jsonl"  # a row for each update and each validation, below
RUN_SAMPLES = "samples.jsonl"  # continuations of the fixed prompts, by step
RUN_EVENTS = "events.jsonl"  # what happened besides: resumes, warnings, refusals
RUN_HEALTH = "health.jsonl"  # each layer's norms, activations and attention
RUN_EVALS = "evals.jsonl"  # what `eval` measured of its checkpoints
RUN_REPORT = "report.html"  # the report, a page without other files
RUN_REFERENCE = "reference.safetensors"  # what the model made of the pairs before DPO
RUN_ANSWERS = "answers.json"  # of a finetuned model to the test examples
RUN_PREDICTION = "prediction.json"  # what a scaling law expected of it
RUN_CHECKPOINTS = "checkpoints"  # a folder: CHECKPOINT/ by step
RUN_LANDSCAPE = "landscape"  # a folder: the loss around the weights
RUN_LOCK = "run.lock"  # locked by the process that trains
RUN_TENSORBOARD = "tensorboard"  # a folder: event files
RUN_WANDB = "wandb"  # wandb chooses this name itself
RUN_WANDB_ID = "wandb.json"  # which run of wandb this is

# --- names inside a RUN/ that was made from another trainer's logs --------------------------------
RUN_IMPORT = "import.json"  # which logs it was made from
# RangeFlow's own tool calls them so.
IMPORTED_METRICS = "llm_training_metrics.json"  # the rows, as that tool publishes them
IMPORTED_SAMPLES = "llm_training_samples.json"  # the samples, likewise
IMPORTED_PICTURE = "llm_training_curves.png"  # the curves, likewise
IMPORT_DATABASE = ".rows.db"  # rows on their way; gone at the end

# --- names inside RUN/landscape/ ------------------------------------------------------------------
LANDSCAPE_LOCK = "landscape.lock"  # locked by the process that computes it
LANDSCAPE_PICTURE = "landscape.png"  # the surface

# --- names inside SWEEP/ --------------------------------------------------------------------------
SWEEP_PLAN = "sweep.json"  # which settings are tried, and the recipe
SWEEP_JOURNAL = "journal.log"  # Optuna's journal of trials
SWEEP_LOCK = "sweep.lock"  # locked while the journal is read or written
SWEEP_PICTURE = "sweep.png"  # the result

# --- names inside SCALE/, which has trials as a sweep has -----------------------------------------
SCALE_LADDER = "ladder.json"  # what is trained
SCALE_SPENT = "spent.json"  # the time that went into it so far
SCALE_RESULT = "scale.json"  # the law, and the answer
SCALE_PICTURE = "scale.png"  # the law, drawn

# --- names inside the folder of a judge's scores --------------------------------------------------
RUN_JUDGE = "judge"  # in RUN/, with a folder for each judgement
JUDGE_SETTINGS = "settings.json"  # what was asked of whom
JUDGE_ANSWERS = "answers.jsonl"  # the models' answers
JUDGE_SCORES = "scores.jsonl"  # the judge's replies, parsed or not
JUDGE_RESULT = "judge.json"  # means, errors and counts
JUDGE_LOCK = "judge.lock"  # locked by the process that judges

# --- names beside the run folders -----------------------------------------------------------------
BENCH_RESULTS = "bench.json"  # what `bench` measured, for `plan`

# --- names inside CHECKPOINT/ ---------------------------------------------------------------------
CHECKPOINT_CONFIG = "config.json"  # the model's, for transformers, and ours under `fromscratch`
CHECKPOINT_WEIGHTS = "model.safetensors"  # the weights, under the names transformers has
CHECKPOINT_WEIGHTS_INDEX = "model.safetensors.index.json"  # of foreign models in several files
CHECKPOINT_GENERATION = "generation_config.json"  # how transformers samples, and where it stops
CHECKPOINT_TOKENIZER = "tokenizer.json"  # Hugging Face's tokenizer
CHECKPOINT_TOKENIZER_CONFIG = "tokenizer_config.json"  # which tokens are special
CHECKPOINT_CHAT_TEMPLATE = "chat_template.jinja"  # where transformers keeps it
CHECKPOINT_OPTIMIZER = "optimizer.safetensors"  # the optimisers' state, and padding's rows
CHECKPOINT_STATE = "state.json"  # where the run stood, below
CHECKPOINT_RECIPE = "recipe.toml"  # every setting, as in RUN/
CHECKPOINT_MANIFEST = "MANIFEST.json"  # sha256 of every other file; written last
LATEST = "latest"  # in checkpoints/: the newest whole one
BEST = "best"  # in checkpoints/: the one with the lowest validation loss

# --- names inside a folder made for the hub -------------------------------------------------------
CARD = "README.md"  # the model card
CARD_CURVES = "training.png"  # its picture
SPACE_APP = "app.py"  # a page to talk to the model
SPACE_REQUIREMENTS = "requirements.txt"  # what it needs
SPACE_MODEL = "model"  # a folder: the model

# --- names inside the folder of CORE's tasks, as it is handed round -------------------------------
CORE_TASKS = "core.yaml"  # which tasks there are
CORE_BASELINES = "eval_meta_data.csv"  # what chance gets
CORE_DATA = "eval_data"  # a folder: the items

# --- names inside the user's state folder ---------------------------------------------------------
CHAT_HISTORY = "chat_history"  # what was typed in `chat`

# --- names inside the folder of copies from the hub -----------------------------------------------
HUB_LOCK = ".lock"  # locked while copies are counted
HUB_PARTIAL = ".part"  # ending of a download on its way
HUB_LEASE = ".lease"  # ending of a promise that a copy is in use

_HUB_COPY = re.compile(r"[0-9a-f]{16}-.+")

_STEP_FOLDER = re.compile(r"step-(\d+)")


def step_folder(step: int) -> str:
    """The folder name of the checkpoint after `step` updates: `step-00000500`."""
    return f"step-{step:08d}"


def step_of_folder(name: str) -> int | None:
    """The step that a folder name stands for, as a number; None for any other name."""
    match = _STEP_FOLDER.fullmatch(name)
    return int(match.group(1)) if match else None


def shard_file(split: str, index: int) -> str:
    """The file name of a token shard: `train-00000.npy`."""
    return f"{split}-{index:05d}.npy"


def documents_file(split: str, index: int) -> str:
    """The file name of a shard's document offsets: `docs-train-00000.npy`."""
    return f"docs-{split}-{index:05d}.npy"


def scratch_folder(run: str) -> str:
    """The folder beside a run in which its dry run works; gone when that is over."""
    return f".{run}.trial"


def import_folder(run: str) -> str:
    """The folder beside a run in which logs are imported, until that is done."""
    return f".{run}.importing"


def export_folder(name: str) -> str:
    """The folder beside an exported file or folder in which it is made, until it is whole."""
    return f".{name}.exporting"


def replaced_folder(run: str) -> str:
    """What an imported run is called for the moment in which its successor takes its place."""
    return f".{run}.replaced"


def spool_file(folder: str) -> str:
    """The file beside a data folder that holds standard input while it is prepared."""
    return f".{folder}.stdin"


def parts_folder(data: Path) -> Path:
    """Where the parts of `data` lie while several tasks prepare them: beside it."""
    return data.with_name(f"{data.name}-parts")


def part_folder(index: int) -> str:
    """The folder name of one part: `part-00000`."""
    return f"part-{index:05d}"


def landscape_file(key: str) -> str:
    """The file of a loss landscape's points: 16 digits of the hash of what it depends on."""
    return f"{key[:16]}.jsonl"


def trial_folder(number: int) -> str:
    """The folder name of a sweep's trial, which is a run: `trial-003`."""
    return f"trial-{number:03d}"


def trial_lock_file(number: int) -> str:
    """The file that whoever runs a trial keeps locked: beside its run, which may not be there."""
    return f"{trial_folder(number)}.lock"


def hub_copy_file(oid: str, path: str) -> str:
    """The file name of a copy from the hub: 16 digits of its hash, then its own name.

    The name keeps its suffixes, because readers go by them, and loses what some systems forbid.
    """
    plain = re.sub(r"[^\w.+=-]", "_", path.rsplit("/", 1)[-1], flags=re.ASCII)
    return f"{oid[:16]}-{plain[-120:]}"


def hub_lease_file(copy: str, size: int, holder: str) -> str:
    """The file name of a promise that a copy is in use, or on its way, and takes `size` bytes."""
    return f"{copy}.{size}.{holder}{HUB_LEASE}"


def hub_copy_of(name: str) -> str | None:
    """The copy that a file there belongs to (it, its part, a lease); None for a foreign file."""
    if not _HUB_COPY.fullmatch(name):
        return None
    if name.endswith(HUB_LEASE):
        return name.removesuffix(HUB_LEASE).rsplit(".", 2)[0]
    return name.removesuffix(HUB_PARTIAL)


def hub_leased_bytes(name: str) -> int:
    """The bytes that a lease's name promises."""
    return int(name.removesuffix(HUB_LEASE).rsplit(".", 2)[1])


@dataclass(frozen=True)
class RunPaths:
    """The files of one run folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / RUN_RECIPE

    @property
    def asked(self) -> Path:
        return self.root / RUN_ASKED

    @property
    def metrics(self) -> Path:
        return self.root / RUN_METRICS

    @property
    def samples(self) -> Path:
        return self.root / RUN_SAMPLES

    @property
    def events(self) -> Path:
        return self.root / RUN_EVENTS

    @property
    def health(self) -> Path:
        return self.root / RUN_HEALTH

    @property
    def evals(self) -> Path:
        return self.root / RUN_EVALS

    @property
    def imported(self) -> Path:
        return self.root / RUN_IMPORT

    @property
    def reference(self) -> Path:
        return self.root / RUN_REFERENCE

    @property
    def answers(self) -> Path:
        return self.root / RUN_ANSWERS

    @property
    def prediction(self) -> Path:
        return self.root / RUN_PREDICTION

    @property
    def report(self) -> Path:
        return self.root / RUN_REPORT

    @property
    def checkpoints(self) -> Path:
        return self.root / RUN_CHECKPOINTS

    @property
    def landscape(self) -> Path:
        return self.root / RUN_LANDSCAPE

    @property
    def lock(self) -> Path:
        return self.root / RUN_LOCK

    @property
    def tensorboard(self) -> Path:
        return self.root / RUN_TENSORBOARD

    @property
    def wandb(self) -> Path:
        return self.root / RUN_WANDB

    @property
    def wandb_id(self) -> Path:
        return self.root / RUN_WANDB_ID


def runs_inside(folder: Path) -> str:
    """` These in it are: runs/a, runs/b.` for a folder of runs that was named in place of one."""
    if not folder.is_dir():
        return ""
    runs = [f for f in sorted(folder.iterdir()) if (f / RUN_RECIPE).is_file()]
    shown = ", ".join(map(str, runs[:5])) + (", ..." if len(runs) > 5 else "")
    return f" These in it are: {shown}." if runs else ""
