"""A judgement from its folder to its result: what is there, what is missing, what came out.

In: a folder, models, items, settings. Its steps, each of which goes on where a kill left it: models
answer what they have not answered; the judge is asked what it has not been asked; the result is
written. Nothing is answered or asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fromscratch.checkpoint.bundle import ModelBundle, load_bundle
from fromscratch.evaluate.judge_answers import Contestant, answer_items, too_long
from fromscratch.evaluate.judge_asking import Estimate, ask_all, estimate, open_questions
from fromscratch.evaluate.judge_endpoint import JudgeEndpoint
from fromscratch.evaluate.judge_folder import Answer, JudgeFolder, JudgeSettings, ScoredItem
from fromscratch.evaluate.judge_items import JudgeItem
from fromscratch.evaluate.judge_results import JudgeResult, conclude, record_result, write_result
from fromscratch.foundation.errors import UserError

Advance = Callable[[str, int, int, int], None]
"""Is told what is under way, items done (those of before included), items in all, items before."""


class Judgement:
    """Models, items and a judge, with what is known about them so far.

    Args:
        folder: Where it is kept; locked by the caller.
        settings: All that changes a number.
        contestants: The models, in the order in which results show them.
        items: Those to judge, in the file's order.
        test: The test file.
        again: Ask the judge again where a score could not be read.
    """

    def __init__(
        self,
        folder: JudgeFolder,
        settings: JudgeSettings,
        contestants: Sequence[Contestant],
        items: Sequence[JudgeItem],
        test: Path,
        *,
        again: bool = False,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.contestants = contestants
        self.items = items
        self._test = test
        self._again = again
        self.answers = folder.answers()
        self.scores = folder.scores()

    def unanswered(self, contestant: Contestant) -> list[JudgeItem]:
        """The items that a model has still to answer."""
        return [i for i in self.items if (contestant.key, i.number) not in self.answers]

    def estimate(self) -> Estimate:
        """What the judge has still to be asked, at most."""
        return estimate(self.items, self.answers, self.scores, self.settings, again=self._again)

    def answer(self, loaded: ModelBundle | None, device: str, advance: Advance) -> list[str]:
        """Lets each model answer what is missing.

        Args:
            loaded: The model, if it is one that is there already.
            device: As for `resolve_device`.
            advance: Is told after each answer.

        Returns:
            Warnings.

        Raises:
            UserError: A model's weights are not what they were when this began.
        """
        warnings = []
        for contestant in self.contestants:
            missing = self.unanswered(contestant)
            if not missing:
                continue
            if loaded is None or loaded.sha256 != contestant.key:
                loaded = None  # the one before leaves the memory first
                loaded = load_bundle(contestant.name)
            if loaded.sha256 != contestant.key:
                raise UserError(
                    f"The weights of {contestant.name} changed while it was being judged.",
                    fix="Name a checkpoint that stays, not a run that trains.",
                )
            sliding = too_long(loaded, self.items, self.settings.answers)
            if sliding:
                warnings.append(
                    f"{contestant.name}: of {sliding} items of {len(self.items)}, prompt and "
                    f"answer can be longer than its context of {loaded.model.config.context} "
                    "tokens: it forgets the prompt's beginning as it writes."
                )
            before = len(self.items) - len(missing)
            stage = f"{contestant.name} answers"
            done = before

            def keep(
                item: JudgeItem,
                answer: Answer,
                key: str = contestant.key,
                stage: str = stage,
                before: int = before,
            ) -> None:
                nonlocal done
                self.folder.add_answer(key, item.number, answer)
                self.answers[key, item.number] = answer
                done += 1
                advance(stage, done, len(self.items), before)

            advance(stage, before, len(self.items), before)
            answer_items(loaded, missing, self.settings.answers, keep, device=device)
        return warnings

    async def ask(self, endpoint: JudgeEndpoint, concurrency: int, advance: Advance) -> None:
        """Asks the judge what is missing.

        Args:
            endpoint: Closed at the end.
            concurrency: Requests under way at a time.
            advance: Is told after each reply.

        Raises:
            UserError: The judge cannot be asked; what was there is kept.
        """
        questions = open_questions(
            self.items, self.answers, self.scores, self.settings, again=self._again
        )
        before = len(self.items) - len(questions)
        done = before

        def keep(item: int, scored: ScoredItem) -> None:
            nonlocal done
            self.folder.add_scores(item, scored)
            self.scores[item] = scored
            done += 1
            advance("the judge scores", done, len(self.items), before)

        async with endpoint:
            await ask_all(endpoint, questions, keep, concurrency=concurrency)

    def conclude(self, seconds: float) -> JudgeResult:
        """Writes judge.json and the runs' records.

        Args:
            seconds: Wall time of this session.
        """
        seed = self.settings.answers.seed
        result = conclude(self.contestants, self.items, self.answers, self.scores, seed)
        write_result(
            self.folder,
            result,
            self.settings,
            self.contestants,
            self.items,
            self.answers,
            self.scores,
        )
        record_result(result, self.settings, self.contestants, self.items, self._test, seconds)
        return result
