"""A plan says what a run will be, from the configuration alone, and every shipped configuration has one."""

import ast
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import load_config, suite_environments, to_yaml
from cluster.errors import ConfigError
from cluster.planning.architecture import KNOWN, UnreadableModel, known_architecture, read_architecture
from cluster.planning.compute import size_of, traffic_at_most
from cluster.planning.hardware import Hardware, described
from cluster.planning.memory import learner_rows, trained_parameters
from cluster.planning.placement import Command
from cluster.planning.plan import Plan, attempts_at_most, contexts_at_most, make_plan
from cluster.planning.plan_text import WIDTH, render
from learner.config import LearnerConfig
from rollout.traffic import Traffic
from study.cells import Study, arm_alone
from study.cli import main
from tests.support.model_folders import NANO, NANO_SHAPES, make_folder

REPOSITORY = Path(__file__).parents[3]
CONFIGS = REPOSITORY / "configs"
PAPER = sorted((CONFIGS / "paper").glob("*.yaml"))
ON_GPUS = [CONFIGS / "hardware" / f"{name}.yaml" for name in ("eight_gpus_colocated", "eight_gpus_split", "two_nodes")]
LAPTOP = Hardware(num_nodes=1, gpus_per_node=0, gpu_memory_gib=0, cores_per_node=2, memory_gib=8)
LLAMA = known_architecture("models/Llama-3.1-8B-Instruct")


def plan_of_paper(task: str, hardware: Path, arm: str, *overrides: str) -> Plan:
    command: Command = "rl" if arm == "rl" else "sft"
    config = arm_alone([str(CONFIGS / "paper" / f"{task}.yaml"), str(hardware), *overrides], arm, command)
    return make_plan(config, command, described(config), elsewhere=True)


def smoke(folder: Path, *overrides: str) -> Plan:
    config = load_config([CONFIGS / "smoke.yaml"], [f"learner.model={folder}", *overrides])
    return make_plan(config, "rl", LAPTOP)


def gib(parameters: float) -> float:
    return parameters / 2**30


@pytest.mark.parametrize("arm", ["init", "sft", "rl"])
@pytest.mark.parametrize("task", [file.stem for file in PAPER])
@pytest.mark.parametrize("hardware", ON_GPUS, ids=lambda path: path.stem)
def test_every_experiment_of_the_paper_runs_on_80_gb_gpus(task: str, arm: str, hardware: Path) -> None:
    plan = plan_of_paper(task, hardware, arm)
    plan.refuse()
    assert plan.architecture is not None
    assert plan.notes == ()
    if arm == "rl":
        # Where learner and engines have GPUs of their own, neither waits for the other.
        waits = "colocated" in hardware.stem
        lag, cap = plan.config.rollout.max_policy_lag, plan.config.learner.loss.importance_cap
        assert (lag, cap) == ((0, None) if waits else (1, 2.0))
    assert max(map(len, render(plan).splitlines())) <= WIDTH


def test_all_arms_of_a_task_ask_measure_and_spend_the_same(tmp_path: Path) -> None:
    assert [file.stem for file in PAPER] == ["gp_l", "gp_vl", "virl_l", "virl_vl"]
    for file in PAPER:
        config = load_config([file])
        init, imitated, played = Study.of(config, tmp_path).cells
        for cell in (init, imitated, played):
            assert (cell.config.env, cell.config.verifier) == (config.env, config.verifier)
            assert cell.config.evaluation.suites == config.evaluation.suites
        assert {"in_distribution", "rule_shift"} <= set(suite_environments(config))
        assert imitated.config.cluster.budget == played.config.cluster.budget == config.compare.budget
        assert imitated.config.cluster.ledger == played.config.cluster.ledger == "compute/paper_flops"
        # What the start was fine-tuned on is charged to both, and not to the start itself.
        charged = [cell.config.cluster.compute for cell in (init, imitated, played)]
        assert [each.initial_tokens > 0 for each in charged] == [False, True, True]
        assert {each.paper_lambda for each in charged} == {6.0 if file.stem.startswith("gp") else 5.1}
        # The paper's values apply in the arm that asks for them, though the study's own are other defaults.
        assert (played.config.learner.advantage.kind, played.config.learner.loss.clip) == ("turn", 0.1)
        assert imitated.config.learner.loss.clip == 0.2


@pytest.mark.parametrize("task", ["virl_l", "virl_vl"])
@pytest.mark.parametrize("suite", ["in_distribution", "rule_shift"])
def test_routes_of_the_paper_are_played_free_and_teacher_forced_and_nothing_else_differs(task: str, suite: str) -> None:
    suites = suite_environments(load_config([CONFIGS / "paper" / f"{task}.yaml"]))
    (free, verifier), (forced, same_verifier) = suites[suite], suites[f"{suite}_teacher_forced"]
    assert verifier == same_verifier
    assert {**free.model_dump(), "teacher_forced": True} == forced.model_dump()
    assert free != forced


def test_the_paper_s_numbers_come_out() -> None:
    plan = plan_of_paper("gp_l", ON_GPUS[0], "rl", "cluster.iterations=20")
    batch, learner = plan.batch, plan.config.learner
    assert (batch.steps_per_iteration, batch.num_steps) == (8, 160)
    assert (learner.advantage.kind, learner.loss.clip, learner.optimizer.learning_rate) == ("turn", 0.1, 1e-6)
    routes = plan_of_paper("virl_vl", ON_GPUS[0], "rl", "cluster.iterations=15")
    assert routes.batch.num_steps == 120
    assert routes.config.learner.optimizer.learning_rate == 1e-7
    imitation = plan_of_paper("gp_l", ON_GPUS[0], "sft", "cluster.iterations=6250")
    assert (imitation.batch.num_steps, imitation.batch.num_episodes) == (6250, 128)
    start = plan_of_paper("virl_l", ON_GPUS[0], "init")
    assert (start.batch.num_steps, start.batch.num_episodes, start.config.cluster.budget) == (25, 8, None)


@pytest.mark.parametrize("file", [*sorted((CONFIGS / "hardware").glob("*.yaml"))], ids=lambda path: path.stem)
def test_every_hardware_file_fits_its_own_description(file: Path, tmp_path: Path) -> None:
    model = make_folder(tmp_path / "nano")
    config = load_config([CONFIGS / "smoke.yaml", file], [f"learner.model={model}"])
    make_plan(config, "rl", described(config)).refuse()


def test_smoke_runs_on_two_cores(tmp_path: Path) -> None:
    plan = smoke(make_folder(tmp_path / "nano"))
    plan.refuse()
    assert plan.notes == ()
    assert plan.batch.num_steps == 40
    assert plan.memory[0].total.learning < 4


def test_arithmetic_of_an_iteration(tmp_path: Path) -> None:
    plan = smoke(
        make_folder(tmp_path / "nano"),
        "cluster.episodes_per_iteration=64",
        "cluster.samples_per_task=8",
        "cluster.evaluate_every=8",
        "learner.epochs=3",
        "evaluation={temperatures: [0.0, 1.0], suites: {hard: {episodes: 50}}}",
        "evaluation.suites.in_distribution={}",
    )
    batch = plan.batch
    assert (batch.num_tasks, batch.num_episodes, batch.num_answers) == (8, 64, 128)
    assert batch.num_tokens == 64 * 256
    assert (batch.steps_per_iteration, batch.num_steps) == (6, 120)
    # Before iterations 0, 8 and 16, and after the last.
    assert batch.num_evaluations == 4
    assert batch.episodes_per_evaluation == 2 * (200 + 50)
    assert batch.episodes_at_end == 0


def test_what_is_played_only_at_the_end_is_counted_there(tmp_path: Path) -> None:
    plan = smoke(
        make_folder(tmp_path / "nano"),
        "evaluation={temperatures: [1.0, 0.2], final_temperatures: [0.0, 1.0], samples_per_task: 2}",
        "evaluation.suites.in_distribution=null",
        "evaluation.suites={easy: {episodes: 30}, last: {episodes: 7, only_at_end: true}}",
    )
    batch, evaluation = plan.batch, plan.config.evaluation
    assert (batch.episodes_per_evaluation, batch.episodes_at_end) == (120, 60 + 28)
    assert evaluation.wanted(is_final=False) == [("easy", 1.0), ("easy", 0.2)]
    final = [("easy", 1.0), ("easy", 0.2), ("easy", 0.0), ("last", 1.0), ("last", 0.2)]
    assert evaluation.wanted(is_final=True) == final
    assert "120 episodes; 2 times, 88 more at the end: easy, last" in render(plan)


def test_heads_that_vllm_does_not_compute_on_cpus_are_told_before_anything_starts(tmp_path: Path) -> None:
    narrow = make_folder(tmp_path / "narrow", {**NANO, "num_attention_heads": 8})
    [finding] = smoke(narrow).refusals
    assert finding.key == "learner.model" and "attention heads are 16 wide" in str(finding)
    assert not smoke(make_folder(tmp_path / "nano")).refusals


def test_compute_is_charged_by_part(tmp_path: Path) -> None:
    """Four layers at each token, output layer and critic at each that is drawn; embeddings cost nothing."""
    plan = smoke(make_folder(tmp_path / "nano"), "learner.epochs=2")
    layers = 4 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 384 * 128)
    episodes, drawn = plan.batch.num_episodes, plan.batch.num_answers * plan.config.rollout.max_answer_tokens
    forward = 2 * (layers * plan.batch.num_tokens + 900 * 128 * drawn)
    critic = 2 * 128 * (drawn + episodes)
    sampling, looking, learning = plan.work
    assert (sampling.flops, looking.flops) == (forward, forward + critic)
    assert plan.config.learner.value_head.stop_gradient
    assert learning.flops == 2 * (3 * forward + 2 * critic)
    lean = smoke(tmp_path / "nano", "learner.old_logprobs=rollout", "learner.advantage.kind=reinforce")
    assert [work.what for work in lean.work] == ["sampling", "learning"]


def test_what_is_imitated_besides_is_planned_and_what_is_imitated_is_not_looked_at(tmp_path: Path) -> None:
    plain = smoke(make_folder(tmp_path / "nano"))
    for options, share in (
        (("cluster.demonstrations_per_iteration=32",), 1.25),
        (("cluster.demonstrate_failed=true", "cluster.samples_per_task=4"), 1.25),
        (("cluster.demonstrate_failed=true", "cluster.demonstrations_per_iteration=64"), 2.5),
    ):
        beside = smoke(tmp_path / "nano", *options)
        assert beside.work[-1].flops == pytest.approx(share * plain.work[-1].flops)
        assert [each.flops for each in beside.work[:-1]] == [each.flops for each in plain.work[:-1]]
    rejecting = smoke(tmp_path / "nano", "learner.imitate_successes=true", "learner.loss.kl_coefficient=0.1")
    assert [work.what for work in rejecting.work] == ["sampling", "learning"]


def test_attention_is_planned_where_it_is_to_be_counted(tmp_path: Path) -> None:
    plain = smoke(make_folder(tmp_path / "nano"))
    attending = smoke(tmp_path / "nano", "cluster.compute.attention=true")
    # Four layers of width 128, two products a pair, two operations each; every token with those up to it.
    of_pairs = 4 * 128 * 4 * plain.batch.num_episodes * 256 * 257 // 2
    gaps = [after.flops - before.flops for before, after in zip(plain.work, attending.work, strict=True)]
    assert gaps == [of_pairs, of_pairs, 3 * of_pairs]


def test_what_is_frozen_low_rank_or_seen_is_planned_as_such() -> None:
    """The paper's arm on pictures: with its tower frozen, with low ranks, and the same in words."""
    plans = {
        name: plan_of_paper(task, ON_GPUS[0], "rl", *overrides)
        for name, task, overrides in (
            ("whole", "gp_vl", ()),
            ("frozen", "gp_vl", ("learner.freeze=[vision_tower]",)),
            ("low", "gp_vl", ("learner.lora.rank=16",)),
        )
    }
    flops = {name: {work.what: work.flops for work in plan.work} for name, plan in plans.items()}
    assert len({of_plan["sampling"] for of_plan in flops.values()}) == 1, "additions are in the weights that play"
    assert flops["low"]["learning"] < flops["frozen"]["learning"] < flops["whole"]["learning"]
    architecture, config = plans["whole"].architecture, plans["whole"].config
    assert architecture is not None
    size = size_of(architecture, config.learner)
    frozen = size_of(architecture, plans["frozen"].config.learner)
    assert (frozen.tower.passed, frozen.tower.learned, frozen.tower.again) == (0, 0, 0)
    assert frozen.tower.forward == size.tower.forward == size.tower.learned > 6e8
    assert frozen.layers == size.layers


@pytest.mark.parametrize(
    ("frozen", "options", "times"),
    [
        ("vision_tower", (), 2),
        ("vision_tower,projector", (), 0),
        ("vision_tower,projector", ("learner.old_logprobs=rollout", "learner.advantage.kind=reinforce"), 1),
    ],
    ids=["projector learns", "seen by the look beforehand", "seen by the first epoch"],
)
def test_what_frozen_eyes_see_is_planned_once_an_update(frozen: str, options: tuple[str, ...], times: int) -> None:
    """How often two epochs of learning are charged what a picture costs beyond its words."""
    both = ("learner.epochs=2", "learner.deepspeed.gradient_checkpointing=false", f"learner.freeze=[{frozen}]")
    plan = plan_of_paper("gp_vl", ON_GPUS[0], "rl", *both, *options)
    assert plan.architecture is not None
    size, config = size_of(plan.architecture, plan.config.learner), plan.config
    traffic = traffic_at_most(config, plan.architecture, plan.batch, plan.batch.num_episodes)
    words = replace(traffic, picture_tokens=0, patches=0, patch_pairs=0)
    attention = config.cluster.compute.attention
    (learning,) = (work.flops for work in plan.work if work.what == "learning")
    once, nothing = (size.learn(seen, attention=attention) for seen in (traffic, words))
    assert once > nothing
    assert learning == 2 * nothing + times * (once - nothing)


def test_a_route_begins_a_dialogue_at_each_place() -> None:
    options = ["env.name=route_navigation", "env.city.num_turns=[1,2]", "env.straight_line_length=4"]
    config = load_config([], options)
    assert contexts_at_most(config.env) == 3 * 4 + 1
    assert attempts_at_most(config.env) == 2
    assert attempts_at_most(load_config([], [*options, "env.preset=paper"]).env) == 3


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    # In bfloat16 nothing runs below stage 2, whose gradients are shared.
    [(0, 2, 4 / 8, 12 / 8), (1, 2, 4 / 8, 12 / 8), (2, 2, 4 / 8, 12 / 8), (3, 2 / 8, 4 / 8, 12 / 8)],
)
def test_zero_stages_share_what_they_say(stage: int, weights: float, gradients: float, optimizer: float) -> None:
    assert LLAMA is not None
    learner = LearnerConfig.model_validate(
        {"num_ranks": 8, "dtype": "bfloat16", "deepspeed": {"zero_stage": stage}, "value_head": {"hidden_sizes": ()}}
    )
    found = [learning for _, learning in learner_rows(learner, LLAMA, Traffic(), "cuda").values()][:3]
    whole = LLAMA.num_parameters + 4096 + 1
    assert found == pytest.approx([gib(whole * weights), gib(whole * gradients), gib(whole * optimizer)])


def test_offloading_low_ranks_and_references_are_counted() -> None:
    assert LLAMA is not None
    offloaded = LearnerConfig.model_validate({"deepspeed": {"zero_stage": 1, "offload_optimizer": True}})
    assert next(
        pair for what, pair in learner_rows(offloaded, LLAMA, Traffic(), "cuda").items() if "AdamW" in what
    ) == (0, 0)
    low_rank = LearnerConfig.model_validate({"lora": {"rank": 16}, "loss": {"kl_coefficient": 0.1}})
    # peft counts 41,943,040 for rank 16 on all linear layers of this model.
    assert trained_parameters(low_rank, LLAMA) == 41_943_040 + 4097
    assert not any("initial policy" in what for what in learner_rows(low_rank, LLAMA, Traffic(), "cuda"))
    compares = LearnerConfig.model_validate({"loss": {"kl_coefficient": 0.1}})
    assert any("initial policy" in what for what in learner_rows(compares, LLAMA, Traffic(), "cuda"))


@pytest.mark.parametrize(("stage", "share"), [(2, 1), (3, 4)])
def test_a_reference_lies_with_all_ranks_at_stage_3(stage: int, share: int) -> None:
    assert LLAMA is not None
    learner = LearnerConfig.model_validate(
        {"num_ranks": 4, "loss": {"kl_coefficient": 0.1}, "deepspeed": {"zero_stage": stage}}
    )
    _, learning = learner_rows(learner, LLAMA, Traffic(), "cuda")["learner: the initial policy, to compare with"]
    assert learning == pytest.approx(gib(LLAMA.num_parameters * 4) / share)


PUBLISHED = {
    "Llama-3.1-8B-Instruct": 8_030_261_248,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B-Instruct": 3_212_749_824,
    "Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen2.5-VL-7B-Instruct-mine": 8_292_166_656,
}


@pytest.mark.parametrize(("folder", "published"), PUBLISHED.items())
def test_known_models_have_their_published_sizes(folder: str, published: int) -> None:
    found = known_architecture(f"models/{folder}/")
    assert found is not None
    assert found.num_parameters == pytest.approx(published, rel=1e-4)
    assert found.has_eyes == ("VL" in folder)


def test_a_model_nobody_knows_has_no_size() -> None:
    assert known_architecture("models/mine") is None
    assert all(any(folder.startswith(known) for folder in PUBLISHED) for known in KNOWN)


def test_weights_that_are_there_are_counted_to_the_last(tmp_path: Path) -> None:
    counted = read_architecture(make_folder(tmp_path / "nano"))
    assert counted.num_parameters == sum(_product(shape) for shape in NANO_SHAPES.values())
    estimated = read_architecture(make_folder(tmp_path / "bare", shapes={}))
    assert estimated.num_parameters == counted.num_parameters
    assert (counted.source, estimated.source) == ("counted in its safetensors files", "from config.json")


def _product(shape: list[int]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def test_parts_are_told_apart_by_the_names_of_their_tensors(tmp_path: Path) -> None:
    shapes = {"visual.blocks.0.weight": [5], "visual.merger.mlp.0.weight": [7], "model.norm.weight": [11]}
    config: dict[str, Any] = {**KNOWN["Qwen2.5-VL-3B"]}
    found = read_architecture(make_folder(tmp_path / "eyes", config, shapes))
    assert found.parameters == {"vision_tower": 5, "projector": 7, "language_model": 11}


def test_the_text_part_of_a_vision_llama_is_the_llama(tmp_path: Path) -> None:
    text = {**KNOWN["Llama-3.1-8B"], "num_hidden_layers": 40, "cross_attention_layers": list(range(3, 40, 5))}
    config = {"model_type": "mllama", "text_config": text, "vision_config": {"hidden_size": 1280}}
    assert LLAMA is not None
    assert read_architecture(make_folder(tmp_path / "mllama", config, {})).parameters == LLAMA.parameters


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"config.json": b"{"}, "cannot be read"),
        ({"config.json": b"{}"}, "does not say 'model_type'"),
        ({"model.safetensors": b"version https://git-lfs.github.com/spec/v1"}, "no whole safetensors file"),
    ],
)
def test_a_broken_model_is_told(tmp_path: Path, broken: dict[str, bytes], message: str) -> None:
    folder = make_folder(tmp_path / "broken")
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    with pytest.raises(UnreadableModel, match=message):
        read_architecture(folder)


def test_on_a_gpu_there_is_room_for_what_the_allocator_keeps_while_a_rank_learns() -> None:
    rows = plan_of_paper("gp_l", ON_GPUS[0], "rl").memory[0].rows
    [kept] = [row for row in rows if "allocator" in row.what]
    others = [row for row in rows if row.what.startswith("learner: ") and row is not kept]
    assert kept.playing == 0
    assert kept.learning == pytest.approx(0.05 * sum(row.learning for row in others))


def test_what_cannot_fit_is_refused_with_what_would_help() -> None:
    one_gpu = CONFIGS / "hardware" / "one_gpu.yaml"
    plan = plan_of_paper("gp_l", one_gpu, "rl")
    assert not plan.memory[0].fits
    with pytest.raises(
        ConfigError, match=r"offload_optimizer=False: each GPU would hold .* train learner\.lora\.rank=16"
    ):
        plan.refuse()
    smaller = ("learner.lora.rank=16", "rollout.engine.gpu_memory_fraction=0.6")
    plan_of_paper("gp_l", one_gpu, "rl", *smaller).refuse()
    greedy = plan_of_paper("gp_l", ON_GPUS[0], "rl", "rollout.engine.gpu_memory_fraction=0.9")
    with pytest.raises(ConfigError, match=r"gpu_memory_fraction=0\.9: .* while rollouts play; lower it to 0\.6"):
        greedy.refuse()


def test_a_plan_for_a_laptop_reads_like_this(tmp_path: Path) -> None:
    text = render(smoke(make_folder(tmp_path / "nano")))
    assert text.startswith(
        "Plan of `rl` for smoke: add_up, nano (llama, 1.02 million parameters, counted in its safetensors\n  files)"
    )
    assert "  0      0        2 CPU      learner rank 0       0     1         2\n" in text
    assert "  optimizer steps   2 = 1 epoch × 2 minibatches; 40 in all 20 iterations\n" in text
    assert "This cannot run" not in text


def test_the_command_prints_the_plan_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_folder(tmp_path / "nano")
    words = [str(CONFIGS / "smoke.yaml"), f"learner.model={model}"]
    assert main(["plan", *words, "--yaml", "learner.advantage.lambda=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "lambda: 0.5" in printed
    assert "Placement  (cpu" in printed
    assert main(["plan", *words, "--for", "sft", "rollout.engine.weight_transfer=nccl"]) == 2
    printed = capsys.readouterr()
    assert "This cannot run, for 1 reason:" in printed.out
    assert "ruleshift: rollout.engine.weight_transfer=nccl: " in printed.err


def test_evaluation_alone_only_plays(tmp_path: Path) -> None:
    config = load_config([CONFIGS / "smoke.yaml"], [f"learner.model={make_folder(tmp_path / 'nano')}"])
    plan = make_plan(config, "evaluate", LAPTOP)
    plan.refuse()
    assert [work.what for work in plan.work] == ["sampling"]


def test_planning_takes_a_moment_and_no_heavy_library(tmp_path: Path) -> None:
    model = make_folder(tmp_path / "nano")
    heavy = ("torch", "ray", "vllm", "transformers", "deepspeed", "numpy")
    program = (
        "import sys; from study.cli import main; main(['plan', *sys.argv[1:]]); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(
        [sys.executable, "-c", program, str(CONFIGS / "smoke.yaml"), f"learner.model={model}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ast.literal_eval(ran.stdout.splitlines()[-1]) == []
    # Processor time, since other tests may keep this machine busy.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0


def test_the_written_configuration_is_the_plan_s_own(tmp_path: Path) -> None:
    config = load_config([CONFIGS / "paper" / "virl_vl.yaml", ON_GPUS[2]])
    written = tmp_path / "config.yaml"
    written.write_text(to_yaml(config))
    assert load_config([written]) == config
