"""What was said in episodes: transcripts to read, and records that a report is made of.

choose_episodes(played, …)             which are worth reading: {"best": [4], "worst": [7, 2], …}
write_transcripts(run, …)              episodes/<name>.md, with its pictures in images/
transcribe(run, …)                     both; transcribe_references where the episodes are elsewhere
append_episodes(path, episodes, …)     one JSON line for each episode
read_episodes(path)  →  [EpisodeRecord, …]
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Protocol

from cluster.record.files import DamagedRecord, append_rows, read_rows, replace
from cluster.record.run_directory import RunDirectory
from rollout.episode import Episode, EpisodeEnd, Turn

DIGITS = 4
"""Of log-probabilities in records; a colour on a screen shows fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One question and its answer, as a report shows them."""

    step: int
    attempt: int
    starts_new_context: bool
    question_text: str
    images: tuple[str, ...]
    """The digests of its pictures, each `images/<digest>.png` in the run's folder."""
    answer: str
    finish: str
    outcome: str
    correct: bool
    reward: float
    feedback: str
    checks: Mapping[str, bool]
    spans: tuple[tuple[str, int, int], ...]
    """Label, first character and end of the parts of the answer."""
    logprobs: tuple[float | None, ...]
    """One for each sampled token; None where it was no number."""
    token_ends: tuple[int, ...] = ()
    """Where each token ends in the answer, where a tokenizer was at hand: the tokens' strings are the pieces."""
    policy_version: int | None = None
    """The oldest version of the policy that drew a token of it."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The strings of the tokens, which make up the answer; the end token is the empty one."""
        return tuple(self.answer[start:end] for start, end in pairwise((0, *self.token_ends)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """An episode as a report shows it, and what it was played for.

    `EpisodeRecord(suite="rule_shift", arm="sft", iteration=40, temperature=1.0, env="general_points", seed=7, …)`
    """

    suite: str
    """The suite that it was played for; empty for training."""
    arm: str
    """The arm of a comparison; empty where there is none."""
    iteration: int
    """How many updates the policy had had."""
    temperature: float
    """At which it was drawn."""
    env: str
    seed: int
    split: str
    part: str = ""
    """Which part of a mixture asked; empty without one."""
    sample: int
    end: str
    reward: float
    seconds: float
    error: str | None
    turns: tuple[TurnRecord, ...]


class Summary(Protocol):
    """What choosing needs to know of an episode; the driver knows it without the episode."""

    @property
    def end(self) -> EpisodeEnd:
        """Why it was over."""
        ...

    @property
    def reward(self) -> float:
        """What it earned."""
        ...


class TokenEnds(Protocol):
    """Who knows where tokens end in an answer: `ChatTokens`."""

    def character_ends(self, token_ids: Sequence[int]) -> list[int]:
        """For each token, how many characters stand up to its end."""
        ...


def choose_episodes(
    played: Sequence[Summary], *, best: int = 2, worst: int = 2, random: int = 2, seed: int = 0
) -> dict[str, list[int]]:
    """The positions of the episodes to read, none twice: `random` ones are drawn by the seed from what the best and
    the worst leave, and of the failed ones it is all."""
    positions = range(len(played))
    broken = [index for index in positions if played[index].end is EpisodeEnd.FAILED]
    by_reward = sorted(set(positions) - set(broken), key=lambda index: (-played[index].reward, index))
    chosen = {"best": by_reward[:best]}
    left = by_reward[best:]
    chosen["worst"] = left[len(left) - worst :][::-1] if worst < len(left) else left[::-1]
    left = left[: len(left) - len(chosen["worst"])]
    chosen["random"] = Random(seed).sample(left, min(random, len(left)))
    chosen["failed"] = broken
    return chosen


def write_transcripts(run: RunDirectory, name: str, chosen: Mapping[str, Sequence[Episode]], *, title: str) -> Path:
    """Write the chosen episodes, under why they were chosen, as Markdown into `episodes/<name>.md`."""
    lines = [f"# {title}"]
    for reason, episodes in chosen.items():
        for episode in episodes:
            keep_pictures(run, episode)
            lines += ["", *_transcript(reason, episode)]
    path = run.episodes / f"{name}.md"
    replace(path, "\n".join([*lines, ""]).encode(errors="replace"))
    return path


def transcribe(run: RunDirectory, name: str, episodes: Sequence[Episode], *, title: str, seed: int = 0) -> Path:
    """Write those of the episodes that are worth reading."""
    positions = choose_episodes(episodes, seed=seed)
    chosen = {reason: [episodes[index] for index in indices] for reason, indices in positions.items()}
    return write_transcripts(run, name, chosen, title=title)


def transcribe_references(folder: str, name: str, chosen: Mapping[str, Sequence[Any]], title: str) -> None:
    """A Ray task for whoever has no more of the episodes than their references; nobody else fetches them."""
    import ray

    fetched = {reason: ray.get(list(references)) for reason, references in chosen.items()}
    write_transcripts(RunDirectory(Path(folder)), name, fetched, title=title)


def keep_pictures(run: RunDirectory, episode: Episode) -> None:
    """Put the episode's pictures into `images/`, those that are there already excepted."""
    for digest, content in episode.pictures.items():
        path = run.images / f"{digest}.png"
        if not path.exists():
            replace(path, content)


def append_episodes(
    path: Path,
    episodes: Iterable[Episode],
    *,
    suite: str = "",
    arm: str = "",
    iteration: int,
    temperature: float,
    chat: TokenEnds | None = None,
) -> None:
    """Write a record of each episode behind those that are there; with `chat`, their tokens can be told apart."""
    context = {"suite": suite, "arm": arm, "iteration": iteration, "temperature": temperature}
    append_rows(path, [asdict(_record(episode, context, chat)) for episode in episodes])


def read_episodes(path: Path) -> list[EpisodeRecord]:
    """All records of a file that were written whole."""
    records = []
    for number, row in enumerate(read_rows(path), start=1):
        try:
            turns = tuple(_turn_record(turn) for turn in row.pop("turns"))
            records.append(EpisodeRecord(**row, turns=turns))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedRecord(f"{path}, line {number}: not the record of an episode ({error})") from None
    return records


def _turn_record(row: Mapping[str, Any]) -> TurnRecord:
    lists = {field.name for field in fields(TurnRecord)} & {"images", "logprobs", "token_ends"}
    spans = tuple((label, start, end) for label, start, end in row["spans"])
    return TurnRecord(**{**row, **{name: tuple(row[name]) for name in lists}, "spans": spans})


def _record(episode: Episode, context: Mapping[str, Any], chat: TokenEnds | None) -> EpisodeRecord:
    return EpisodeRecord(
        **context,
        env=episode.env,
        part=episode.part,
        seed=episode.seed,
        split=episode.split,
        sample=episode.sample,
        end=str(episode.end),
        reward=episode.reward,
        seconds=round(episode.seconds, DIGITS),
        error=episode.error,
        turns=tuple(_recorded(turn, chat) for turn in episode.turns),
    )


def _recorded(turn: Turn, chat: TokenEnds | None) -> TurnRecord:
    return TurnRecord(
        step=turn.step,
        attempt=turn.attempt,
        starts_new_context=turn.starts_new_context,
        question_text=turn.question_text,
        images=turn.images,
        answer=turn.answer,
        finish=turn.finish,
        outcome=turn.verdict.outcome,
        correct=turn.verdict.correct,
        reward=turn.verdict.reward,
        feedback=turn.verdict.feedback,
        checks=dict(turn.verdict.checks),
        spans=tuple((span.label, span.start, span.end) for span in turn.verdict.spans),
        logprobs=tuple(round(float(logprob), DIGITS) for logprob in turn.sampled_logprobs),
        token_ends=tuple(chat.character_ends(turn.sampled_token_ids.tolist())) if chat is not None else (),
        policy_version=min((span.version for span in turn.policy_versions), default=None),
    )


def _transcript(reason: str, episode: Episode) -> list[str]:
    sample = f", sample {episode.sample}" if episode.sample else ""
    lines = [
        f"## {reason}: {episode.env} {episode.split} {episode.seed}{sample}",
        "",
        f"{episode.end}, reward {episode.reward:g}, {len(episode.turns)} answers, "
        f"{episode.num_sampled_tokens} tokens drawn, {episode.seconds:.1f} s",
    ]
    for turn in episode.turns:
        verdict = turn.verdict
        lines += ["", f"### step {turn.step}, attempt {turn.attempt}", ""]
        lines += [f"![the picture](../images/{digest}.png)" for digest in turn.images]
        lines += [*_fenced(turn.question_text), "", *_fenced(turn.answer), ""]
        lines.append(f"**{verdict.outcome}** ({verdict.reward:+g}): {_one_line(verdict.feedback)}")
        passed = ", ".join(f"{name} {'yes' if passed else 'no'}" for name, passed in verdict.checks.items())
        lines += ["", passed] if passed else []
    if episode.error:
        lines += ["", *_fenced(episode.error)]
    return lines


def _fenced(text: str) -> list[str]:
    """A block that the text cannot end, whatever it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, text, fence]


def _one_line(text: str) -> str:
    return " ".join(text.split())
