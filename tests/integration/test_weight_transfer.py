"""After an update the engine is the learner's policy exactly, and where it is not, it says so and plays nothing."""

import asyncio
import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from PIL import Image
from ray.cluster_utils import Cluster
from ray.exceptions import RayTaskError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo, worker_init_process_group
from vllm.distributed.weight_transfer.packed_tensor import PackedIpcChunk

from cluster.groups.learner_group import LearnerGroup
from cluster.groups.weight_sync import WeightSync
from learner.config import DeepSpeedConfig, LearnerConfig, OptimizerConfig
from learner.deepspeed_engine import DistributedEngine
from learner.learner import Learner
from learner.worker import LearnerWorker
from learner.zero_source import DeepSpeedZeroSource
from rollout.config import RolloutConfig
from rollout.engine import Completion, EngineError, EngineState, PolicyMismatch, Sampling
from rollout.probe import TOLERANCES, ProbeExpectation, expected_logprobs, make_probe
from rollout.receivers import Receivers, own_place
from rollout.same_gpu_sender import announced
from rollout.transcript import ChatTokens
from rollout.weight_digest import WHOLE
from rollout.weight_files import FILE_PREFIX
from rollout.weight_source import HuggingFaceSource, require_names, saved_names
from rollout.weight_transfer import Place, make_sender
from rollout.worker import start_worker
from tests.support.engines import CONFIG, Pair, gap, transformers_logprobs
from tests.support.ranks import end_ranks, run_ranks
from tests.support.whole_state import whole_state_dict

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

TEXT = "<begin><user>Make 24 of 3, 8, 8 and 9.<end><assistant>"
SEEN = "<begin><user><image>Which cards?<end><assistant>"
PICTURE = Image.effect_mandelbrot((56, 56), (-2, -1.5, 1, 1.5), 60).convert("RGB")


def learn(module: PreTrainedModel, seed: int) -> None:
    """Move every weight, by about a third of its size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.03)


def question(pair: Pair) -> tuple[str, tuple[Any, ...]]:
    return (SEEN, (PICTURE,)) if pair.forbidden_token_ids else (TEXT, ())


def expected(pair: Pair, module: PreTrainedModel, completion: Completion) -> torch.Tensor:
    text, images = question(pair)
    return transformers_logprobs(
        module, pair.processor, text, completion, images=images, forbidden_token_ids=pair.forbidden_token_ids
    )


async def answer(pair: Pair, max_tokens: int = 40, seed: int = 0) -> Completion:
    text, images = question(pair)
    return await pair.engine.generate(pair.prompt(text, *images), Sampling(max_tokens=max_tokens, seed=seed))


@pytest.fixture(params=["tied", "untied", "picture"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


async def test_the_engine_plays_the_learners_weights_after_each_of_two_updates(pair: Pair) -> None:
    for seed in (1, 2):
        await answer(pair)  # fills the caches with what the old weights made
        learn(pair.module, seed)
        report = await pair.send()
        assert pair.engine.state is EngineState.STALE
        assert await pair.verify() < 1e-5
        assert pair.engine.state is EngineState.READY
        assert report.version == pair.version
        assert report.num_calls > 1
        assert report.num_bytes == sum(parameter.nbytes for parameter in pair.module.parameters())
        completion = await answer(pair)
        assert [span.version for span in completion.versions] == [pair.version]
        assert gap(completion, expected(pair, pair.module, completion)) < 1e-5


async def straddling(pair: Pair) -> tuple[list[Completion], PreTrainedModel]:
    """Long answers with an update in their midst, and the module as it was before."""
    old = copy.deepcopy(pair.module)
    answers = [asyncio.create_task(answer(pair, max_tokens=600, seed=seed)) for seed in range(12)]
    await pair.drawing()
    learn(pair.module, 100 + pair.version)
    await pair.send()
    await pair.verify()
    completions = await asyncio.gather(*answers)
    straddled = [completion for completion in completions if len(completion.versions) == 2]
    assert len(straddled) >= 3
    return straddled, old


async def test_an_answer_that_straddles_an_update_knows_which_version_drew_which_token(pair: Pair) -> None:
    straddled, old = await straddling(pair)
    for completion in straddled:
        before, after = completion.versions
        assert (before.version, after.version) == (pair.version - 1, pair.version)
        assert (before.start, before.end, after.end) == (0, after.start, len(completion.token_ids))
        assert gap(completion, expected(pair, old, completion), before.start, before.end) < 1e-5
        assert gap(completion, expected(pair, pair.module, completion), after.start, after.end) < 1e-5


async def test_without_dropping_keys_and_values_answers_would_go_on_with_old_ones(
    tied: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tied.engine._llm, "reset_prefix_cache", nothing)
    straddled, _ = await straddling(tied)
    spans = [(completion, completion.versions[1]) for completion in straddled]
    worst = max(gap(one, expected(tied, tied.module, one), span.start, span.end) for one, span in spans)
    assert worst > 0.01
    print(f"measured without reset_prefix_cache: {worst:.2f} nats")


async def test_without_dropping_encoded_pictures_the_probe_does_not_pass(
    picture: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await picture.verify()
    with monkeypatch.context() as patch:
        patch.setattr(picture.engine._llm, "reset_encoder_cache", nothing)
        learn(picture.module, 3)
        await picture.send()
        with pytest.raises(PolicyMismatch) as mismatch:
            await picture.verify()
    print(f"measured without reset_encoder_cache: {mismatch.value}")
    await picture.send()
    assert await picture.verify() < 1e-5


async def test_without_packing_a_tied_output_layer_anew_the_probe_does_not_pass(tied: Pair) -> None:
    learn(tied.module, 4)
    await tied.send(refresh_output_layer=False)
    with pytest.raises(PolicyMismatch) as mismatch:
        await tied.verify()
    print(f"measured without packing anew: {mismatch.value}")
    await tied.send()
    assert await tied.verify() < 1e-5


class Perturbed:
    """A source that gets one tensor wrong."""

    def __init__(self, pair: Pair, name: str) -> None:
        self._source = pair.source()
        self._name = name
        self.metadata: Callable[[], Any] = self._source.metadata

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._source:
            yield name, tensor + 0.05 if name == self._name else tensor


async def test_one_wrong_tensor_stops_all_play_until_the_right_one_is_sent(untied: Pair) -> None:
    running = asyncio.create_task(answer(untied, max_tokens=900))
    await untied.drawing()
    await untied.send(Perturbed(untied, "model.layers.1.post_attention_layernorm.weight"))
    waiting = asyncio.create_task(answer(untied))
    with pytest.raises(PolicyMismatch, match=r"are 0\.\d+ off version \d+; up to 0.0001 is tolerated"):
        await untied.verify()
    for attempt in (running, waiting, answer(untied)):
        with pytest.raises(PolicyMismatch, match="off version"):
            await attempt
    assert untied.engine.state is EngineState.STALE
    await untied.send()
    assert await untied.verify() < 1e-5
    completion = await answer(untied)
    assert gap(completion, expected(untied, untied.module, completion)) < 1e-5


class BreaksOff(Perturbed):
    """A source that fails in the midst of a layer."""

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._source:
            if name == self._name:
                raise OSError("the learner is gone")
            yield name, tensor


async def test_an_update_that_broke_off_within_a_layer_does_not_harm_the_next(tied: Pair) -> None:
    await tied.verify()
    learn(tied.module, 5)
    with pytest.raises(OSError, match="the learner is gone"):
        await tied.send(BreaksOff(tied, "model.layers.1.self_attn.v_proj.weight"))
    # Weights that the engine has thrown away and not got again have a digest that none will have.
    torn = await tied.engine.digests()
    assert 0 in torn.values()
    waiting = asyncio.create_task(answer(tied))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await tied.send()
    assert await tied.verify() < 1e-5
    completion = await waiting
    assert gap(completion, expected(tied, tied.module, completion)) < 1e-5
    whole = await tied.engine.digests()
    assert whole.keys() <= torn.keys()
    assert 0 not in whole.values()


async def test_weights_that_do_not_fit_are_refused_and_the_right_ones_still_arrive(tied: Pair) -> None:
    class Misshapen(Perturbed):
        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in self._source:
                yield name, tensor[:-1] if name == self._name else tensor

    with pytest.raises(EngineError, match=r"did not take model.layers.0.self_attn.v_proj.weight: RuntimeError"):
        await tied.send(Misshapen(tied, "model.layers.0.self_attn.v_proj.weight"))
    assert tied.engine.state is EngineState.STALE
    await tied.send()
    assert await tied.verify() < 1e-5


async def test_parameters_that_the_checkpoint_lacks_are_named(tied: Pair, untied: Pair) -> None:
    with pytest.raises(ValueError, match=r"1 of 21 parameters of LlamaForCausalLM are not in .*lm_head.weight"):
        require_names(untied.module, tied.folder, saved_names(untied.module))


async def test_a_sleeping_engine_wakes_for_the_weights_and_takes_room_for_keys_and_values_only_after_them(
    tied: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs vLLM keeps the memory, but counts what sleeps as it does on GPUs."""
    wake_up = tied.engine._llm.wake_up
    heard: list[tuple[Any, ...]] = []

    async def wake_and_tell(tags: list[str]) -> bool:
        heard.append((*tags, await wake_up(tags)))
        return heard[-1][-1]

    monkeypatch.setattr(tied.engine._llm, "wake_up", wake_and_tell)

    class Listening(Perturbed):
        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            heard.append(("sent",))
            yield from self._source

    await tied.engine.sleep()
    await tied.engine.sleep()
    assert await tied.engine._llm.is_sleeping()
    waiting = asyncio.create_task(answer(tied))
    learn(tied.module, 6)
    await tied.send(Listening(tied, ""))
    # What comes first was written before the engine was stopped for it.
    assert heard == [("sent",), ("weights", False), ("kv_cache", True)]
    assert await tied.verify() < 1e-5
    completion = await waiting
    assert [span.version for span in completion.versions] == [tied.version]
    assert gap(completion, expected(tied, tied.module, completion)) < 1e-5
    await tied.engine.sleep()
    await tied.engine.wake()
    await tied.engine.wake()
    assert heard[3:] == [("weights", False), ("kv_cache", True)]
    # It has given up its weights: what it is asked waits until some have come.
    assert tied.engine.state is EngineState.STALE
    waiting = asyncio.create_task(answer(tied))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await tied.send()
    assert await tied.verify() < 1e-5
    assert gap(completion := await waiting, expected(tied, tied.module, completion)) < 1e-5


async def test_weights_of_which_one_is_another_do_not_match_whatever_the_probe_says(tied: Pair) -> None:
    await tied.send()
    whole = sum((await tied.engine.digests()).values())
    assert await tied.verify(whole % WHOLE) < 1e-5
    with pytest.raises(PolicyMismatch, match="not all of its weights are those that were sent"):
        await tied.verify((whole + 1) % WHOLE)
    assert tied.engine.state is EngineState.STALE
    assert await tied.verify() < 1e-5


async def nothing(*_arguments: Any, **_options: Any) -> None:
    """In the place of a cure."""


SHARINGS = [
    (DeepSpeedConfig(zero_stage=0), "float32"),
    (DeepSpeedConfig(zero_stage=1), "float32"),
    (DeepSpeedConfig(zero_stage=2), "bfloat16"),
    (DeepSpeedConfig(zero_stage=3), "float32"),
    (DeepSpeedConfig(zero_stage=3), "bfloat16"),
    (DeepSpeedConfig(zero_stage=2, offload_optimizer=True), "float32"),
    (DeepSpeedConfig(zero_stage=3, offload_optimizer=True), "float32"),
]


def train(
    rank: int, num_ranks: int, sharing: DeepSpeedConfig, dtype: str, rests: bool
) -> tuple[dict[str, Tensor] | None, list[Tensor]]:
    """Weights after a few steps, and what the model said between them, where it rests if it is to."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(120, 160), nn.Tanh(), nn.Linear(160, 160).requires_grad_(False), nn.Linear(160, 1))
    model = model.to(getattr(torch, dtype))
    optimizer = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1)
    engine = DistributedEngine.start(model, optimizer=optimizer, sharing=sharing, dtype=dtype)
    inputs = torch.randn(4, 120, generator=torch.Generator().manual_seed(rank)).to(getattr(torch, dtype))
    said = []
    for _ in range(4):
        if rests:
            engine.rest()
            engine.rest()
        with torch.no_grad():
            said.append(engine.module(inputs))
        if rests:
            engine.work()
        for _ in range(2):
            engine.accumulate((engine.module(inputs).float() - 1).square().sum() / num_ranks)
        engine.step()
    state = whole_state_dict(engine)
    engine.close()
    return state, said


@pytest.mark.parametrize(("sharing", "dtype"), SHARINGS, ids=str)
async def test_a_learner_that_rested_between_steps_learned_the_same_bit_for_bit(
    sharing: DeepSpeedConfig, dtype: str
) -> None:
    """Without a GPU nothing moves; what is shown is that DeepSpeed's parts still belong together afterwards."""
    [(plain, said), *_] = run_ranks(2, train, sharing, dtype, False)
    [(rested, said_resting), *_] = run_ranks(2, train, sharing, dtype, True)
    assert all(torch.equal(plain[name], rested[name]) for name in plain.keys() | rested.keys())
    assert all(map(torch.equal, said, said_resting))
    assert not torch.equal(said[0], said[-1])


class Dead:
    """An engine that dies as the first bucket comes."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...
    def start_weight_update(self) -> None: ...
    def finish_weight_update(self, weight_version: str | None = None) -> None: ...

    def update_weights(self, update_info: Any) -> None:
        raise ConnectionError("the worker died")


def send_to_the_dead(rank: int, num_ranks: int, folder: str) -> list[int]:
    """Whether sending failed here, twice; the ranks put the weights together bucket by bucket."""
    options: dict[str, Any] = {"model": folder, "num_ranks": num_ranks, "deepspeed": {"zero_stage": 3}}
    config = LearnerConfig.model_validate(options)
    learner = Learner(Path(folder), config, temperature=1.0, chat=ChatTokens.load(Path(folder)))
    source = DeepSpeedZeroSource(learner.policy.backbone, Path(folder), bucket_bytes=20_000)
    sender = make_sender("shared_memory", client=Dead(), source=source, sends=rank == 0, bucket_bytes=20_000)
    failures = []
    for version in (1, 2):
        try:
            sender.send(version)
            failures.append(0)
        except ConnectionError:
            failures.append(1)
    failures.append(learner.engine.largest(rank))
    learner.engine.close()
    return failures


async def test_a_worker_that_dies_while_ranks_gather_does_not_leave_one_waiting_for_the_others(tied: Pair) -> None:
    assert await asyncio.to_thread(run_ranks, 2, send_to_the_dead, str(tied.folder)) == [[1, 1, 1], [0, 0, 1]]


@pytest.fixture(scope="module")
def two_hosts() -> Iterator[None]:
    """Two raylets, which are two hosts to Ray."""
    if ray.is_initialized():
        end_ranks()
        ray.shutdown()
    # Of no dashboard, too, Ray would want the usual port, which another Ray of this machine may have.
    head = {"num_cpus": 4, "include_dashboard": False, "dashboard_port": None}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=4, resources={"second": 2})
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
    cluster.shutdown()


async def test_a_worker_on_another_host_gets_the_same_bytes_through_ray_once_a_bucket(
    two_hosts: None, tied: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RolloutConfig(engine=CONFIG)
    here = start_worker("rollout-here", tied.folder, config, num_cpus=1, resources={"node:__internal_head__": 0.001})
    there = start_worker("rollout-there", tied.folder, config, num_cpus=1, resources={"second": 1})
    ray.get([here.start.remote(), there.start.remote()])
    client = Receivers.of([here, there])
    assert [place.host == own_place().host for place in client.places] == [True, False]
    module = AutoModelForCausalLM.from_pretrained(tied.folder).eval()
    sender = make_sender(
        "shared_memory", client=client, source=HuggingFaceSource(module, tied.folder), bucket_bytes=20_000
    )
    put, sizes = ray.put, []

    def put_and_count(contents: Any) -> Any:
        sizes.append(contents.nbytes)
        return put(contents)

    monkeypatch.setattr(ray, "put", put_and_count)
    prompts = make_probe(module.config.vocab_size)
    for version in (1, 2):
        sizes.clear()
        learn(module, version)
        report = sender.send(version)
        assert len(sizes) == report.num_calls > 1
        assert sum(sizes) >= report.num_bytes
        logprobs = expected_logprobs(module, prompts)
        tolerance = TOLERANCES["float32"]
        probe = ProbeExpectation(prompts=prompts, logprobs=logprobs, version=version, tolerance=tolerance)
        assert client.verify(probe) < 1e-5
    learner = LearnerGroup.start(LearnerConfig(model=str(tied.folder)), 1.0)
    sync = WeightSync(learner, prompts, backend="shared_memory", dtype="float32", bucket_bytes=20_000)
    learner.rest()
    pushed = sync.push(Receivers.of([there, here]))
    learner.work()
    assert pushed.gap < 1e-5
    assert pushed.sync.num_calls > 1
    learner.close()
    assert not list(Path("/dev/shm").glob(f"{FILE_PREFIX}*"))
    ray.get([here.close.remote(), there.close.remote()])


async def test_handles_of_a_gpus_memory_reach_vllms_receiver_in_its_own_process(two_hosts: None, tied: Pair) -> None:
    """As far as a host without a GPU can go: there the receiver looks for its own."""
    config = RolloutConfig(engine=CONFIG.model_copy(update={"weight_transfer": "ipc"}))
    worker = start_worker("rollout-ipc", tied.folder, config, num_cpus=1)
    ray.get(worker.start.remote())
    client = Receivers.of([worker])
    handle = {"GPU-77a0": (torch.Tensor, (16,), (1,), 0, torch.UntypedStorage, torch.uint8, 0, b"handle", 16, 0)}
    chunk = PackedIpcChunk(
        names=["lm_head.weight"], shapes=[[2, 2]], dtype_names=["float32"], tensor_sizes=[16], ipc_handle=handle
    )
    for _ in range(2):
        client.init_weight_transfer_engine({"packed": True})
        client.start_weight_update()
        with pytest.raises(RayTaskError, match="Torch not compiled with CUDA enabled"):
            client.update_weights(announced(chunk))
    ray.get(worker.close.remote())


class EngineRanks:
    """The ranks of one engine, in vLLM's own words; only the number of the GPU is made up."""

    def __init__(self, num_ranks: int) -> None:
        self._num_ranks = num_ranks

    def place(self) -> Place:
        return own_place(self._num_ranks)

    def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        torch.accelerator.current_device_index = lambda: 0
        info = NCCLWeightTransferInitInfo(**init_info)
        ranks = [
            SimpleNamespace(data_parallel_index=0, world_size=self._num_ranks, rank=rank)
            for rank in range(self._num_ranks)
        ]
        with ThreadPoolExecutor(self._num_ranks) as together:
            self._groups: list[Any] = list(together.map(lambda rank: worker_init_process_group(info, rank), ranks))

    def ranks(self) -> list[tuple[int, int, int]]:
        """Of each process its rank, the size of its group and the rank that it hears from rank 0."""
        return [(group.rank, group.world_size, group.group.broadcast_obj(None, src=0)) for group in self._groups]


async def test_all_ranks_of_all_engines_meet_the_sender_each_under_a_rank_of_its_own_and_again_elsewhere(
    two_hosts: None, tied: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's rendezvous on both sides; without NCCL it makes no communicator, but waits for all ranks the same."""
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    hosts: list[dict[str, Any]] = [{}, {"resources": {"second": 1}}, {}]
    actors = [ray.remote(EngineRanks).options(num_cpus=0, **host) for host in hosts]
    engines = [actor.remote(num_ranks) for actor, num_ranks in zip(actors, (2, 3, 1), strict=True)]
    learner = LearnerWorker(0, LearnerConfig(model=str(tied.folder)), 1.0)
    learner._source = tied.source()  # pyright: ignore[reportAttributeAccessIssue]
    ports = set()
    for chosen, expected_ranks in ((engines, [[1, 2], [3, 4, 5], [6]]), (engines[1:], [[1, 2, 3], [4]])):
        await asyncio.to_thread(learner.connect, Receivers.of(chosen), "nccl", {})
        assert learner._sender is not None
        trainer: Any = learner._sender._trainer
        group = trainer.model_update_group
        size = 1 + sum(map(len, expected_ranks))
        assert (group.rank, group.world_size) == (0, size)
        group.group.broadcast_obj("hello", src=0)
        heard = ray.get([engine.ranks.remote() for engine in chosen])
        assert heard == [[(rank, size, "hello") for rank in ranks] for ranks in expected_ranks]
        ports.add(group.group.store.port)
        learner.forget_workers()
    assert len(ports) == 2
