"""What an iteration computes at most, before anything starts: the ledger's arithmetic on a model's config.json.

size_of(architecture, learner)              →  ModelSize: the same that the learner counts in the loaded model
work_of(config, command, architecture, …)   →  Work, Work, …: sampling, looking, learning
traffic_at_most(config, architecture, …)    →  Traffic of so many episodes
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cluster.config import Config
from cluster.planning.architecture import OUTPUT_LAYER, Architecture
from cluster.planning.asked import every_environment
from cluster.planning.placement import Command
from envs.protocol import EnvConfig
from learner.config import LearnerConfig, LoraConfig
from learner.model_size import ModelSize, Weight, model_size
from learner.parts import is_looked_up, part_of
from rollout.traffic import Traffic

if TYPE_CHECKING:
    from cluster.planning.plan import Batch


LEARNING = "learning"
"""What the work is called that tokens are trained on by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kind of computing in an iteration: `Work(what="sampling", num_tokens=1_000, flops=1.6e13)`."""

    what: str
    """In words."""
    num_tokens: int
    """Tokens that go through the model, at most."""
    flops: float
    """Floating-point operations, at most."""


def size_of(architecture: Architecture, learner: LearnerConfig) -> ModelSize:
    """What a token costs in each part of a model that is trained so."""
    return model_size(
        _adapted(_weights(architecture, learner), learner.lora),
        (architecture.hidden_size, *learner.value_head.hidden_sizes, 1),
        critic_reaches_model=not learner.value_head.stop_gradient,
        recomputes=learner.deepspeed.gradient_checkpointing,
    )


def _weights(architecture: Architecture, learner: LearnerConfig) -> Iterator[Weight]:
    for name, shape in architecture.tensors:
        yield Weight(
            name=name,
            shape=shape,
            learns=not learner.lora.rank and part_of(name) not in learner.freeze,
            is_looked_up=is_looked_up(name),
            is_output=name.endswith("embed_tokens.weight" if architecture.is_tied else OUTPUT_LAYER),
        )


def _adapted(weights: Iterator[Weight], lora: LoraConfig) -> Iterator[Weight]:
    """With the low-rank additions, each behind the matrix that it adds to."""
    for weight in weights:
        yield weight
        layer = weight.name.removesuffix(".weight")
        is_matrix = len(weight.shape) == 2 and not weight.is_looked_up and layer != weight.name
        if lora.target_modules:
            is_target = any(f".{layer}".endswith(f".{target}") for target in lora.target_modules)
        else:
            is_target = part_of(weight.name) == "language_model" and not weight.is_output
        if lora.rank and is_matrix and is_target:
            rows, columns = weight.shape
            for name, shape in (("lora_A", (lora.rank, columns)), ("lora_B", (rows, lora.rank))):
                yield replace(weight, name=f"{layer}.{name}.weight", shape=shape, learns=True, is_output=False)


def work_of(config: Config, command: Command, architecture: Architecture, batch: "Batch") -> list[Work]:
    """Each kind of computing of an iteration, or of one evaluation."""
    learner, size = config.learner, size_of(architecture, config.learner)
    attention = config.cluster.compute.attention

    def work(what: str, traffic: Traffic, flops: int) -> Work:
        return Work(what=what, num_tokens=traffic.tokens, flops=float(flops))

    if command == "evaluate":
        return [evaluation_of(config, architecture, batch, batch.episodes_per_evaluation + batch.episodes_at_end)]
    once = traffic_at_most(config, architecture, batch, batch.num_episodes)
    beside = 0 if command == "sft" else _num_demonstrations(config)
    imitated = traffic_at_most(config, architecture, batch, beside)
    learned = (once + imitated).times(learner.epochs)
    found, new = [], once + imitated
    if command in ("rl", "compare"):
        # Groups that are drawn anew are played, and not learned from.
        played = replace(once, valued=0).times(1 + learner.advantage.num_redraws)
        found.append(work("sampling", played, size.forward(played, attention=attention)))
        looks = learner.looks_for_logprobs(learner.minibatches)
        if (looks or learner.advantage.needs_values) and not learner.imitate_successes:
            # Where only values are wanted, the output layer does not run.
            seen = once if looks else replace(once, scored=0)
            found.append(work("log-probabilities and values beforehand", seen, size.look(seen, attention=attention)))
            new = imitated
    plays = command != "sft" and not learner.imitate_successes
    if learner.asks_the_start if plays else learner.sft.kl_coefficient:
        compared = once if plays else learned
        found.append(work("the initial policy's opinion", compared, size.forward(compared, attention=attention)))
    if learner.distillation.teacher and command != "sft":
        # A character is a token at most.
        told = len(learner.distillation.context.encode()) + bool(learner.distillation.context)
        asked = replace(learned, tokens=learned.tokens + told * batch.num_episodes * batch.contexts_per_episode)
        found.append(work("the teacher's opinion", asked, size.forward(asked, attention=attention)))
    if learner.keeps_pictures:
        pictures = {name: getattr(new, name) for name in ("picture_tokens", "patches", "patch_pairs")}
        learned = replace(learned, **pictures)
    kept = size_of(architecture, _that_keeps_activations(learner)).learn(learned, attention=attention)
    found.append(work(LEARNING, learned, kept))
    if learner.deepspeed.gradient_checkpointing:
        again = size.learn(learned, attention=attention) - kept
        found.append(work("activations again (checkpointing)", learned, again))
    return found


def _num_demonstrations(config: Config) -> int:
    """How many an update of `rl` imitates besides, at most."""
    cluster = config.cluster
    num_tasks = cluster.tasks_per_iteration * (1 + config.learner.advantage.num_redraws)
    return cluster.demonstrations_per_iteration + num_tasks * cluster.demonstrate_failed


def evaluation_of(config: Config, architecture: Architecture, batch: "Batch", num_episodes: int) -> Work:
    """Playing so many episodes without learning from them."""
    traffic = replace(traffic_at_most(config, architecture, batch, num_episodes), valued=0)
    size, attention = size_of(architecture, config.learner), config.cluster.compute.attention
    return Work(what="sampling", num_tokens=traffic.tokens, flops=float(size.forward(traffic, attention=attention)))


def _that_keeps_activations(learner: LearnerConfig) -> LearnerConfig:
    keeps = learner.deepspeed.model_copy(update={"gradient_checkpointing": False})
    return learner.model_copy(update={"deepspeed": keeps})


def traffic_at_most(config: Config, architecture: Architecture, batch: "Batch", num_episodes: int) -> Traffic:
    """Of so many episodes at their longest, each dialogue with its picture where any is shown."""
    dialogues, length = num_episodes * batch.contexts_per_episode, config.rollout.engine.max_context_tokens
    drawn = num_episodes * (batch.num_answers // batch.num_episodes) * config.rollout.max_answer_tokens
    scored = min(drawn, dialogues * length)
    widest = max(_picture_size(env) for env, _ in every_environment(config).values())
    of_words = Traffic(
        tokens=dialogues * length,
        scored=scored,
        valued=scored + dialogues,
        pairs=dialogues * length * (length + 1) // 2,
    )
    return of_words + _picture(architecture, widest).times(dialogues) if widest else of_words


def _picture_size(env: EnvConfig) -> int:
    """Pixels along a side of what an environment shows; 0 where it shows nothing."""
    if getattr(env, "modality", "text") != "pictures":
        return 0
    look = getattr(env, "look", None)
    return getattr(look, "size", None) or getattr(env, "image_size", 0)


def _picture(architecture: Architecture, pixels: int) -> Traffic:
    """A picture in one piece, as large as the model takes it."""
    if not architecture.has_eyes:
        return Traffic()
    piece = architecture.patch_size * architecture.merged
    tokens = -(-(architecture.picture_size or pixels) // piece)
    patches = (tokens * architecture.merged) ** 2
    return Traffic(picture_tokens=tokens**2, patches=patches, patch_pairs=patches**2)
