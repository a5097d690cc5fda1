"""Plays an episode in words, in the terminal: the way to see and debug an environment.

    play(env, player, seed=0, split="train", show=print, save_pictures=…)  →  Outcome

A player is whoever answers: a person at the keyboard, the demonstrator, or a learner that slips at random.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from PIL.Image import Image

from envs._routes.printable import printable
from envs.protocol import Env, OpenEpisode, Question, Split

Show = Callable[[str], None]


class Player(Protocol):
    """Answers questions."""

    def answer(self, question: Question, episode: OpenEpisode) -> str | None:
        """The answer; None to give up the episode."""
        ...


class ExpertPlayer:
    """Gives the demonstration."""

    def answer(self, question: Question, episode: OpenEpisode) -> str | None:
        """The expert's answer."""
        return question.expert_answer


class RandomPlayer:
    """Makes a mistake where a coin says so; one that revises errs at its first attempts only."""

    def __init__(self, seed: int, *, revises: bool = False) -> None:
        self._generator = Random(f"random player/{seed}")
        self._revises = revises

    def answer(self, question: Question, episode: OpenEpisode) -> str | None:
        """A mistake or the expert's answer."""
        may_err = question.attempt == 1 or not self._revises
        if may_err and self._generator.random() < 0.5:
            return episode.mistake(self._generator)
        return question.expert_answer


class HumanPlayer:
    """Asks the person at the keyboard; an answer ends with its line, or with the line that closes its braces."""

    def __init__(self, read_line: Callable[[str], str], show: Show) -> None:
        self._read_line = read_line
        self._show = show

    def answer(self, question: Question, episode: OpenEpisode) -> str | None:
        """What is typed, over one line or several; None at the end of input or for `quit`."""
        self._show("Your answer (JSON; `expert` shows one, `quit` ends):")
        lines: list[str] = []
        while True:
            try:
                line = self._read_line("> ").rstrip()
            except EOFError:
                return None
            if not lines and line == "quit":
                return None
            if not lines and line == "expert":
                self._show(printable(question.expert_answer))
            elif lines or line:
                lines.append(line)
                text = "\n".join(lines)
                if not line or text.count("{") <= text.count("}"):
                    return text.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an episode went; solved at the second attempt: `Outcome(solved=True, num_answers=2, reward=4.0)`."""

    solved: bool
    num_answers: int
    reward: float
    gave_up: bool = False


def play(
    env: Env,
    player: Player,
    *,
    seed: int,
    split: Split,
    show: Show,
    save_pictures: Callable[[Sequence[Image]], list[Path]],
) -> Outcome:
    """One episode, shown as it goes; what a model answers or a data set names cannot command the terminal."""
    episode = env.open(seed, split)
    question: Question | None = episode.first_question()
    num_answers, reward = 0, 0.0
    while question is not None:
        show(_heading(question, num_answers))
        if question.starts_new_context and num_answers:
            show("(The dialogue starts afresh here; what stands above is forgotten.)")
        for path in save_pictures(question.images):
            show(f"[picture: {path}]")
        show(printable(question.text))
        answer = player.answer(question, episode)
        if answer is None:
            return Outcome(solved=False, num_answers=num_answers, reward=reward, gave_up=True)
        verdict = env.verifier.judge(answer, question.reference)
        show(printable(f"\n{answer}\n"))
        checks = "".join(f" · {name}: {'yes' if passed else 'no'}" for name, passed in verdict.checks.items())
        show(printable(f"→ {verdict.outcome} ({verdict.reward:+g}) {verdict.feedback}{checks}"))
        num_answers, reward = num_answers + 1, reward + verdict.reward
        question = episode.next_question(answer, verdict)
    return Outcome(solved=episode.solved, num_answers=num_answers, reward=reward)


def picture_saver(folder: Path, stem: str) -> Callable[[Sequence[Image]], list[Path]]:
    """Saves the pictures of one episode under `folder`, numbered as they come."""
    num_saved = 0

    def save(images: Sequence[Image]) -> list[Path]:
        nonlocal num_saved
        paths = []
        for image in images:
            num_saved += 1
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{stem}_{num_saved:02d}.png"
            image.save(path)
            paths.append(path)
        return paths

    return save


def _heading(question: Question, num_answers: int) -> str:
    step = f"step {question.step}, " if question.step > 1 or question.starts_new_context else ""
    return f"{'' if num_answers == 0 else chr(10)}── {step}attempt {question.attempt} " + "─" * 40
