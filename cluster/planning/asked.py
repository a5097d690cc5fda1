"""All that a configuration asks."""

from cluster.config import Config, SuiteEnvironment, suite_environments
from envs.mixture import rules_by_key


def every_environment(config: Config) -> dict[str, SuiteEnvironment]:
    """All that is asked in training and in suites, the parts of mixtures one by one, each by the key of its options."""
    found = rules_by_key("env", config.env, config.verifier)
    for name, (env, verifier) in suite_environments(config).items():
        found |= rules_by_key(f"evaluation.suites.{name}.env", env, verifier)
    return found
