"""Configurations of the kind that users write wrongly: each is told with its key, its value, the rule and the fix.

Every case runs in this process; none takes more than some milliseconds, and nothing is started.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.config import load_config
from cluster.errors import ConfigError
from cluster.planning.architecture import KNOWN
from cluster.planning.hardware import Hardware
from cluster.planning.placement import Command
from cluster.planning.plan import make_plan
from tests.support.model_folders import NANO, make_folder

CONFIGS = Path(__file__).parents[3] / "configs"
LAPTOP = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
HOST = Hardware(num_nodes=1, gpus_per_node=8, gpu_memory_gib=79.6, cores_per_node=96, memory_gib=900)
ON_GPUS = ("hardware/eight_gpus_colocated.yaml",)
SPLIT = ("hardware/eight_gpus_split.yaml",)


class Wrong(NamedTuple):
    """A mistake, and what has to be said of it."""

    name: str
    options: tuple[str, ...]
    told: str
    """The key and the value."""
    rule: str
    fix: str
    files: tuple[str, ...] = ()
    command: Command = "rl"
    hardware: Hardware = LAPTOP
    base: str = "smoke.yaml"


WRONG = [
    Wrong(
        "typo",
        ("learner.optimiser.learning_rate=1e-4",),
        "learner.optimiser={",
        "no such option",
        "did you mean 'optimizer'?",
    ),
    Wrong(
        "type",
        ("cluster.iterations=many",),
        "cluster.iterations=many",
        "input should be a valid integer",
        "the default is 20",
    ),
    Wrong(
        "range",
        ("rollout.temperature=-1",),
        "rollout.temperature=-1",
        "greater than or equal to 0",
        "the default is 1.0",
    ),
    Wrong(
        "ranks without cores",
        ("learner.num_ranks=8",),
        "learner.num_ranks=8",
        "a core of its own, and the run has 2",
        "set it to 2 or less",
    ),
    Wrong(
        "ranks without cores of the run",
        ("learner.num_ranks=2", "cluster.cores_per_run=1"),
        "learner.num_ranks=2",
        "and the run has 1",
        "set it to 1 or less",
    ),
    Wrong(
        "address of a client",
        ("cluster.address=ray://head:10001",),
        "cluster.address=ray://head:10001",
        "episodes stream as they end",
        "ray job submit",
    ),
    Wrong("kernels", ("learner.kernels=liger",), "learner.kernels=liger", "which CPUs do not run", "set it to torch"),
    Wrong("section", ("lerner.seed=1",), "lerner", "no such section", "did you mean 'learner'?"),
    Wrong(
        "choice",
        ("cluster.placement=colocate",),
        "cluster.placement=colocate",
        "should be 'cpu', 'one_gpu'",
        "did you mean 'colocated'?",
    ),
    Wrong(
        "group without samples",
        ("learner.advantage.kind=grpo",),
        "cluster.samples_per_task=1",
        "learner.advantage.kind=grpo compares the samples of a task",
        "set it to 2 or more",
    ),
    Wrong(
        "a rate for a critic that is not trained",
        ("learner.advantage.kind=grpo", "cluster.samples_per_task=8", "learner.value_head.learning_rate=1e-3"),
        "learner.value_head.learning_rate=0.001",
        "learner.advantage.kind=grpo trains no critic",
        "token, turn or bi_level",
    ),
    Wrong(
        "a critic that is not trained warms up",
        ("learner.advantage.kind=reinforce", "learner.value_head.warmup_updates=5"),
        "learner.value_head.warmup_updates=5",
        "learner.advantage.kind=reinforce trains no critic",
        "leave it out",
    ),
    Wrong(
        "no groups to be flat",
        ("learner.advantage.flat_groups=drop",),
        "learner.advantage.flat_groups=drop",
        "learner.advantage.kind=bi_level compares no samples",
        "grpo, dr_grpo or rloo",
    ),
    Wrong(
        "no groups to be drawn anew",
        ("learner.advantage.flat_groups=redraw",),
        "learner.advantage.flat_groups=redraw",
        "learner.advantage.kind=bi_level compares no samples",
        "grpo, dr_grpo or rloo",
    ),
    Wrong(
        "a gate where nothing is played",
        ("learner.sft_schedule.gate={by: entropy, below: 0.5}",),
        "learner.sft_schedule.gate.by=entropy",
        "sft plays nothing",
        "cluster.demonstrations_per_iteration",
        command="sft",
    ),
    Wrong(
        "demonstrations of what failed, for nothing",
        ("cluster.demonstrate_failed=true", "learner.sft_weight=0"),
        "cluster.demonstrate_failed=True",
        "counts for nothing",
        "set the weight above 0",
    ),
    Wrong(
        "nobody to demonstrate what failed",
        ("cluster.demonstrate_failed=true", "data={kind: suboptimal, num_mistakes: 2}"),
        "data.num_mistakes=2",
        "leaves no attempt of env.max_attempts=2",
        "lower it",
    ),
    Wrong(
        "a way back for each loss through shared layers",
        ("learner.pulls_every=1", "learner.deepspeed.zero_stage=3"),
        "learner",
        "pulls_every=1: at deepspeed.zero_stage=3",
        "set zero_stage to 2",
    ),
    Wrong(
        "distances of no episodes",
        ("evaluation.kl_every=5",),
        "evaluation",
        "kl_every=5 needs kl_to_start",
        "as 40",
    ),
    Wrong(
        "a teacher that knows no more",
        ("learner.distillation.teacher=itself",),
        "learner.distillation",
        "teacher=itself knows what the policy knows",
        "give it a context",
    ),
    Wrong(
        "a coefficient that adapts from nothing",
        ("learner.loss.reward_kl.target=6",),
        "learner.loss.reward_kl.target=6.0",
        "reward_kl.coefficient is 0",
        "reward_kl.coefficient=0.1",
    ),
    Wrong(
        "a teacher that is not there",
        ("learner.distillation.teacher=models/none",),
        "learner.distillation.teacher=models/none",
        "has no config.json",
        "save_pretrained wrote",
    ),
    Wrong(
        "a teacher and a start",
        ("learner.distillation.teacher=models/nano_gp_l", "learner.sft.kl_coefficient=0.1"),
        "learner",
        "exclude each other",
        "set one of them",
    ),
    Wrong(
        "a length that divides nothing",
        ("learner.loss.episode_length=100",),
        "learner.loss.episode_length=100",
        "learner.loss.aggregate=token_mean divides by what the lengths are",
        "aggregate=constant",
    ),
    Wrong(
        "episodes that do not divide",
        ("cluster.samples_per_task=8", "cluster.episodes_per_iteration=100"),
        "cluster.episodes_per_iteration=100",
        "not a multiple of cluster.samples_per_task=8",
        "set it to 96 or 104",
    ),
    Wrong(
        "more minibatches than episodes",
        ("learner.minibatches=200",),
        "learner.minibatches=200",
        "only cluster.episodes_per_iteration=128",
        "lower it",
    ),
    Wrong(
        "micro-batch below a dialogue",
        ("learner.micro_batch_tokens=128",),
        "learner.micro_batch_tokens=128",
        "rollout.engine.max_context_tokens=256 does not fit",
        "set it to 256 or more",
    ),
    Wrong(
        "greedy training",
        ("rollout.temperature=0",),
        "rollout.temperature=0",
        "always takes the likeliest token",
        "set it above 0",
    ),
    Wrong(
        "no model",
        ("learner.model=null",),
        "learner.model=None",
        "no policy to begin with",
        "name the folder of a model",
    ),
    Wrong(
        "model not there",
        ("learner.model={folder}/nan",),
        "learner.model={folder}/nan",
        "no such folder",
        "did you mean '{folder}/nano'?",
    ),
    Wrong(
        "no config.json",
        ("learner.model={folder}/empty",),
        "learner.model={folder}/empty",
        "has no config.json",
        "save_pretrained",
    ),
    Wrong(
        "no tokenizer",
        ("learner.model={folder}/mute",),
        "learner.model={folder}/mute",
        "has no tokenizer",
        "with the tokenizer saved into it",
    ),
    Wrong(
        "no weights",
        ("learner.model={folder}/hollow",),
        "learner.model={folder}/hollow",
        "has no weights",
        "name the folder",
    ),
    Wrong(
        "not enough GPUs",
        (),
        "cluster.placement=colocated",
        "needs 8 GPUs (8 learner ranks and 8 engines share them), and there is 1 host with no GPU",
        "--elsewhere",
        files=ON_GPUS,
    ),
    Wrong(
        "too many workers for the GPUs",
        ("cluster.num_rollout_workers=5",),
        "cluster.placement=split",
        "needs 9 GPUs (4 learner ranks and 5 engines of 1)",
        "lower learner.num_ranks or cluster.num_rollout_workers",
        files=SPLIT,
        hardware=HOST,
    ),
    Wrong(
        "an engine larger than a host",
        ("rollout.engine.tensor_parallel_size=16", "cluster.num_rollout_workers=1", "learner.num_ranks=1"),
        "rollout.engine.tensor_parallel_size=16",
        "an engine lies on one host, which has 8 GPUs",
        "lower it",
        files=SPLIT,
        hardware=HOST,
    ),
    Wrong(
        "heads that do not divide",
        ("rollout.engine.tensor_parallel_size=3", "cluster.num_rollout_workers=1"),
        "rollout.engine.tensor_parallel_size=3",
        "4 attention heads cannot be shared evenly",
        "choose a divisor",
        files=SPLIT,
        hardware=HOST,
    ),
    Wrong(
        "bfloat16 on cores",
        ("learner.dtype=bfloat16",),
        "learner.dtype=bfloat16",
        "placement=cpu computes in float32",
        "configs/hardware",
    ),
    Wrong(
        "nccl on cores",
        ("rollout.engine.weight_transfer=nccl",),
        "rollout.engine.weight_transfer=nccl",
        "without GPUs take weights from the host's memory",
        "set it to shared_memory",
    ),
    Wrong(
        "nccl on shared GPUs",
        ("rollout.engine.weight_transfer=nccl",),
        "rollout.engine.weight_transfer=nccl",
        "from the learner on the same GPU",
        "set it to ipc",
        files=ON_GPUS,
        hardware=HOST,
    ),
    Wrong(
        "ipc between GPUs",
        ("rollout.engine.weight_transfer=ipc",),
        "rollout.engine.weight_transfer=ipc",
        "from another GPU",
        "set it to nccl",
        files=SPLIT,
        hardware=HOST,
    ),
    Wrong(
        "playing ahead by turns",
        ("rollout.max_policy_lag=1",),
        "rollout.max_policy_lag=1",
        "engines sleep while the learner learns",
        "placement=split",
        files=ON_GPUS,
        hardware=HOST,
    ),
    Wrong(
        "workers without a learner beside them",
        ("learner.num_ranks=4",),
        "cluster.num_rollout_workers=8",
        "only on learner.num_ranks=4 GPUs is a learner",
        "set both to the number of GPUs, as 8",
        files=ON_GPUS,
        hardware=HOST,
    ),
    Wrong(
        "two on one GPU",
        ("learner.num_ranks=2",),
        "learner.num_ranks=2",
        "one learner rank and one rollout worker",
        "placement=colocated",
        files=("hardware/one_gpu.yaml",),
        hardware=HOST,
    ),
    Wrong(
        "unknown suite",
        ("cluster.best_metric=in_distributon/success",),
        "cluster.best_metric=in_distributon/success",
        "no suite is called 'in_distributon'",
        "did you mean 'in_distribution'?",
    ),
    Wrong(
        "unknown measure",
        ("cluster.best_metric=in_distribution/succes",),
        "cluster.best_metric=in_distribution/succes",
        "no measure of in_distribution that can choose is called 'succes'",
        "did you mean 'success'?",
    ),
    Wrong(
        "a suite and no measure",
        ("cluster.best_metric=in_distribution",),
        "cluster.best_metric=in_distribution",
        "names no measure",
        "there are success, ",
    ),
    Wrong(
        "a measure that other environments have",
        ("cluster.best_metric=in_distribution/per_step_accuracy/turn_direction",),
        "cluster.best_metric=in_distribution/per_step_accuracy/turn_direction",
        "no measure of in_distribution that can choose is called 'per_step_accuracy/turn_direction'",
        "did you mean 'per_step_accuracy'?",
    ),
    Wrong(
        "a measure of which neither more nor less is better",
        ("cluster.best_metric=in_distribution/entropy",),
        "cluster.best_metric=in_distribution/entropy",
        "no measure of in_distribution that can choose is called 'entropy'",
        "there are success, ",
    ),
    Wrong(
        "a loss that is not measured",
        ("cluster.best_metric=in_distribution/generalisation_loss",),
        "cluster.best_metric=in_distribution/generalisation_loss",
        "is not measured",
        "set evaluation.generalisation_loss to a number of demonstrations, as 200",
    ),
    Wrong("no suite", ("evaluation.suites=null",), "evaluation.suites=None", "valid dictionary", "{name: value}"),
    Wrong(
        "a search of nothing",
        ("data.kind=search_trace",),
        "data.kind=search_trace",
        "add_up has no hand to search",
        "env.name=general_points or countdown",
        command="sft",
    ),
    Wrong(
        "recognition in words",
        ("data.kind=recognition",),
        "data.kind=recognition",
        "add_up has no pictures",
        "choose another kind",
        command="sft",
    ),
    Wrong(
        "too few demonstrations",
        ("data.count=10",),
        "data.count=10",
        "less than one step learns from",
        "raise it",
        command="sft",
    ),
    Wrong(
        "no demonstrations",
        ("data.file=gone.jsonl",),
        "data.file=gone.jsonl",
        "no such file",
        "ruleshift data",
        command="sft",
    ),
    Wrong(
        "a part that is not there",
        ("learner.freeze=[vision_tower]",),
        "learner.freeze=['vision_tower']",
        "llama has no vision_tower",
        "its parts are language_model",
    ),
    Wrong(
        "nothing left to train",
        ("learner.freeze=[language_model]",),
        "learner.freeze=['language_model']",
        "leaves nothing",
        "leave one part out",
    ),
    Wrong(
        "pictures for the blind",
        (),
        "learner.model={folder}/nano",
        "llama cannot see",
        "models/Qwen2.5-VL-7B-Instruct",
        base="envs/general_points_pictures.yaml",
    ),
    Wrong(
        "a model of the past",
        ("learner.model={folder}/mllama",),
        "learner.model={folder}/mllama",
        "vLLM no longer has mllama",
        "Llama-3.1-8B-Instruct",
    ),
    Wrong(
        "a context longer than the model's",
        ("rollout.engine.max_context_tokens=4096",),
        "rollout.engine.max_context_tokens=4096",
        "made for 2048 at most",
        "lower it",
    ),
    Wrong(
        "no room for a question",
        ("rollout.max_answer_tokens=256",),
        "rollout.max_answer_tokens=256",
        "leaves no room for a question",
        "lower it",
    ),
    Wrong(
        "no room for a dialogue",
        ("rollout.engine.cpu_cache_gib=0.0001",),
        "rollout.engine.cpu_cache_gib=0.0001",
        "one dialogue may have rollout.engine.max_context_tokens=256",
        "raise it",
    ),
    Wrong(
        "a model too large for the machine",
        ("learner.model={folder}/large",),
        "learner.model={folder}/large",
        "each host would need",
        "place the run on GPUs",
    ),
    Wrong(
        "reward of nothing",
        ("verifier.rewards={corect: 2}",),
        "verifier.rewards.corect=2",
        "no outcome of this verifier",
        "did you mean 'correct'?",
    ),
    Wrong(
        "reward of nothing in a suite",
        ("evaluation.suites.hard.verifier.rewards.rong=2",),
        "evaluation.suites.hard.verifier.rewards.rong=2",
        "no outcome of this verifier",
        "did you mean 'wrong'?",
    ),
    Wrong(
        "routes that are not there",
        ("env.dataset=gone",),
        "env.dataset=gone",
        "no route_infos.json",
        "ruleshift city",
        base="envs/route_navigation.yaml",
    ),
    Wrong(
        "turns that a city has no ways for",
        ("evaluation.suites.in_distribution.env.city={num_turns: [9, 12], num_routes: 40}",),
        "evaluation.suites.in_distribution.env.name=route_navigation",
        "routes with 9 to 12 turns in this city",
        "ask for fewer routes (city.num_routes), or for another range of turns (city.num_turns)",
        base="envs/route_navigation.yaml",
    ),
    Wrong(
        "a suite that is teacher-forced where there is one step",
        ("evaluation.suites.forced.env.teacher_forced=true",),
        "evaluation.suites.forced.env.teacher_forced=True",
        "no such option",
        "the options are name, max_attempts",
    ),
    Wrong(
        "offloading what is not shared",
        ("learner.deepspeed.offload_optimizer=true",),
        "learner.deepspeed.offload_optimizer=True",
        "zero_stage=0",
        "set zero_stage to 1",
    ),
    Wrong(
        "keys and values of older weights where none may be older",
        ("rollout.keep_cache=within_lag", "learner.loss.importance_cap=2.0"),
        "rollout.keep_cache=within_lag",
        "with rollout.max_policy_lag=0 nothing weighs",
        "rollout.max_policy_lag=1 and learner.loss.importance_cap=2.0",
    ),
    Wrong(
        "keys and values of older weights, and nothing that weighs them",
        ("rollout.keep_cache=within_lag", "rollout.max_policy_lag=1"),
        "rollout.keep_cache=within_lag",
        "with learner.loss.importance_cap=null nothing weighs",
        "set it to never",
    ),
    Wrong(
        "an engine argument that vLLM does not have",
        ("rollout.engine.extra.kv_cache_dtpye=fp8",),
        "rollout.engine.extra.kv_cache_dtpye=fp8",
        "no such engine argument",
        "did you mean 'kv_cache_dtype'?",
    ),
    Wrong(
        "an engine argument that another option sets",
        ("rollout.engine.extra.max_model_len=4096",),
        "rollout.engine.extra.max_model_len=4096",
        "rollout.engine.max_context_tokens sets it",
        "leave it out",
    ),
    Wrong(
        "a tracker that is not installed",
        ("cluster.tracking.wandb_project=mine",),
        "cluster.tracking.wandb_project=mine",
        "wandb is not installed",
        "pip install wandb",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: a whole one, and others each with something wrong."""
    models = tmp_path_factory.mktemp("models")
    make_folder(models / "nano")
    (models / "empty").mkdir()
    (make_folder(models / "mute") / "tokenizer.json").unlink()
    (make_folder(models / "hollow") / "model.safetensors").unlink()
    text: dict[str, Any] = {**NANO, "cross_attention_layers": [1]}
    make_folder(models / "mllama", {"model_type": "mllama", "text_config": text, "vision_config": {}})
    make_folder(models / "large", KNOWN["Llama-3.1-8B"], {})
    return models


def planned(wrong: Wrong, folder: Path) -> None:
    """Reads the configuration and refuses it."""
    options = [f"learner.model={folder}/nano", *(option.replace("{folder}", str(folder)) for option in wrong.options)]
    config = load_config([CONFIGS / wrong.base, *(CONFIGS / file for file in wrong.files)], options)
    make_plan(config, wrong.command, wrong.hardware).refuse()


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
def test_a_wrong_configuration_is_told_with_key_value_rule_and_fix(wrong: Wrong, folder: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(wrong, folder)
    told, fix = (text.replace("{folder}", str(folder)) for text in (wrong.told, wrong.fix))
    lines = [line for line in str(refused.value).splitlines() if line.startswith(told)]
    assert any(wrong.rule in line and fix in line for line in lines), refused.value


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 20


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    mistakes = [
        "rollout.temperature=0",
        "learner.minibatches=500",
        "learner.advantage.kind=rloo",
        "cluster.best_metric=x/y",
    ]
    config = load_config([CONFIGS / "smoke.yaml"], [f"learner.model={folder}/gone", *mistakes])
    with pytest.raises(ConfigError) as refused:
        make_plan(config, "rl", LAPTOP).refuse()
    lines = str(refused.value).splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "learner.model",
        "cluster.samples_per_task",
        "rollout.temperature",
        "learner.minibatches",
        "cluster.best_metric",
    ]
    assert all(re.fullmatch(r"[\w.]+=.+?: .+; .+", line) for line in lines)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (("learner.deepspeed.zero_stage=2",), "learner.deepspeed.zero_stage"),
        (("rollout.max_policy_lag=1", "learner.loss.importance_cap=null"), "learner.loss.importance_cap"),
        (
            ("rollout.max_policy_lag=1", "learner.old_logprobs=rollout", "learner.loss.importance_cap=2"),
            "learner.old_logprobs",
        ),
        (("learner.lora.rank=4", "learner.freeze=[language_model]"), "learner.freeze"),
        (("learner.lora.target_modules=[q_proj]",), "learner.lora.rank"),
        (("learner.num_ranks=100",), "learner.num_ranks"),
        (("learner.rests=true",), "learner.rests"),
        (("evaluation={temperatures: [0.0], samples_per_task: 4}",), "evaluation.temperatures"),
        (("cluster.evaluate_every=5", "evaluation.suites.in_distribution.split=test"), "cluster.best_metric"),
        (("evaluation.suites.x={shift: rule}", "cluster.best_metric=x/success"), "cluster.best_metric"),
        (
            ("learner.optimizer={schedule: cosine, total_steps: 10}",),
            "learner.optimizer.total_steps",
        ),
    ],
)
def test_what_runs_but_is_hardly_meant_is_a_note(options: tuple[str, ...], key: str, folder: Path) -> None:
    config = load_config([CONFIGS / "smoke.yaml"], [f"learner.model={folder}/nano", *options])
    roomy = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=200, memory_gib=800)
    plan = make_plan(config, "rl", roomy)
    plan.refuse()
    assert key in [finding.key for finding in plan.notes]


def test_a_suite_that_forgets_the_rule_of_training_is_noted(folder: Path) -> None:
    shifted = ["evaluation.suites.shift.env.face_cards=eleven_twelve_thirteen"]
    config = load_config([CONFIGS / "envs" / "general_points.yaml"], [f"learner.model={folder}/nano", *shifted])
    assert [note.key for note in make_plan(config, "rl", LAPTOP).notes] == [
        "evaluation.suites.shift.env.training_face_cards"
    ]
    named = [*shifted, "evaluation.suites.shift.env.training_face_cards=ten"]
    config = load_config([CONFIGS / "envs" / "general_points.yaml"], [f"learner.model={folder}/nano", *named])
    assert make_plan(config, "rl", LAPTOP).notes == ()
