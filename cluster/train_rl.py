"""`ruleshift rl`: play, learn, push, again.

    for each iteration:  evaluate if due → push → roll out → learn → record → checkpoint if due

With `rollout.max_policy_lag` of 1 or more, the episodes of the next iterations are played while the learner learns
(iteration/play_ahead.py). What is learned from, and what is recorded of it, stands in iteration/played.py.
"""

from pathlib import Path

from cluster.config import Config
from cluster.groups.crew import Crew
from cluster.groups.learner_group import EpisodesLost
from cluster.iteration.imitated import Demonstrations
from cluster.iteration.play_ahead import PlayAhead
from cluster.iteration.played import charge, choose, items_of, transcripts
from cluster.iteration.rows import Episodes, counted, learner_row, parts_row, rollout_row, share_solved
from cluster.open_training import open_training
from cluster.stopping import StopRequest
from cluster.training import Training
from learner.learner import UpdateReport
from learner.worker import Item


def train_rl(
    config: Config,
    resume: Path | None = None,
    at: Path | None = None,
    stop: StopRequest | None = None,
    crew: Crew | None = None,
) -> Path:
    """Train by play; the run's folder."""
    with open_training(config, "rl", resume, at, stop, crew) as run:
        ahead = PlayAhead(run)
        beside = Demonstrations(run, config.cluster.demonstrations_per_iteration)
        while run.goes_on():
            with run.supervisor.iteration():
                run.evaluate_if_due()
                if run.is_over:
                    with run.phase("checkpoint"):
                        run.save(wait=True)  # of what nobody knew to be the last
                    continue
                run.push()
                with run.phase("rollout"):
                    played = ahead.next(run.iteration)
                version = run.actors.learner.version()
                try:
                    chosen, items, report = _learned(run, played, version, beside)
                except EpisodesLost as lost:
                    played = ahead.again(run.iteration, played, lost)
                    chosen, items, report = _learned(run, played, version, beside)
                charge(run, played, items, report)
                of_play = rollout_row(played, chosen, version=version, max_lag=config.rollout.max_policy_lag)
                run.end_iteration({**of_play, **parts_row(played, counted(items, report)), **learner_row(report)})
        ahead.leave()  # of iterations that a budget has no room for
        run.supervisor.repeat(run.finish)
        return run.directory.path


def _learned(
    run: Training, played: Episodes, version: int, beside: Demonstrations
) -> tuple[Episodes, list[Item], UpdateReport]:
    """What was chosen of the episodes, what was learned from, and what came of that."""
    with transcripts(played, run):
        chosen = choose(played, version, run.config)
        items = [*items_of(chosen), *beside.of_step(run.iteration, first_group=len(chosen))]
        items += beside.of_failed(played, first_group=len(items))
        return chosen, items, run.learn(items, share_solved(played))
