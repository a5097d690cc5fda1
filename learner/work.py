"""An update's sequences on this rank, their tokens, and the micro-batches of each step, as many on every rank.

Preparing(family, engine, config, layout).work(parts)  →  Work
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from learner.batch import Layout, MicroBatch, ModelInput, empty_micro_batch, micro_batches
from learner.config import LearnerConfig
from learner.deepspeed_engine import DistributedEngine
from learner.distillation import Telling
from learner.families import Family
from learner.pictures import Ahead
from learner.sequence import TrainingSequence
from learner.token_table import TokenTable


@dataclass(frozen=True, slots=True)
class Work:
    """What an update goes through."""

    sequences: list[TrainingSequence]
    table: TokenTable
    steps: list[list[MicroBatch]]
    looks: list[MicroBatch]
    """Those of what was played alone, to look at beforehand."""

    def batches(self) -> Iterator[MicroBatch]:
        """All micro-batches."""
        return (batch for step in self.steps for batch in step)


@dataclass(frozen=True, slots=True)
class Preparing:
    """Makes work of sequences; called alike by all ranks."""

    family: Family
    engine: DistributedEngine
    config: LearnerConfig
    layout: Layout
    telling: Telling | None = None
    """What a teacher is told, and the policy is not."""
    ahead: Ahead = field(init=False)
    """The family, in a thread that prepares pictures while others are looked at."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ahead", Ahead(self.family))

    def work(self, parts: Sequence[Sequence[TrainingSequence]]) -> Work:
        """Each part is one optimizer step's."""
        sequences = [sequence for part in parts for sequence in part]
        # Where one rank looks at pictures, all do; at stage 3 also where none does, since weights lie with all ranks.
        looks_at_any = self.engine.largest(int(any(sequence.images for sequence in sequences)))
        filler = self.family.filler() if looks_at_any or self.config.deepspeed.zero_stage == 3 else None
        shown_in_steps, played, first_number = list[list[ModelInput]](), list[ModelInput](), 0
        for part in parts:
            inputs = []
            for sequence in part:
                shown = self.family.model_input(sequence, first_number)
                if self.telling is not None and not sequence.is_demonstration:
                    shown = replace(shown, told=self.telling.told(shown))
                inputs.append(shown)
                first_number += int(sequence.is_sampled.sum())
                played += [] if sequence.is_demonstration else inputs[-1:]
            shown_in_steps.append(inputs)
        # In the order of asking, since pictures are prepared in that of batches.
        looks = None
        if self.config.looks(len(parts)) and self.engine.largest(len(sequences) - len(played)):
            looks = self._batches([replace(each, told=None) for each in played], filler)
        steps = [self._batches(inputs, filler) for inputs in shown_in_steps]
        looks = [batch for step in steps for batch in step] if looks is None else looks
        return Work(sequences, TokenTable.of(sequences, self.config), steps, looks)

    def _batches(self, inputs: Sequence[ModelInput], filler: ModelInput | None) -> list[MicroBatch]:
        """As many on every rank."""
        batches = micro_batches(
            inputs, max_tokens=self.config.micro_batch_tokens, layout=self.layout, family=self.ahead, filler=filler
        )
        missing = self.engine.largest(len(batches)) - len(batches)
        return [*batches, *(empty_micro_batch(filler, self.ahead) for _ in range(missing))]
