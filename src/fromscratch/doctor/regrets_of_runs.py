"""Regrets about runs: restarts, checkpoints, memory, disks, and what is known of them later."""

from __future__ import annotations

from fromscratch.doctor.regret import Regret

RUNS: tuple[Regret, ...] = (
    Regret(
        "R32",
        "A resume that restores the weights only",
        "impossible",
        "Momentum, random numbers, the place in the data and the loss scale start over. The loss "
        "jumps at every restart, and the run is not the one that was planned.",
        "A checkpoint holds all of it. On a CPU in fp32 a run that was killed and resumed has the "
        "losses and weights of one that was not, bit for bit.",
    ),
    Regret(
        "R33",
        "Checkpoints sorted as text",
        "impossible",
        "In the order of letters step 9900 comes after 10000. The older one is resumed, and the "
        "newer one removed as old.",
        "A checkpoint's step is a number, compared as a number, in what is resumed and in what is "
        "removed.",
    ),
    Regret(
        "R34",
        "Resuming the newest folder, of another experiment",
        "impossible",
        "Whatever was written last is taken up. It is somebody else's model, or yesterday's with "
        "another width, and it trains on without an error.",
        "`resume RUN` is told which run, and looks nowhere else. A checkpoint of another shape, "
        "optimiser, tokenizer or data is refused, and any other difference from its recipe is "
        "recorded. A run is never overwritten.",
    ),
    Regret(
        "R35",
        "A full disk, and half a checkpoint",
        "recovered",
        "The disk fills up while a checkpoint is written, and the one before was removed to make "
        "room. Nothing is left.",
        "Old checkpoints go only after a new one is complete and verified. Room for all that "
        "checkpoint.keep_last and keep_every will keep is checked before the run; a disk that "
        "others fill costs an event and not the run.",
        besides="refused",
    ),
    Regret(
        "R36",
        "Folders of checkpoints that nobody can tell apart",
        "impossible",
        "ckpt_final, ckpt_final2, ckpt_best_new: which data, which settings, which code? The "
        "answer was in a notebook.",
        "A run's folder has its whole recipe, its metrics, samples, events and checkpoints; every "
        "checkpoint has recipe, tokenizer, fingerprints and versions beside the weights.",
    ),
    Regret(
        "R37",
        "Hyper-parameters changed in the code, in the middle of a run",
        "impossible",
        "A number is edited, the run restarted, the restore commented out. Afterwards nobody knows "
        "which steps were made with what.",
        "Changing a run is an override (`resume RUN optim.lr=3e-4`); it, or an edit of the "
        "recipe, is recorded in events.jsonl with the step from which it holds.",
    ),
    Regret(
        "R38",
        "A log that is overwritten at the start",
        "impossible",
        "The restart opens the log for writing, and the first half of the curve is gone. That a "
        "new phase began is written nowhere.",
        "Rows are only ever added; those past the step that is resumed from are dropped, because "
        "the run writes them again. A phase is an event with its step.",
    ),
    Regret(
        "R39",
        "Out of memory on resume, in validation, or hours in",
        "refused",
        "The first steps fit. The first validation, the first sample or the restored optimiser "
        "does not, and the night is lost.",
        "Before step 1, and before a resume goes on, a batch at full size is trained, validated, "
        "sampled and saved in a process of its own: on a GPU always, on a CPU where memory may be "
        "short. train.micro_batch=auto finds what fits. A resume peaks no higher than the run.",
    ),
    Regret(
        "R40",
        "A missing checkpoint that trains from scratch",
        "refused",
        "The path is misspelled, the loader finds nothing, and a new model is trained in the old "
        "one's name.",
        "A run that was trained and whose checkpoints are gone is not resumed, and a model that is "
        "not where --from says is an error.",
    ),
    Regret(
        "R41",
        "Compilation switched off because sampling broke",
        "impossible",
        "The compiled model cannot generate, or compiles anew for every length. So compilation is "
        "switched off, and the speed goes with it.",
        "Only training runs compiled blocks (train.compile); validation and sampling use the same "
        "weights uncompiled, and never cause a compilation.",
    ),
    Regret(
        "R42",
        "Colab disconnects",
        "recovered",
        "The machine is taken away, the terminal closes, somebody presses Ctrl-C. The last hours "
        "were in memory.",
        "SIGTERM, SIGHUP and Ctrl-C end the micro-batch, save and end with 0; a second Ctrl-C ends "
        "at once. After a kill, `resume` goes on from the last complete checkpoint, which is never "
        "older than checkpoint.every_minutes.",
    ),
    Regret(
        "R43",
        "A rented GPU that idles after the run",
        "recovered",
        "The run ends at two, or fails at three, and the machine is paid for until somebody wakes.",
        "`train --then COMMAND`, and `resume --then COMMAND`, run a command at the end, success or "
        "not: --then 'shutdown -h now'.",
    ),
)
