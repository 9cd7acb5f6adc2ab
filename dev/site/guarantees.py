"""The page of guarantees: what a user can rely on, each with the tests that hold it.

The tests are named here; a test of the site looks for every one of them in the sources.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guarantee:
    """A promise.

    Attributes:
        name: In a few words.
        text: All of it.
        tests: `file::function` under tests/, with what each does.
    """

    name: str
    text: str
    tests: dict[str, str]


GUARANTEES = (
    Guarantee(
        "An interrupted run is the run that was not",
        "Kill a run at any instant, also while it writes a checkpoint, and resume it: on a CPU in "
        "fp32 every logged loss and every weight has the bits of a run that nobody touched. So "
        "it is after a second kill, across epochs, mixtures, stages and phases, with dropout, with "
        "fp16's loss scale, and among refused updates. Which window comes when is worked out "
        "from the data's fingerprint, the seed and the position, so none is skipped or repeated.",
        {
            "end_to_end/test_violence.py::test_a_run_killed_many_times_ends_as_one_that_was_not": (
                "SIGKILL at drawn instants, several times a run, and its files compared"
            ),
            "end_to_end/test_violence.py::"
            "test_products_that_are_shared_by_threads_resume_bit_for_bit": (
                "the same with several threads"
            ),
            "end_to_end/test_phases.py::"
            "test_a_resume_beside_a_border_is_the_run_that_was_not_stopped": (
                "stopped just before and after a phase begins"
            ),
            "end_to_end/test_sixteen_bits.py::"
            "test_scales_fall_and_rise_and_an_interruption_changes_nothing": "fp16's loss scale",
            "end_to_end/test_rollback.py::test_kills_around_going_back_change_nothing": (
                "killed while it goes back after bad updates"
            ),
            "data/test_batches.py::test_every_token_is_a_target_exactly_once_in_every_epoch": (
                "for drawn streams, contexts and seeds"
            ),
            "data/test_permutation.py::test_every_element_comes_exactly_once": (
                "the order of windows is a permutation"
            ),
        },
    ),
    Guarantee(
        "More GPUs, same batch",
        "The windows of update N are the same for any number of processes and any micro-batch. "
        "Changing either changes how fast it goes, and the last bits of sums, and not what is "
        "learned from.",
        {
            "train/test_elastic.py::test_the_global_batch_is_the_same": (
                "however a step is cut into micro-batches"
            ),
            "train/test_elastic.py::test_so_are_the_updates_over_several_epochs": (
                "the weights that come of it"
            ),
            "train/test_train_step.py::test_accumulation_equals_one_big_batch": (
                "also where micro-batches have unequal numbers of targets"
            ),
            "parallel/test_shared_updates.py::test_updates_are_those_of_one_alone": (
                "real processes, DDP and FSDP2"
            ),
            "parallel/test_shared_updates.py::test_the_same_number_of_ranks_resumes_bit_for_bit": (
                "a resume of several processes"
            ),
        },
    ),
    Guarantee(
        "A checkpoint is whole or absent",
        "It is written under another name, forced to the disk, and gets its own name when its "
        "list of checksums is there. Loading checks them: a damaged one is named and put aside, "
        "and the one before it is used. Old ones go only after a new one is whole. Steps are "
        "compared as numbers. Everything that a resume needs is in it.",
        {
            "checkpoint/test_checkpoint_store.py::"
            "test_a_kill_between_any_two_lines_loses_no_committed_checkpoint": (
                "killed at each touch of the disk in turn"
            ),
            "checkpoint/test_checkpoint_store.py::test_every_flipped_bit_is_found_or_harmless": (
                "in any file of a checkpoint"
            ),
            "checkpoint/test_checkpoint_store.py::test_steps_are_numbers_not_text": (
                "10000 is newer than 9900"
            ),
            "checkpoint/test_checkpoint_store.py::test_retention_comes_after_the_commit": (
                "what goes, goes last"
            ),
            "end_to_end/test_damage.py::test_the_one_before_is_used_and_said": (
                "through the command line"
            ),
            "end_to_end/test_disk_full.py::test_a_full_disk_in_the_middle_is_survived": (
                "bounded space, full in the middle of a run"
            ),
            "checkpoint/test_train_state.py::test_a_round_trip_is_exact": "all state, bit for bit",
        },
    ),
    Guarantee(
        "No pickle",
        "What this project writes is safetensors, `.npy`, JSON and TOML. A checkpoint of another "
        "program that is a pickle is read by `fromscratch import` alone, in a way that runs "
        "nothing in it.",
        {
            "checkpoint/test_train_state.py::test_nothing_in_a_checkpoint_is_a_pickle": (
                "every file of a checkpoint"
            ),
            "export/test_importing.py::test_a_pickle_runs_nothing": "files made to run something",
            "checkpoint/test_model_files.py::test_pickles_are_refused_with_what_to_do": (
                "everywhere but in `import`"
            ),
        },
    ),
    Guarantee(
        "Nothing is ignored in silence",
        "A key that a recipe does not have is an error that names the nearest one. A setting "
        "without effect, on this device or beside another setting, is refused or said. Data or a "
        "tokenizer that changed since the run began is refused on resume, with what changed and "
        "how to go on with it on purpose.",
        {
            "runs/test_recipe.py::test_no_unknown_key_is_ever_ignored": "drawn keys in every table",
            "end_to_end/test_sixteen_bits.py::"
            "test_what_the_precision_does_not_do_here_is_said_once": (
                "a precision that the device does not have"
            ),
            "end_to_end/test_resume_refusals.py::"
            "test_changed_data_is_refused_also_beside_another_change": "data",
            "end_to_end/test_resume_refusals.py::test_another_tokenizer_is_refused": "tokenizers",
            "end_to_end/test_resume_refusals.py::test_an_override_is_recorded": (
                "what is changed on purpose stands in the events"
            ),
        },
    ),
    Guarantee(
        "Validation cannot leak",
        "Which documents are held out follows from their content, so copies of one are on the "
        "same side whatever file they came from. Near copies across the two sides are counted and "
        "shown, and can be left out.",
        {
            "data/test_prepare.py::test_a_document_and_its_copies_are_on_one_side": (
                "copies in several files"
            ),
            "data/test_sources.py::test_a_function_of_content_alone": (
                "the split, for drawn documents"
            ),
            "data/test_audit.py::test_nothing_stands_on_both_sides": "prepared data, read again",
            "data/test_audit.py::test_near_copies_are_found": "lightly edited documents",
            "data/test_minhash.py::test_copies_across_the_split_are_counted_and_shown": (
                "by `data show`"
            ),
        },
    ),
    Guarantee(
        "Errors are for people",
        "What a user can mend ends in one message that says what is wrong, where, and what to "
        "do, and exit code 2. There is no traceback; where there is one, it is a bug of ours.",
        {
            "cli/test_mistakes.py::test_a_mistake_is_answered_with_its_fix": (
                "a table of mistakes, each through the real command line"
            ),
            "runs/test_recipe.py::"
            "test_any_text_as_an_override_is_taken_or_refused_in_a_sentence": "drawn overrides",
        },
    ),
)


def page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Guarantees\n",
        "Seven promises, each with the tests under `tests/` that hold it. That each of these tests "
        "is there is tested, too.\n",
    ]
    for number, guarantee in enumerate(GUARANTEES, 1):
        parts += [f"## {number}. {guarantee.name}\n", f"{guarantee.text}\n"]
        parts += [f"- {said}: `{test}`" for test, said in guarantee.tests.items()]
        parts.append("")
    return "\n".join(parts)
