"""What a run tells its trackers of an evaluation: its numbers, and where the run stood."""

from __future__ import annotations

from fromscratch.checkpoint.state import Progress
from fromscratch.track.tracker import HellaSwagResult, ValidationResult
from fromscratch.train.duties import Evaluation, HellaSwagScore


def validation_result(
    progress: Progress, evaluation: Evaluation, eval_seconds: float
) -> ValidationResult:
    """A row about one validation set, which took so long."""
    return ValidationResult(
        step=progress.step,
        tokens=progress.tokens,
        set=evaluation.set,
        val_loss=evaluation.loss,
        val_ppl=evaluation.perplexity,
        val_bpb=evaluation.bits_per_byte,
        val_tokens=evaluation.n_targets,
        seconds=progress.seconds,
        eval_seconds=eval_seconds,
        measures=evaluation.measures,
    )


def hellaswag_result(
    progress: Progress, score: HellaSwagScore, eval_seconds: float
) -> HellaSwagResult:
    """A row about HellaSwag, which took so long."""
    return HellaSwagResult(
        step=progress.step,
        tokens=progress.tokens,
        hellaswag_acc=score.acc,
        hellaswag_acc_norm=score.acc_norm,
        hellaswag_n=score.n,
        hellaswag_style=score.style,
        seconds=progress.seconds,
        eval_seconds=eval_seconds,
    )
