"""What a study asks, and by what it is answered: the options of compare.question."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

START = "start"
"""In a contrast, what an arm itself starts from."""


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ContrastConfig(_Options):
    """Two arms that are held against each other: `{first: rl, second: sft, by: rule_shift/success}`."""

    first: str
    """An arm as its runs are called, what a sweep adds included."""
    second: str = START
    """Another, or what the first itself starts from."""
    by: str
    """Suite and measure."""
    against: str | None = None
    """Suite and measure of the second, where these are others: of an arm that is asked otherwise, or of one policy by
    two measures."""


class FigureConfig(_Options):
    """What the answer's figure shows."""

    kind: Literal["curves", "sweep", "scatter", "bars"] = "curves"
    """`curves`: measures against compute. `sweep`: the ends of all arms against what is swept. `scatter`: the ends of
    all arms and seeds, one measure against another. `bars`: start and end of each arm."""
    x: str | None = None
    """Of a sweep, the key, as in `env.max_attempts`; of a scatter, a measure as `SUITE/MEASURE`."""
    y: tuple[str, ...] = ()
    """Measures as `SUITE/MEASURE`, a panel each."""
    gains: bool = False
    """Whether ends are drawn as how much more they are than what the arm starts from."""

    @model_validator(mode="after")
    def _has_axes(self) -> "FigureConfig":
        if self.kind in ("sweep", "scatter") and self.x is None:
            raise ValueError(f"kind={self.kind} needs x: of a sweep the key, of a scatter a measure as SUITE/MEASURE")
        if not self.y:
            raise ValueError("y is empty; name measures as SUITE/MEASURE, a panel each")
        return self


class QuestionConfig(_Options):
    """One question, as `ruleshift questions` lists it."""

    asks: str
    """In one sentence."""
    behind: tuple[str, ...] = ()
    """Files that the question's own goes over, from the repository's root."""
    figure: FigureConfig
    """What shows the answer."""
    contrasts: tuple[ContrastConfig, ...] = ()
    """What is told in words, with intervals; their p-values are corrected for how many they are."""
    measures: tuple[str, ...] = ()
    """Further columns of the table, besides those of the figure and of the contrasts."""
    efficiency: tuple[str, ...] = ()
    """Measures as `SUITE/MEASURE` of which it is told what each arm gains for what it spends, in each account."""
    selectors: tuple[str, ...] = ()
    """Measures of what arms start from, each held against what came of the start."""
    outcome: str | None = None
    """What came of it, as `SUITE/MEASURE`; needed with selectors."""
    rests_on: str = ""
    """What a reader has to know besides the numbers of tasks and seeds."""
    would_change: str
    """What would change the answer."""

    @model_validator(mode="after")
    def _selectors_have_an_outcome(self) -> "QuestionConfig":
        if self.selectors and self.outcome is None:
            raise ValueError("selectors need an outcome, as rule_shift/success, that they are held against")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every measure that the answer needs, as `SUITE/MEASURE`, in the order of the table."""
        of_figure = [*self.figure.y, *([self.figure.x] if self.figure.kind == "scatter" and self.figure.x else [])]
        of_selectors = [*([self.outcome] if self.outcome else []), *self.selectors]
        by = [name for each in self.contrasts for name in (each.by, each.against) if name]
        return tuple(dict.fromkeys([*of_figure, *by, *self.measures, *self.efficiency, *of_selectors]))
