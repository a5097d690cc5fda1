"""What was asked in played episodes, and how the same answers fare under the rule of training.

    Asked(env).of(episode, turn)                       what only the verifier knew of that question
    TrainingRule(asked, training_env).is_right(…)      whether that answer is right under the training rule

An episode keeps words and verdicts. What an answer was held against is found by opening the same task of the same
environment again, which seed and split decide.
"""

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any

from envs.mixture import part_of
from envs.protocol import Env, Question, Split
from rollout.episode import Episode, Turn
from verifier.hand import Hand
from verifier.navigation import Position, same_action


class Asked:
    """The questions of an environment's tasks, each opened once and kept."""

    def __init__(self, env: Env) -> None:
        """`env` is made of the very options that the episodes were played under."""
        self.env = env
        self._found: dict[tuple[Split, int], tuple[tuple[str, Any], ...]] = {}

    def of(self, episode: Episode, turn: Turn) -> Any:
        """What this answer was held against."""
        questions = self._questions(episode)
        text, reference = questions[turn.step - 1] if turn.step <= len(questions) else ("", None)
        if reference is None or (turn.attempt == 1 and turn.question_text != text):
            raise ValueError(
                f"step {turn.step} of task {episode.split}/{episode.seed} of {episode.env} is not what the episode was "
                "asked: it was played under other options of the environment"
            )
        return reference

    def same_step(self, episode: Episode, turn: Turn) -> Any:
        """What is asked at that step of that task here, where it may be asked in other words; None where nothing is."""
        questions = self._questions(episode)
        return questions[turn.step - 1][1] if turn.step <= len(questions) else None

    def knows(self, episode: Episode) -> bool:
        """Whether the episode is one of this environment's, or of the part of it that its seed is of."""
        return episode.env in (self.env.config.name, part_of(self.env, episode.seed)[1].config.name)

    def cluster(self, episode: Episode) -> Hashable:
        """Which problem it is: hands with equal numbers are one, and so are walks along one route."""
        reference = self._questions(episode)[0][1]
        if isinstance(reference, Hand):
            return (tuple(sorted(reference.numbers)), reference.target)
        if isinstance(reference, Position):
            # Routes bear no names here; the places that stand along one are as good.
            return frozenset({*reference.other_landmarks, reference.landmark} - {None})
        return (episode.env, episode.split, episode.seed)

    def _questions(self, episode: Episode) -> tuple[tuple[str, Any], ...]:
        """Text and reference of each step in turn."""
        if not self.knows(episode):
            raise ValueError(f"an episode of {episode.env} was not asked by {self.env.config.name}")
        key = (episode.split, episode.seed)
        if key not in self._found:
            self._found[key] = tuple(self._walk(episode.split, episode.seed))
        return self._found[key]

    def _walk(self, split: Split, seed: int) -> Iterable[tuple[str, Any]]:
        """One who answers everything right meets every step once."""
        _, env = part_of(self.env, seed)
        episode = env.open(seed, split)
        question: Question | None = episode.first_question()
        while question is not None:
            yield question.text, question.reference
            verdict = env.verifier.judge(question.expert_answer, question.reference)
            question = episode.next_question(question.expert_answer, verdict)


class TrainingRule:
    """Judges answers to a shifted environment's questions as if its tasks stood under the training rule."""

    def __init__(self, asked: Asked, training_env: Env) -> None:
        """`training_env` is the same environment under the rule of training."""
        names = asked.env.config.name, training_env.config.name
        if names[0] != names[1]:
            raise ValueError(f"fixation: {names[1]} has no rule for the questions of {names[0]}; name the same one")
        self._asked = asked
        self._training = Asked(training_env)

    def is_right(self, episode: Episode, turn: Turn) -> bool | None:
        """Whether the answer is right under the training rule; None where both rules ask for the same."""
        asked = self._asked.of(episode, turn)
        part, env = part_of(self._training.env, episode.seed)
        if isinstance(asked, Hand):
            trained, is_same = self._hand(asked, env.config)
        elif isinstance(asked, Position):
            trained, is_same = self._position(asked, episode, turn)
        elif part:
            return None  # another part of the mixture has a rule that shifts
        else:
            raise ValueError(f"fixation: {self._training.env.config.name} has no training rule to judge by")
        return None if is_same else env.verifier.judge(turn.answer, trained).correct

    def _hand(self, asked: Hand, config: Any) -> tuple[Hand, bool]:
        """The cards decide: the same seed may be another hand in training, where others can be solved."""
        if not hasattr(config, "face_cards"):
            raise ValueError(f"fixation: {config.name} has no rule of what cards count")
        trained = replace(asked, numbers=config.face_cards.numbers(asked.labels), target=config.target)
        is_same = (sorted(trained.numbers), trained.target) == (sorted(asked.numbers), asked.target)
        return trained, is_same or asked.asks == "cards"

    def _position(self, asked: Position, episode: Episode, turn: Turn) -> tuple[Position, bool]:
        """The same seed is the same walk, whatever its turns are called."""
        trained = self._training.same_step(episode, turn)
        if trained is None or (trained.landmark, trained.intersection) != (asked.landmark, asked.intersection):
            raise ValueError(
                f"fixation: step {turn.step} of task {episode.split}/{episode.seed} is another place under the "
                "training options; let nothing differ but `actions`"
            )
        is_same = same_action(trained.action, asked.action) or asked.asks == "recognition"
        return replace(asked, action=trained.action), is_same
