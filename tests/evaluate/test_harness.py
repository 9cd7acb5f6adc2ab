"""The real lm-evaluation-harness on our model and on its own Hugging Face backend: the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.cli.eval_tasks import task_records
from fromscratch.evaluate.harness import _refuse_unknown
from fromscratch.evaluate.hellaswag import HellaSwag
from fromscratch.evaluate.hellaswag_items import choose, read_hellaswag
from fromscratch.evaluate.multiple_choice import answer_items, stderr_of_share, tally_of
from fromscratch.evaluate.records import EvalRecord
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.tokenizer import Tokenizer
from tests.evaluate.benchmark_models import WHICH, huggingface_gpt2
from tests.evaluate.harness_tasks import write_tasks

pytestmark = pytest.mark.slow

N_ITEMS = 40
CONTEXT = 96  # many a question is longer
OWN = ["local_choices", "local_text", "local_answers"]


class Place(NamedTuple):
    """A model with GPT-2's vocabulary, tasks, and what the harness says of both."""

    folder: Path
    bundle: ModelBundle
    tasks: Path
    items: Path
    theirs: dict[str, Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, gpt2: Tokenizer, shared_data: Path) -> Place:
    base = tmp_path_factory.mktemp("harness")
    with open(shared_data / "hellaswag" / "hellaswag_val_600.jsonl", encoding="utf-8") as lines:
        first = [next(lines) for _ in range(N_ITEMS)]
    tasks = write_tasks(base / "tasks", first)
    bundle = huggingface_gpt2(base, gpt2, context=CONTEXT)
    return Place(base, bundle, tasks, tasks / "local_hellaswag.jsonl", _of_their_backend(base))


def _of_their_backend(base: Path) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    results = simple_evaluate(
        model=HFLM(
            pretrained=str(base),
            tokenizer=str(base),
            device="cpu",
            batch_size=8,
            dtype="float32",
            trust_remote_code=False,
        ),
        tasks=[*OWN, "local_hellaswag"],
        num_fewshot=2,
        task_manager=TaskManager(include_path=str(base / "tasks"), include_defaults=False),
    )
    assert results is not None
    return dict(results)


@pytest.fixture(scope="module")
def ours(place: Place) -> dict[str, EvalRecord]:
    records = task_records(
        place.bundle,
        WHICH,
        tasks=OWN,
        hellaswag=None,
        core=None,
        limit=None,
        batch_size=4,
        shots=2,
        include_path=place.tasks,
    )
    return {record.data.name: record for record in records}


@pytest.mark.parametrize("task", OWN)
def test_a_task_from_local_files_gives_what_the_harness_gives(place, ours, task: str):
    theirs, record = place.theirs["results"][task], ours[task]
    assert record.kind == "harness"
    assert record.model == WHICH
    names = {key.removesuffix(",none") for key in theirs if key.endswith(",none")}
    names = {name for name in names if not name.endswith("_stderr")}
    assert set(record.metrics) == names
    for name in names:
        metric, error = record.metrics[name], theirs[f"{name}_stderr,none"]
        assert metric.value == pytest.approx(theirs[f"{name},none"], rel=1e-4)
        assert metric.stderr == (None if error == "N/A" else pytest.approx(error, rel=1e-3))
        assert metric.n == len(place.theirs["samples"][task])
    assert record.settings["version"] == 3.0
    assert record.settings["shots"] == (2 if task == "local_choices" else 0)


def test_every_request_has_the_same_answer(place: Place):
    from lm_eval.api.instance import Instance

    from fromscratch.evaluate.harness_model import HarnessModel

    model = HarnessModel(place.bundle, batch_tokens=4 * CONTEXT)
    for task in OWN:
        for sample in place.theirs["samples"][task]:
            assert sample["filter"] == "none"
        samples = place.theirs["samples"][task]
        kind = {"local_choices": "loglikelihood", "local_text": "loglikelihood_rolling"}.get(
            task, "generate_until"
        )
        requests = [
            Instance(request_type=kind, doc={}, arguments=tuple(arguments), idx=0)
            for sample in samples
            for arguments in sample["arguments"]
        ]
        answers = getattr(model, kind)(requests)
        theirs = [response[0] for sample in samples for response in sample["resps"]]
        for answer, expected in zip(answers, theirs, strict=True):
            if kind == "loglikelihood":
                assert answer[0] == pytest.approx(float(expected[0]), abs=2e-3)
                assert answer[1] == (expected[1] in (True, "True"))
            elif kind == "loglikelihood_rolling":
                assert answer == pytest.approx(float(expected), rel=1e-5)
            else:
                assert answer == expected
    assert len(set(theirs)) > 3, "texts of one kind would prove little"


def test_hellaswag_is_the_harness_s_item_by_item(place: Place):
    items = read_hellaswag(str(place.items))
    data = HellaSwag(items, "harness", place.bundle.tokenizer, "file", len(items))
    answers = answer_items(place.bundle.model, data.encoded, batch_tokens=512)
    samples = place.theirs["samples"]["local_hellaswag"]
    assert [sample["doc_id"] for sample in samples] == list(range(N_ITEMS))
    for answer, sample in zip(answers, samples, strict=True):
        theirs = [float(response[0]) for response in sample["filtered_resps"]]
        assert answer.logprobs == pytest.approx(theirs, abs=2e-3)
        assert float(answer.chosen == answer.gold) == sample["acc"]
        assert float(answer.chosen_norm == answer.gold) == sample["acc_norm"]
    result, theirs = tally_of(answers), place.theirs["results"]["local_hellaswag"]
    assert result.acc == theirs["acc,none"]
    assert result.acc_norm == theirs["acc_norm,none"]
    assert stderr_of_share(result.acc, result.n) == pytest.approx(theirs["acc_stderr,none"])
    # Some are longer than the context: they lose their beginnings, each answer's another one.
    assert any(len(p.ids) > CONTEXT + 1 for item in data.encoded for p in item.passages)


def test_a_task_that_nobody_knows_and_data_that_is_not_there(place: Place):
    def run(task: str, folder: Path | None = place.tasks) -> None:
        task_records(
            place.bundle, WHICH, tasks=[task], hellaswag=None, core=None, limit=1,
            batch_size=None, shots=None, include_path=folder,
        )  # fmt: skip

    with pytest.raises(UserError, match="is not a folder"):
        run("local_choices", place.folder / "nowhere")
    with pytest.raises(UserError, match="knows no task") as caught:
        _refuse_unknown("local_choice", [*OWN, "hellaswag"])
    assert 'Did you mean "local_choices"?' in str(caught.value)
    gone = place.tasks / "gone.yaml"
    text = (place.tasks / "local_text.yaml").read_text()
    gone.write_text(text.replace("local_text.jsonl", "gone.jsonl").replace("local_text", "gone"))
    try:
        with pytest.raises(UserError, match="The data of gone cannot be had"):
            run("gone")
    finally:
        gone.unlink()


def test_hellaswag_alone_and_beside_what_is_published(place: Place):
    records = task_records(
        place.bundle, WHICH, tasks=[], hellaswag=str(place.items), core=None, limit=10,
        batch_size=2, shots=None,
    )  # fmt: skip
    assert [record.settings["style"] for record in records] == ["completion", "harness"]
    assert records[0].data.name == "hellaswag (completion)"
    chosen = choose(read_hellaswag(str(place.items)), 10)
    for record, reference in zip(records, (0.2955, 0.3114), strict=True):
        data = HellaSwag(chosen, record.settings["style"], place.bundle.tokenizer, "", N_ITEMS)
        result = tally_of(answer_items(place.bundle.model, data.encoded, batch_tokens=999))
        assert record.metrics["acc"].value == result.acc
        assert record.metrics["acc_norm"].value == result.acc_norm
        assert record.metrics["acc_norm"].reference["GPT-2 124M (all 10,042 items)"] == reference
        assert record.metrics["acc"].n == record.data.n_documents == 10
        assert EvalRecord.from_row(record.row()) == record
