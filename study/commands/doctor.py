"""Prove that this machine can roll out and adopt weights, step by step, with a random nano model.

Each step says what it proved, or what is wrong and what to do; the first that fails ends the examination.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.versions import check_versions

Say = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(arguments: argparse.Namespace) -> int:
    return examine(print)


def examine(say: Say) -> int:
    """Run every step; the exit status."""
    if faults := check_versions():
        for fault in faults:
            say(f"✗ {fault}")
        return 1
    say("✓ the installed versions are the supported ones")
    try:
        _roll_out(say)
    except Exception as error:
        say(f"✗ {type(error).__name__}: {error}")
        return 1
    say("This machine can roll out and adopt weights.")
    return 0


def _roll_out(say: Say) -> None:
    import ray

    from cluster.planning.hardware import look
    from rollout.config import EngineConfig, RolloutConfig
    from rollout.worker import start_worker
    from study.nano.random_model import write_nano_model

    config = RolloutConfig(max_answer_tokens=24, engine=EngineConfig(max_context_tokens=256, max_sequences=32))
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_nano_model(folder)
        ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            say("✓ Ray starts")
            worker = start_worker("rollout-0", folder, config, num_gpus=min(1, look().num_gpus))
            say(f"✓ vLLM loads a model in a Ray actor ({ray.get(worker.start.remote()):.0f} s)")
            _play(worker, config, say)
            _adopt(worker, folder, say)
            ray.get(worker.close.remote())
        finally:
            ray.shutdown()


def _play(worker: Any, config: Any, say: Say) -> None:
    import ray

    from envs.add_up import Config as AddUp
    from rollout.play import Task
    from rollout.worker import stream
    from verifier.config import VerifierConfig

    env = AddUp(name="add_up", max_attempts=2)
    tasks = [Task(seed=seed) for seed in range(32)]
    started = time.perf_counter()
    episodes = ray.get(
        [reference for _, reference in stream("rollout-0", worker, env, VerifierConfig(), tasks, config)]
    )
    seconds = time.perf_counter() - started
    if failed := [episode for episode in episodes if episode.error]:
        raise RuntimeError(f"{len(failed)} of {len(episodes)} episodes failed; the first with\n{failed[0].error}")
    num_tokens = sum(episode.num_sampled_tokens for episode in episodes)
    say(f"✓ {len(episodes)} episodes of add_up were played ({num_tokens / seconds:,.0f} tokens/s, start included)")


def _adopt(worker: Any, folder: Path, say: Say) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from cluster.groups.weight_sync import PERTURBATION
    from rollout.probe import TOLERANCES, ProbeExpectation, expected_logprobs, make_probe
    from rollout.receivers import Receivers
    from rollout.weight_digest import WHOLE
    from rollout.weight_source import HuggingFaceSource
    from rollout.weight_transfer import make_sender

    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    client = Receivers.of([worker])
    sender = make_sender("shared_memory", client=client, source=HuggingFaceSource(module, folder))
    [before], sent = client.digests(), sender.send(1, perturbation=PERTURBATION, with_digest=True)
    [after] = client.digests()
    if missed := [name for name, digest in after.items() if digest == before[name]]:
        raise RuntimeError(f"a push did not reach {', '.join(missed)}: the engine would play an old policy")
    is_exact = sum(after.values()) % WHOLE == sent.digest
    say(
        f"✓ a push in which every value is off reached all {len(after)} weights that the engine shows"
        + ("; their digest tells of each push whether all arrived" if is_exact else ", and the probe sees the others")
    )
    report = sender.send(1)
    prompts = make_probe(module.config.vocab_size)
    expected = ProbeExpectation(
        prompts=prompts, logprobs=expected_logprobs(module, prompts), version=1, tolerance=TOLERANCES["float32"]
    )
    gap = client.verify(expected)
    say(f"✓ new weights were adopted in {report.seconds:.2f} s; engine and Transformers differ by {gap:.1e} nats")
