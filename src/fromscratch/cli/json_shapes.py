"""What `--json` prints, verb by verb: the shape that a program may rely on.

Each verb's output is declared here, once. The tests hold every output that they see against it, and
the page docs/command-line.md names its keys. A key is added freely; one that is there stays, with
its meaning. Nothing else is printed on standard output; a mistake is one message on standard error
and exit code 2, with --json as without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel


class Shape(BaseModel):
    """An object with these keys, and no other."""

    model_config = ConfigDict(extra="forbid")


class Parameters(Shape):
    """How many, and how they are trained."""

    total: int
    decayed: int
    not_decayed: int
    decayed_tensors: int
    not_decayed_tensors: int
    non_embedding: int
    by_part: dict[str, int]


class StepMemory(Shape):
    """Bytes while a step is computed."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    total: int


class DeviceHours(Shape):
    """A run on a known card; `cost` in dollars where a price is known."""

    name: str
    key: str
    memory_bytes: int
    precision: str
    hours: float
    cost: float | None


class Planned(Shape):
    """`plan`."""

    recipe: str
    parameters: Parameters
    tokens_per_step: int
    steps: int | None
    total_tokens: int | None
    flops_per_token: int
    total_flops: float | None
    chinchilla_tokens: int
    checkpoint_bytes: int
    checkpoints_disk_bytes: int
    memory: StepMemory
    memory_precision: str
    memory_micro_batch: int
    mfu: float
    devices: list[DeviceHours]
    measured: list[dict[str, Any]]
    budget: dict[str, Any] | None
    mixture: dict[str, Any] | None
    schedule: dict[str, Any]


class BenchRow(Shape):
    """A micro-batch in a precision; `problem` says why there are no numbers."""

    precision: str
    micro_batch: int
    step_seconds: float
    tokens_per_s: float
    val_tokens_per_s: float
    peak_bytes: int
    mfu: float
    peak_measured: bool
    device: str
    problem: str | None
    out_of_memory: bool
    best: bool


class Benched(Shape):
    """`bench`."""

    recipe: str
    finished: bool
    rows: list[BenchRow]
    skipped: list[dict[str, str]]
    validation: dict[str, Any] | None


class Amount(Shape):
    """Of text."""

    documents: int
    tokens: int
    bytes: int


class PreparedText(Shape):
    """`prepare` and `data merge`; `skipped` and `notes` are pairs of a place and words."""

    train: Amount
    val: Amount
    fingerprint: str
    duplicates: int
    n_skipped: int
    skipped: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    engine: str


class Queued(Shape):
    """`prepare --executor slurm`: the jobs that will do it."""

    parts: str
    tasks_job: str | int | None
    joining_job: str | int | None


class Shown(Shape):
    """`data show`."""

    fingerprint: str
    tokenizer: str
    tokenizer_fingerprint: str
    vocab_size: int
    eot_id: int
    val_fraction: float
    seed: int
    dedup: str
    folder: str
    total: Amount
    splits: dict[str, Amount]
    sources: dict[str, dict[str, Any]]
    lengths: dict[str, Any]
    split_lengths: dict[str, dict[str, Any]]
    samples: list[dict[str, Any]]
    content: dict[str, Any]
    complete: bool
    advice: list[str]


class ComparedTokenizer(Shape):
    """A candidate of `tokenizer compare`."""

    name: str
    vocab_size: int
    tokens: int
    bytes_per_token: float
    embedding: int
    megabytes_per_s: float | None


class InspectedTokenizer(Shape):
    """`tokenizer inspect`."""

    kind: str
    vocab_size: int
    eot_id: int
    special: dict[str, int]
    fingerprint: str
    engine: str
    ids: list[int]


class SweepTrial(Shape):
    """A trial: waiting, running, stopped, done or failed."""

    number: int
    state: str
    values: dict[str, str]
    result: dict[str, Any] | None
    reason: str | None
    run: str


class Swept(Shape):
    """`sweep`; `value` names what trials are ranked by, and the best comes first."""

    folder: str
    value: str
    format: int
    recipe: str
    text: str
    fixed: list[str]
    axes: dict[str, dict[str, Any]]
    sampler: str
    trials: int
    results: list[SweepTrial]


class Metric(Shape):
    """A number with its standard error, over `n` documents or items."""

    value: float
    stderr: float | None
    n: int | None
    reference: dict[str, float]


class EvalRow(Shape):
    """A model on a text or a task."""

    kind: str
    model: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, Metric]
    settings: dict[str, Any]
    seconds: float
    written: str


class Evaluated(Shape):
    """`eval`."""

    records: list[EvalRow]
    differences: list[dict[str, Any]]
    n_skipped: int
    skipped: list[tuple[str, str]]
    notes: list[tuple[str, str]]


class Judged(Shape):
    """`judge`."""

    folder: str
    settings: dict[str, Any]
    items: int
    models: list[dict[str, Any]]
    reference: dict[str, Any] | None
    differences: list[dict[str, Any]]
    replies_unparsed: int
    usage: dict[str, int]


class Sample(BaseModel):
    """A text; `logprobs` where they were asked for."""

    model_config = ConfigDict(extra="forbid")

    text: str
    tokens: int
    finish_reason: str
    logprobs: list[dict[str, Any]] | None = None


class Generated(Shape):
    """`generate`; `text` is that of the first sample."""

    model: str
    sha256: str
    prompt: str
    text: str
    samples: list[Sample]


class Answered(Shape):
    """An answer of `chat`, one object a line."""

    text: str
    finish_reason: str
    usage: dict[str, int]
    dropped_messages: int
    model: str
    sha256: str


class Exported(Shape):
    """`export`; of gguf `check` and `told`, of hf and space the rest."""

    path: str
    n_bytes: int
    check: dict[str, Any] | None = None
    told: dict[str, Any] | None = None
    reader: dict[str, Any] | None = None
    rounding: dict[str, Any] | None = None
    template: str | None = None
    pushed: str | None = None


class ImportedModel(Shape):
    """`import`."""

    path: str
    config: dict[str, Any]
    parameters: int
    tokenizer: str
    step: int | None
    notes: list[str]
    reader: dict[str, Any]
    compared_with: str
    loss: float | None
    uniform: float


class ImportedLogs(Shape):
    """`logs import`."""

    imported: int
    name: str
    files: list[dict[str, Any]]
    formats: list[str]
    steps: int
    first_step: int | None
    last_step: int | None
    first_time: str | None
    last_time: str | None
    validations: dict[str, int]
    scores: int
    samples: int
    events: dict[str, int]
    logged_again: int
    not_finite: int
    without_loss: int
    parts: list[dict[str, Any]]
    part: int
    estimated_seconds: bool
    facts: dict[str, Any]
    damaged: int
    other: int
    not_read: list[dict[str, Any]]
    not_recognised: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


class DoctorFinding(Shape):
    """What would be regretted; `severity` is refused or warned, `id` one of docs/regrets.md."""

    id: str
    severity: Literal["refused", "warned"]
    what: str
    fix: str
    about: str


class Examined(Shape):
    """`doctor`; `example` holds stretches of tokens, learned or not."""

    what: list[str]
    refused: bool
    findings: list[DoctorFinding]
    checks: list[dict[str, str]]
    example: list[dict[str, Any]]


class LookedFor(Shape):
    """`doctor --against`."""

    data: str
    ngram: int
    tokens: int
    looked_at: float
    files: list[dict[str, Any]]


class Explained(Shape):
    """`doctor --explain`."""

    id: str
    title: str
    verdict: str
    story: str
    here: str
    besides: str | None
    checks: list[str]


class Scaled(Shape):
    """`scale`: the ladder's runs, the law through them, and the answers."""

    folder: str
    finished: bool
    budget: float
    spent: float
    runs: list[dict[str, Any]]
    format: int
    recipe: str
    fit: dict[str, Any]
    bits_per_nat: float
    data: dict[str, Any]
    eval_tokens: int
    context: int
    answers: list[dict[str, Any]]


class Environment(Shape):
    """`env`."""

    fromscratch: dict[str, Any]
    python: dict[str, Any]
    machine: dict[str, Any]
    torch: dict[str, Any]
    devices: dict[str, Any]
    chosen: dict[str, Any]
    packages: dict[str, Any]
    folders: dict[str, Any]
    variables: dict[str, Any]


SHAPES: Mapping[str, Any] = {
    "plan": Planned,
    "scale": Scaled,
    "bench": Benched,
    "doctor": RootModel[Examined | LookedFor | Explained],
    "env": Environment,
    "prepare": RootModel[PreparedText | Queued],
    "data show": Shown,
    "data merge": PreparedText,
    "tokenizer compare": RootModel[list[ComparedTokenizer]],
    "tokenizer inspect": InspectedTokenizer,
    "sweep": Swept,
    "eval": Evaluated,
    "judge": Judged,
    "generate": Generated,
    "chat": Answered,
    "export": Exported,
    "import": ImportedModel,
    "logs import": ImportedLogs,
}
"""The shape of each verb's output; `chat` prints one such object for each answer."""


def check_output(verb: str, printed: str) -> None:
    """Holds a verb's output against its shape.

    Args:
        verb: As it is typed, `data show` for one of a group.
        printed: All that was on standard output.

    Raises:
        pydantic.ValidationError: It has another shape.
    """
    shape = SHAPES[verb]
    for text in printed.splitlines() if verb == "chat" else [printed]:
        shape.model_validate_json(text)
