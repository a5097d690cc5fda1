"""Demonstrations: episodes in words, for imitation.

    make_demonstrations(env, config)   →  Demonstration, Demonstration, …    played in words, by a demonstrator
    demonstrate(env, config, seeds)    →  the same, of these tasks
    to_episode(demonstration, chat)    →  Episode                            in the tokens of any rollout

An answer is imitated or only shown. A slip that stands in a dialogue with its verdict is shown: its tokens are part of
what the next answer is given. Files are written and read in `learner.demonstrations.files`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

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

MAX_UNSOLVED = 20
"""After so many tasks in a row that the demonstrator does not solve, no more are tried."""


def make_demonstrations(env: Env, config: DemonstrationConfig) -> Iterator[Demonstration]:
    """Plays them one after another, or reads them from `config.file`; the same ones on any machine."""
    if config.file is not None:
        yield from read_demonstrations(Path(config.file))
        return
    num_made, num_unsolved = 0, Counter[str]()
    for demonstration, solved in _played(env, config, count(config.first_seed)):
        part = demonstration.part
        if solved:
            num_made, num_unsolved[part] = num_made + 1, 0
            yield demonstration
            if num_made == config.count:
                return
            continue
        num_unsolved[part] += 1
        if num_unsolved[part] == MAX_UNSOLVED:
            verdict = demonstration.turns[-1].verdict
            raise DemonstrationError(
                f"data.kind={config.kind} leaves {MAX_UNSOLVED} tasks in a row unsolved; the last answer, to "
                f"{demonstration.name}, is '{verdict.outcome}' ({verdict.feedback.rstrip('.')}); choose another kind, "
                "or options of env and verifier under which the demonstrator's answers count as right"
            )


def demonstrate(env: Env, config: DemonstrationConfig, seeds: Iterable[int]) -> Iterator[Demonstration]:
    """Of these tasks, those that the demonstrator solves."""
    return (demonstration for demonstration, solved in _played(env, config, seeds) if solved)


def _played(env: Env, config: DemonstrationConfig, seeds: Iterable[int]) -> Iterator[tuple[Demonstration, bool]]:
    """Each task's demonstration, and whether the demonstrator solved it."""
    demonstrators: dict[str, _Demonstrator] = {}
    for seed in seeds:
        part, asks = part_of(env, seed)
        if part not in demonstrators:
            demonstrators[part] = _Demonstrator(asks, config, part)
        yield demonstrators[part].play(seed)


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

    def __init__(self, env: Env, config: DemonstrationConfig, part: str) -> None:
        if config.kind == "suboptimal" and config.num_mistakes >= env.config.max_attempts:
            raise DemonstrationError(
                f"data.num_mistakes={config.num_mistakes} leaves no attempt of "
                f"env.max_attempts={env.config.max_attempts} for the right answer; lower one or raise the other"
            )
        # The given verifier judges, so that its rewards and its preset hold for whatever is asked.
        self._judge, self._config, self._part = env.verifier.judge, config, part
        self._asked = asking_recognition(env.config) if config.kind == "recognition" else env
        self._source = digest_of_options(self._asked.config)

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
            turns.append(_turn(question, *shown, is_learned, is_first=not turns, pictures=pictures))
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
    question: Question, answer: str, verdict: Verdict, is_learned: bool, *, is_first: bool, pictures: dict[str, bytes]
) -> DemonstratedTurn:
    return DemonstratedTurn(
        question=question.text,
        images=tuple(keep_picture(image, pictures) for image in question.images),
        answer=answer,
        is_learned=is_learned,
        starts_new_context=question.starts_new_context or is_first,
        step=question.step,
        attempt=question.attempt,
        verdict=verdict,
    )
