"""`ruleshift sft`: imitate demonstrations; the learner, evaluations and records are those of `rl`.

for each iteration:  evaluate if due → one optimizer step on the next demonstrations → record → checkpoint if due
"""

from pathlib import Path

from cluster.config import Config
from cluster.groups.crew import Crew
from cluster.iteration.imitated import Demonstrations
from cluster.iteration.rows import counted, learner_row, parts_row
from cluster.open_training import open_training
from cluster.stopping import StopRequest


def train_sft(
    config: Config,
    resume: Path | None = None,
    at: Path | None = None,
    stop: StopRequest | None = None,
    crew: Crew | None = None,
) -> Path:
    """Train by imitation; the run's folder."""
    with open_training(config, "sft", resume, at, stop, crew) as run:
        demonstrations = Demonstrations(run, config.cluster.episodes_per_iteration)
        while run.goes_on():
            with run.supervisor.iteration():
                run.evaluate_if_due()
                if run.is_over:
                    with run.phase("checkpoint"):
                        run.save(wait=True)  # of what nobody knew to be the last
                    continue
                items = demonstrations.of_step(run.iteration)
                report = run.learn(items)
                run.charge_update(report, items)
                run.end_iteration({**parts_row([], counted(items, report)), **learner_row(report)})
        run.supervisor.repeat(run.finish)
        return run.directory.path
