"""What a user can do wrong, as errors that name the key, the value, the rule and the fix.

    RuleshiftError
    ├── ConfigError     the configuration cannot be read or breaks a rule; one line per fault
    └── RunError        a run cannot go on; says who, in what phase, and what was last heard

The command line prints these as they are and exits with status 2. `Stopped` is no mistake: a command was asked to
end, and exits with status 130. Any other exception is a defect of ours.
"""


class RuleshiftError(Exception):
    """A mistake of the user's, told in the user's terms."""


class ConfigError(RuleshiftError):
    """The configuration cannot be read, or breaks a rule."""


class RunError(RuleshiftError):
    """A run cannot begin or go on: who was concerned, in what phase, and what can be done."""


class Stopped(Exception):
    """A command has ended because it was asked to: where it stands, and how to go on."""
