"""Whether the model is there, is whole, and can do what it is asked to."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cluster.config import Config
from cluster.faults import Finding, hint, note
from cluster.planning.architecture import KNOWN, Architecture, UnreadableModel, known_architecture, read_architecture
from cluster.planning.asked import every_environment
from cluster.planning.placement import Command

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
WEIGHT_FILES = ("*.safetensors", "*.bin")
SEE_FILMS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Families whose processor takes films too."""
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""What vLLM's attention on CPUs computes."""


def architecture_of(config: Config, *, elsewhere: bool = False) -> Architecture | None:
    """Of `learner.model`, if it can be read, or known by its name where that will do."""
    if config.learner.model is None:
        return None
    try:
        return read_architecture(Path(config.learner.model))
    except (OSError, UnreadableModel):
        return known_architecture(config.learner.model) if elsewhere else None


def model_findings(config: Config, command: Command, *, elsewhere: bool) -> Iterator[Finding]:
    """Of the folder, then of what is in it."""
    folder_findings = list(_folder(config.learner.model, elsewhere=elsewhere))
    yield from folder_findings
    architecture = architecture_of(config, elsewhere=elsewhere)
    if architecture is None:
        return
    yield from _abilities(config, architecture, elsewhere=elsewhere)
    yield from _engine(config, architecture)
    if command != "evaluate":
        yield from _training(config, architecture)


def _folder(model: str | None, *, elsewhere: bool) -> Iterator[Finding]:
    key = "learner.model"
    if model is None:
        yield Finding(
            key=key,
            value=None,
            rule="there is no policy to begin with",
            fix="name the folder of a model, as save_pretrained writes it, in learner.model",
        )
        return
    folder = Path(model)
    if not folder.is_dir():
        if not elsewhere:
            near = [str(other) for other in folder.parent.glob("*/")] if folder.parent.is_dir() else []
            fix = hint(model, near, "beside it are") if near else "fetch the model into that folder, or name another"
            yield Finding(key=key, value=model, rule="no such folder", fix=f"{fix}; or plan with --elsewhere")
        elif known_architecture(model) is None:
            names = ", ".join(KNOWN)
            yield note(
                key,
                model,
                "it is not here, and its name tells nothing of its size, so memory and compute stay open",
                f"plan where it is, or with a name that begins like one of {names}",
            )
        return
    missing = None
    if not (folder / "config.json").is_file():
        missing = "config.json"
    elif not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing = "tokenizer"
    elif not any(next(folder.glob(pattern), None) for pattern in WEIGHT_FILES):
        missing = "weights (*.safetensors)"
    if missing:
        yield Finding(
            key=key,
            value=model,
            rule=f"the folder has no {missing}",
            fix="name the folder that save_pretrained wrote, with the tokenizer saved into it too",
        )
        return
    try:
        read_architecture(folder)
    except UnreadableModel as error:
        yield Finding(key=key, value=model, rule=str(error), fix="name another model")


def _abilities(config: Config, architecture: Architecture, *, elsewhere: bool) -> Iterator[Finding]:
    model = config.learner.model
    asked = every_environment(config)
    shows = [key for key, (env, _) in asked.items() if getattr(env, "modality", "text") == "pictures"]
    if shows and not architecture.has_eyes:
        yield Finding(
            key="learner.model",
            value=model,
            rule=f"{architecture.model_type} cannot see, and {shows[0]}.modality=pictures",
            fix="name a model that can, as models/Qwen2.5-VL-7B-Instruct, or set modality=text",
        )
    if architecture.model_type == "mllama":
        yield Finding(
            key="learner.model",
            value=model,
            rule="vLLM no longer has mllama",
            fix="for tasks in words use its text part, which is Llama-3.1-8B-Instruct; for pictures Qwen2.5-VL",
        )
    if architecture.model_type in SEE_FILMS and not elsewhere and find_spec("torchvision") is None:
        yield note(
            "learner.model",
            model,
            f"vLLM's processor of {architecture.model_type} needs torchvision, which is not installed",
            "install the build of torchvision that belongs to this torch, or use an Idefics3",
        )


def _engine(config: Config, architecture: Architecture) -> Iterator[Finding]:
    engine = config.rollout.engine
    if architecture.max_positions is not None and engine.max_context_tokens > architecture.max_positions:
        yield Finding(
            key="rollout.engine.max_context_tokens",
            value=engine.max_context_tokens,
            rule=f"the model was made for {architecture.max_positions} at most",
            fix="lower it, or name a model with a longer context",
        )
    if config.cluster.placement == "cpu" and architecture.head_size not in CPU_HEAD_SIZES:
        sizes = ", ".join(map(str, CPU_HEAD_SIZES))
        yield Finding(
            key="learner.model",
            value=config.learner.model,
            rule=f"its attention heads are {architecture.head_size} wide, and vLLM's on CPUs are {sizes}",
            fix="name a model with other heads (of one's own making, by shape.num_heads), or play on a GPU",
        )
    if architecture.num_heads % engine.tensor_parallel_size:
        yield Finding(
            key="rollout.engine.tensor_parallel_size",
            value=engine.tensor_parallel_size,
            rule=f"the model's {architecture.num_heads} attention heads cannot be shared evenly by as many GPUs",
            fix="choose a divisor of it",
        )


def _training(config: Config, architecture: Architecture) -> Iterator[Finding]:
    learner = config.learner
    if learner.kernels == "liger" and config.cluster.placement == "cpu":
        yield Finding(
            key="learner.kernels",
            value="liger",
            rule="they are Triton's, which CPUs do not run",
            fix="set it to torch",
        )
    absent = [part for part in learner.freeze if part not in architecture.parameters]
    if absent:
        parts = ", ".join(architecture.parameters)
        yield Finding(
            key="learner.freeze",
            value=learner.freeze,
            rule=f"{architecture.model_type} has no {absent[0]}",
            fix=f"leave it out; its parts are {parts}",
        )
    elif not learner.lora.rank and set(architecture.parameters) <= set(learner.freeze):
        yield Finding(
            key="learner.freeze",
            value=learner.freeze,
            rule="leaves nothing of the policy to train",
            fix="leave one part out",
        )
