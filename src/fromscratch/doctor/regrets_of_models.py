"""Regrets about models and numbers: shapes, counts, losses, schedules, gradients."""

from __future__ import annotations

from fromscratch.doctor.regret import Regret

MODELS: tuple[Regret, ...] = (
    Regret(
        "R18",
        "Heads that do not divide the width",
        "refused",
        "Six heads in a width of 128: the shapes do not fit, or, worse, the width is rounded and "
        "the model is not the one that was described.",
        "model.n_head must divide model.d_model; the error lists the numbers that do.",
    ),
    Regret(
        "R19",
        "A parameter count that belongs to older code",
        "impossible",
        "The README says 712M, the model has 662M: a layer was removed since, or the tied head was "
        "counted twice. Everything planned from the number is wrong.",
        "Counts are computed from the shapes of the model that is built, and every place that "
        "shows one takes it from there: `plan`, the run, the report, the model card.",
    ),
    Regret(
        "R20",
        "Causal masks saved as weights",
        "impossible",
        "The mask is a buffer and goes into every checkpoint: twelve megabytes of ones, and a "
        "model that does not load at another context.",
        "A model's state has its parameters and nothing else. Files of others that have such masks "
        "are read without them.",
    ),
    Regret(
        "R21",
        "Padding ids that are sampled",
        "impossible",
        "The vocabulary is padded to a round number, the padding takes a share of every "
        "probability, and now and then one of its ids is drawn and cannot be decoded.",
        "Ids of the padding (model.padded_vocab) have no probability in the loss, are never drawn, "
        "and are cut off the weights that other programs open.",
    ),
    Regret(
        "R22",
        "fp16 without loss scaling",
        "refused",
        "In half precision small gradients are rounded to zero. The loss stays at 8.3 whatever "
        "the learning rate, and days go into trying others.",
        "train.precision=fp16 always has a dynamic loss scale, which no setting turns off, and a "
        "scale that would round is refused. The scale is in the checkpoint.",
        besides="impossible",
    ),
    Regret(
        "R23",
        "The learning rate set after the step",
        "impossible",
        "The first update runs at the full peak before the warmup has begun, or a cosine that has "
        "ended at zero jumps back up. The log shows what was meant, not what was used.",
        "All that is scheduled is a function of the step, set before the update. The rate that is "
        "logged is read from the optimiser. Steps count from 1.",
    ),
    Regret(
        "R24",
        "A logged loss of the last micro-batch only",
        "impossible",
        "With accumulation, only the last portion's loss is logged: a curve whose noise is taken "
        "for a conflict between sources.",
        "The logged loss is the mean over all targets of the step, of all micro-batches and "
        "processes.",
    ),
    Regret(
        "R25",
        "Gradient accumulation that averages averages",
        "impossible",
        "Each micro-batch's mean counts alike, though one has ten targets and another a thousand. "
        "The gradient depends on how the batch was cut, worst in finetuning.",
        "Sums over targets are accumulated and divided by the step's number of targets, over all "
        "processes. The gradient is that of one big batch.",
    ),
    Regret(
        "R26",
        "A gradient spike, or NaN, in the night",
        "recovered",
        "One bad batch takes the loss from 3.6 to 7.5 for hours, or a NaN reaches the weights and "
        "everything since is lost.",
        "A step whose loss or gradient is not finite updates nothing; guard.spike_z=8 refuses "
        "spikes too. After guard.patience of them in a row the run goes back to the last good "
        "checkpoint and leaves those windows out. All of it is in events.jsonl.",
    ),
    Regret(
        "R27",
        "Clipping that never clipped, or always",
        "warned",
        "The condition was the wrong way round, or the threshold far below every gradient. Nobody "
        "looks at the norm once the line is written.",
        "Every row says whether its gradient was clipped; the report shows the share. A run whose "
        "gradients are nearly all clipped says so while it goes on. The key is optim.clip.",
    ),
    Regret(
        "R28",
        "Rising gradient norms, seen too late",
        "warned",
        "The norm grows for a thousand steps before the loss stands still. The picture is drawn "
        "when the run is over.",
        "The run itself says when the norm has doubled over 200 updates (grad_norm_rises), and the "
        "report marks a plateau under rising norms. guard.warn=false silences it.",
    ),
    Regret(
        "R29",
        "A smaller batch because the GPU is smaller",
        "impossible",
        "The recipe was written for eight GPUs. On one, its batch is an eighth at the same "
        "learning rate, and training stalls at 7.5.",
        "train.tokens_per_step is the batch, whatever the device; how often gradients are "
        "accumulated follows from train.micro_batch and the number of processes.",
    ),
    Regret(
        "R30",
        "Settings that were copied and never thought about",
        "warned",
        "Dropout in a run that reads no text twice, gradients that are not clipped, a learning "
        "rate that never decays: the optimiser is that of a book's example.",
        "`plan`, `doctor` and the start of a run name each, with the line to write instead: "
        "model.dropout=0, optim.clip=1, schedule.name=wsd.",
    ),
    Regret(
        "R31",
        "A utilisation of minus three percent",
        "impossible",
        "The card is not in the table, so another card's peak is used, or none. The MFU says "
        "anything, and is believed.",
        "Where the table does not have the device, its peak is measured by a timed matrix product, "
        "and the run and the report say which of the two it is.",
    ),
)
