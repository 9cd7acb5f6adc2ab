"""The one place that spells names on disk: in DATA/, RUN/, CHECKPOINT/ and other folders.

What is written into them is said where it is written; how, in files.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# --- names inside DATA/ ---------------------------------------------------------------------------
DATA_MANIFEST = "manifest.json"
DATA_TOKENIZER = "tokenizer.json"
DATA_TOKENIZER_CONFIG = "tokenizer_config.json"
DATA_INCOMPLETE = "INCOMPLETE"
DATA_JOURNAL = "progress.json"
DATA_SEEN = "seen.db"
DATA_LOCK = "prepare.lock"
DATA_PART = "part.json"
DATA_PART_KEYS = "keys.bin"
DATA_PART_BANDS = "bands.bin"

# --- names inside a folder of prepared conversations ----------------------------------------------
EXAMPLES_MANIFEST = "examples.json"
EXAMPLES_IDS = "ids.npy"
EXAMPLES_LEARNED = "learned.npy"
EXAMPLES_STARTS = "starts.npy"
EXAMPLES_SIDES = "sides.npy"
EXAMPLES_TEST = "test.jsonl"
EXAMPLES_SPOOL = "conversations.tmp"  # while it is being made

# --- names inside DATA-parts/, where several tasks prepare the parts of DATA ----------------------
PARTS_PLAN = "plan.json"
PARTS_TOKENIZER = "tokenizer"
PARTS_LOGS = "logs"
PARTS_JOINING_LOGS = "joining"

# --- names inside RUN/ ----------------------------------------------------------------------------
RUN_RECIPE = "recipe.toml"
RUN_METRICS = "metrics.jsonl"
RUN_SAMPLES = "samples.jsonl"
RUN_EVENTS = "events.jsonl"
RUN_HEALTH = "health.jsonl"
RUN_EVALS = "evals.jsonl"
RUN_REPORT = "report.html"
RUN_REFERENCE = "reference.safetensors"  # what the model made of the pairs before DPO
RUN_ANSWERS = "answers.json"  # of a finetuned model to the test examples
RUN_PREDICTION = "prediction.json"  # what a scaling law expected of it
RUN_CHECKPOINTS = "checkpoints"
RUN_LANDSCAPE = "landscape"
RUN_LOCK = "run.lock"
RUN_TENSORBOARD = "tensorboard"
RUN_WANDB = "wandb"  # wandb chooses this name itself
RUN_WANDB_ID = "wandb.json"

# --- names inside a RUN/ that was made from another trainer's logs --------------------------------
RUN_IMPORT = "import.json"
# RangeFlow's own tool calls them so.
IMPORTED_METRICS = "llm_training_metrics.json"
IMPORTED_SAMPLES = "llm_training_samples.json"
IMPORTED_PICTURE = "llm_training_curves.png"
IMPORT_DATABASE = ".rows.db"

# --- names inside RUN/landscape/ ------------------------------------------------------------------
LANDSCAPE_LOCK = "landscape.lock"
LANDSCAPE_PICTURE = "landscape.png"

# --- names inside SWEEP/ --------------------------------------------------------------------------
SWEEP_PLAN = "sweep.json"
SWEEP_JOURNAL = "journal.log"
SWEEP_LOCK = "sweep.lock"
SWEEP_PICTURE = "sweep.png"

# --- names inside SCALE/, which has trials as a sweep has -----------------------------------------
SCALE_LADDER = "ladder.json"  # what is trained
SCALE_SPENT = "spent.json"
SCALE_RESULT = "scale.json"  # the law, and the answer
SCALE_PICTURE = "scale.png"

# --- names inside the folder of a judge's scores --------------------------------------------------
RUN_JUDGE = "judge"  # in RUN/, with a folder for each judgement
JUDGE_SETTINGS = "settings.json"
JUDGE_ANSWERS = "answers.jsonl"
JUDGE_SCORES = "scores.jsonl"
JUDGE_RESULT = "judge.json"
JUDGE_LOCK = "judge.lock"

# --- names beside the run folders -----------------------------------------------------------------
BENCH_RESULTS = "bench.json"

# --- names inside CHECKPOINT/ ---------------------------------------------------------------------
CHECKPOINT_CONFIG = "config.json"
CHECKPOINT_WEIGHTS = "model.safetensors"
CHECKPOINT_WEIGHTS_INDEX = "model.safetensors.index.json"  # of foreign models in several files
CHECKPOINT_GENERATION = "generation_config.json"
CHECKPOINT_TOKENIZER = "tokenizer.json"
CHECKPOINT_TOKENIZER_CONFIG = "tokenizer_config.json"
CHECKPOINT_CHAT_TEMPLATE = "chat_template.jinja"  # where transformers keeps it
CHECKPOINT_OPTIMIZER = "optimizer.safetensors"
CHECKPOINT_STATE = "state.json"
CHECKPOINT_RECIPE = "recipe.toml"
CHECKPOINT_MANIFEST = "MANIFEST.json"
LATEST = "latest"
BEST = "best"

# --- names inside a folder made for the hub -------------------------------------------------------
CARD = "README.md"
CARD_CURVES = "training.png"
SPACE_APP = "app.py"
SPACE_REQUIREMENTS = "requirements.txt"
SPACE_MODEL = "model"

# --- names inside the folder of CORE's tasks, as it is handed round -------------------------------
CORE_TASKS = "core.yaml"
CORE_BASELINES = "eval_meta_data.csv"
CORE_DATA = "eval_data"

# --- names inside the user's state folder ---------------------------------------------------------
CHAT_HISTORY = "chat_history"

# --- names inside the folder of copies from the hub -----------------------------------------------
HUB_LOCK = ".lock"
HUB_PARTIAL = ".part"
HUB_LEASE = ".lease"

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
