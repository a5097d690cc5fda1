"""Demonstrations: episodes in words, for imitation.

    make_demonstrations(env, config)   →  Demonstration, Demonstration, …    played in words, by a demonstrator
    try_tasks(env, config, seeds)      ⇢  (Tried, Demonstration) of each of these tasks, solved or not
    enough(tried, config)              ⇢  those that `make_demonstrations` takes, whoever has tried
    to_episode(demonstration, chat)    →  Episode                            in the tokens of any rollout

An answer is imitated or only shown. A slip that stands in a dialogue with its verdict is shown: its tokens are part of
what the next answer is given. Files are written and read in `learner.demonstrations.files`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeVar

from envs.mixture import part_of
from envs.protocol import Env, Question
from learner.demonstrations.demonstration import (
    DemonstratedTurn,
    Demonstration,
    DemonstrationConfig,
    DemonstrationError,
    Provenance,
)
from learner.demonstrations.demonstrators import (
    answered,
    asking_recognition,
    corrupted,
    digest_of_options,
    keep_picture,
)
from learner.demonstrations.files import read_demonstrations
from verifier.hand import Hand
from verifier.protocol import Verdict

if TYPE_CHECKING:
    from rollout.episode import Episode
    from rollout.transcript import ChatTokens

MadeT = TypeVar("MadeT")

MAX_UNSOLVED = 20
"""After so many tasks in a row that the demonstrator does not solve, no more are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How a demonstrator fared at a task."""

    part: str
    """Which part of a mixture asked; empty without one."""
    name: str
    """What messages call it: `add_up/train/7`."""
    is_solved: bool
    """Whether all that was asked was answered."""
    last: str
    """What the verifier said of the last answer."""


def make_demonstrations(env: Env, config: DemonstrationConfig, *, draws: bool = True) -> Iterator[Demonstration]:
    """Plays them one after another, or reads them from `config.file`; the same ones on any machine. Unless it `draws`,
    pictures are left out of those that are played, for whoever reads words alone."""
    if config.file is not None:
        return read_demonstrations(Path(config.file))
    return enough(try_tasks(env, config, count(config.first_seed), draws=draws), config)


def enough(tried: Iterable[tuple[Tried, MadeT]], config: DemonstrationConfig) -> Iterator[MadeT]:
    """Of what has been tried, task after task, as many that were solved as the config says; DemonstrationError where
    hardly any is."""
    num_made, num_unsolved = 0, Counter[str]()
    for how, made in tried:
        if how.is_solved:
            num_made, num_unsolved[how.part] = num_made + 1, 0
            yield made
            if num_made == config.count:
                return
            continue
        num_unsolved[how.part] += 1
        if num_unsolved[how.part] == MAX_UNSOLVED:
            raise DemonstrationError(
                f"data.kind={config.kind} leaves {MAX_UNSOLVED} tasks in a row unsolved; the last answer, to "
                f"{how.name}, is {how.last}; choose another kind, "
                "or options of env and verifier under which the demonstrator's answers count as right"
            )


def try_tasks(
    env: Env, config: DemonstrationConfig, seeds: Iterable[int], *, draws: bool = True
) -> Iterator[tuple[Tried, Demonstration]]:
    """Each task's demonstration, and how the demonstrator fared at it."""
    demonstrators: dict[str, _Demonstrator] = {}
    for seed in seeds:
        part, asks = part_of(env, seed)
        if part not in demonstrators:
            demonstrators[part] = _Demonstrator(asks, config, part, draws)
        demonstration, is_solved = demonstrators[part].play(seed)
        verdict = demonstration.turns[-1].verdict
        last = f"'{verdict.outcome}' ({verdict.feedback.rstrip('.')})"
        yield Tried(part=part, name=demonstration.name, is_solved=is_solved, last=last), demonstration


def to_episode(demonstration: Demonstration, chat: "ChatTokens") -> "Episode":
    """The demonstration as if it had been rolled out: what is shown only stands before the next imitated answer.

    Two mistakes and a right answer become one turn, whose shown tokens hold both mistakes with their verdicts. What a
    context shows behind its last imitated answer is left out.
    """
    import numpy as np

    from rollout.episode import Episode, EpisodeEnd, Turn, VersionSpan

    forbidden = frozenset(chat.forbidden_token_ids)
    turns: list[Turn] = []
    shown, images, opens = [], (), True
    for turn in demonstration.turns:
        if turn.images and chat.image_token_id is None:
            raise DemonstrationError(f"{demonstration.name} shows pictures, which this model cannot see; use another")
        if turn.starts_new_context:
            shown, images, opens = chat.opening(turn.question, len(turn.images)), turn.images, True
        else:
            shown += chat.follow_up(turn.question, len(turn.images), after_end_token=True)
            images += turn.images
        answer = _answer_tokens(turn.answer, chat, forbidden, demonstration.name)
        if not turn.is_learned:
            shown += answer
            continue
        turns.append(
            Turn(
                shown_token_ids=np.array(shown, dtype=np.int32),
                sampled_token_ids=np.array(answer, dtype=np.int32),
                sampled_logprobs=np.zeros(len(answer), dtype=np.float32),
                policy_versions=(VersionSpan(0, 0, len(answer)),),
                finish="stop",
                starts_new_context=opens,
                question_text=turn.question,
                images=images,
                answer=turn.answer,
                verdict=turn.verdict,
                step=turn.step,
                attempt=turn.attempt,
            )
        )
        shown, images, opens = [], (), False
    solved = demonstration.turns[-1].verdict.correct
    return Episode(
        env=demonstration.env,
        part=demonstration.part,
        seed=demonstration.seed,
        split=demonstration.split,
        turns=tuple(turns),
        end=EpisodeEnd.SOLVED if solved else EpisodeEnd.OUT_OF_ATTEMPTS,
        pictures=demonstration.pictures,
        seconds=0.0,
    )


def _answer_tokens(answer: str, chat: "ChatTokens", forbidden: frozenset[int], name: str) -> list[int]:
    """The answer's tokens and the end token, where they read as the answer again."""
    token_ids = [*chat.tokenizer(answer, add_special_tokens=False)["input_ids"], min(chat.end_token_ids)]
    if chat.words(token_ids) != answer or not forbidden.isdisjoint(token_ids):
        raise DemonstrationError(
            f"{name}: the tokenizer does not give the answer {answer[:60]!r}… back as it is; it holds a special token "
            "or a character that the tokenizer does not know, so change or remove it"
        )
    return token_ids


class _Demonstrator:
    """Plays tasks of one environment, which may be part of a mixture."""

    def __init__(self, env: Env, config: DemonstrationConfig, part: str, draws: bool) -> None:
        if config.kind == "suboptimal" and config.num_mistakes >= env.config.max_attempts:
            raise DemonstrationError(
                f"data.num_mistakes={config.num_mistakes} leaves no attempt of "
                f"env.max_attempts={env.config.max_attempts} for the right answer; lower one or raise the other"
            )
        # The given verifier judges, so that its rewards and its preset hold for whatever is asked.
        self._judge, self._config, self._part = env.verifier.judge, config, part
        self._asked = asking_recognition(env.config) if config.kind == "recognition" else env
        self._source, self._draws = digest_of_options(self._asked.config), draws

    def play(self, seed: int) -> tuple[Demonstration, bool]:
        """The demonstration, and whether the demonstrator solved the task."""
        config = self._config
        task = f"{config.split}/{seed}"
        is_corrupted = (
            config.kind == "corrupted" and Random(f"is corrupted/{task}").random() < config.corrupted_fraction
        )
        episode = self._asked.open(seed, config.split)
        question: Question | None = episode.first_question()
        hand = question.reference if isinstance(question.reference, Hand) else None
        turns: list[DemonstratedTurn] = []
        pictures: dict[str, bytes] = {}
        while question is not None:
            answer, verdict = answered(question, episode, config, self._asked.config, self._judge, task)
            shown = answer, verdict
            if is_corrupted:
                generator = Random(f"corruption/{task}/{question.step}")
                shown = corrupted(config.corruption, question, episode, self._judge, generator)
            is_learned = verdict.correct or config.imitates_mistakes
            images = tuple(keep_picture(image, pictures) for image in question.images) if self._draws else ()
            turns.append(_turn(question, *shown, is_learned, is_first=not turns, images=images))
            # The environment never hears of a corrupted answer: what follows it is what follows the right one.
            question = episode.next_question(answer, verdict)
        demonstration = Demonstration(
            env=self._asked.config.name,
            part=self._part,
            split=config.split,
            seed=seed,
            turns=tuple(turns),
            cards=hand.labels if hand else (),
            numbers=(hand.training_numbers or hand.numbers) if hand else (),
            provenance=Provenance(kind=config.kind, is_corrupted=is_corrupted, source=self._source),
            pictures=pictures,
        )
        return demonstration, episode.solved


def _turn(
    question: Question, answer: str, verdict: Verdict, is_learned: bool, *, is_first: bool, images: tuple[str, ...]
) -> DemonstratedTurn:
    return DemonstratedTurn(
        question=question.text,
        images=images,
        answer=answer,
        is_learned=is_learned,
        starts_new_context=question.starts_new_context or is_first,
        step=question.step,
        attempt=question.attempt,
        verdict=verdict,
    )
