"""Any argument of vLLM can be set, those that are set here cannot, and what vLLM does not take is told."""

import ast
from dataclasses import fields
from inspect import getsource
from pathlib import Path

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

from cluster.planning.model_checks import CPU_HEAD_SIZES
from rollout import vllm_options
from rollout.config import EngineConfig
from rollout.engine import EngineError, Prompt, Sampling
from rollout.engine_extra import OURS, argument_names
from rollout.vllm_engine import VllmEngine
from rollout.vllm_options import engine_arguments
from tests.support.tiny_models import make_text_model

pytestmark = pytest.mark.timeout(300)

DEFAULTS = {"block_size", "max_num_batched_tokens", "enforce_eager"}
"""What may be set otherwise than it is here."""


def test_the_arguments_read_from_vllms_source_are_those_that_it_has() -> None:
    assert argument_names() == {field.name for field in fields(AsyncEngineArgs) if field.name[0] != "_"}


def test_heads_that_plans_take_for_computable_on_cpus_are_vllms() -> None:
    assert tuple(CPUAttentionBackend.get_supported_head_sizes()) == CPU_HEAD_SIZES


def test_all_that_is_set_here_is_refused_or_a_default() -> None:
    tree = ast.parse(getsource(vllm_options.engine_arguments))
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.keywords) > 9]
    assert {keyword.arg for keyword in call.keywords} - {None} == set(OURS)
    assert set(OURS) | DEFAULTS <= argument_names()


def test_a_default_gives_way_and_what_is_ours_does_not(tmp_path: Path) -> None:
    arguments = engine_arguments(tmp_path, EngineConfig(extra={"block_size": 16, "kv_cache_dtype": "fp8"}))
    assert (arguments.block_size, arguments.kv_cache_dtype, arguments.enforce_eager) == (16, "fp8", True)
    with pytest.raises(EngineError, match=r"extra\.seed=3: rollout\.engine\.seed sets it; leave it out"):
        engine_arguments(tmp_path, EngineConfig(extra={"seed": 3}))
    with pytest.raises(EngineError, match=r"extra\.max_logprob=3: .*did you mean 'max_logprobs'"):
        engine_arguments(tmp_path, EngineConfig(extra={"max_logprob": 3}))


async def test_an_engine_has_what_was_asked_for_and_draws_as_without(tmp_path: Path) -> None:
    folder = make_text_model(tmp_path / "text", tied=False)
    drawn = []
    for extra in ({}, {"scheduling_policy": "priority", "max_logprobs": 3}):
        config = EngineConfig(max_context_tokens=256, max_sequences=4, cpu_cache_gib=0.1, extra=extra)
        engine = await VllmEngine.start(folder, config)
        try:
            assert engine._llm.vllm_config.scheduler_config.policy == extra.get("scheduling_policy", "fcfs")
            drawn.append(await engine.generate(Prompt(token_ids=[1, 30, 31]), Sampling(max_tokens=12, seed=1)))
        finally:
            await engine.close()
    assert drawn[0] == drawn[1]


async def test_what_vllm_does_not_take_is_told_with_the_key(tmp_path: Path) -> None:
    folder = make_text_model(tmp_path / "text", tied=False)
    config = EngineConfig(max_context_tokens=256, extra={"scheduling_policy": "fastest"})
    with pytest.raises(EngineError, match=r"rollout\.engine\.extra=.*fastest.*vLLM does not start with it"):
        await VllmEngine.start(folder, config)
