"""`ruleshift evaluate`: measures checkpoints of a run that has ended, or a model that no run has made.

evaluate_run(config, run)    fills evaluations.jsonl of the run, for each checkpoint that it kept
evaluate_model(config)       a run of no iterations, whose only policy is learner.model
"""

from pathlib import Path

from cluster.config import Config
from cluster.open_training import open_training


def evaluate_run(config: Config, run: Path, *, every: bool) -> None:
    """Measure the newest checkpoint, or every one; what has been measured stays, and is not measured again."""
    with open_training(config, "evaluate", run) as training:
        checkpoints = training.directory.checkpoints()
        for _, folder in checkpoints if every else checkpoints[-1:]:
            training.load(folder)
            training.evaluate()
    print(run)


def evaluate_model(config: Config) -> None:
    """Measure `learner.model`."""
    with open_training(config, "evaluate") as training:
        training.evaluate(is_final=True)
        print(training.directory.path)
