"""What tests of the rollout engine compare it with, and how they send it weights."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL.Image import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from rollout.config import EngineConfig
from rollout.engine import Completion, Prompt
from rollout.probe import TOLERANCES, ProbeExpectation, expected_logprobs, make_probe
from rollout.vllm_engine import VllmEngine
from rollout.weight_files import FILE_PREFIX
from rollout.weight_source import HuggingFaceSource
from rollout.weight_transfer import SyncReport, make_sender

CONFIG = EngineConfig(max_context_tokens=1024, max_sequences=64)


class LocalClient:
    """vLLM's client protocol for an engine that runs on an event loop of this process; call it from another thread."""

    def __init__(self, engine: VllmEngine, **init_info: Any) -> None:
        self._engine = engine
        self._init_info = init_info
        self._loop = asyncio.get_running_loop()

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call(self._engine.init_weight_transfer({**init_info, **self._init_info}))

    def start_weight_update(self) -> None:
        self._call(self._engine.start_weight_update())

    def update_weights(self, update_info: Any) -> None:
        self._call(self._engine.update_weights(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        assert weight_version is not None
        self._call(self._engine.finish_weight_update(int(weight_version)))

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)


@dataclass
class Pair:
    """An engine, and the module whose weights it is to have."""

    engine: VllmEngine
    module: PreTrainedModel
    processor: Any
    folder: Path
    processes: set[psutil.Process]
    forbidden_token_ids: tuple[int, ...] = ()
    version: int = 0

    @property
    def tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    def prompt(self, text: str, *images: Any) -> Prompt:
        return Prompt(token_ids=self.tokenizer(text)["input_ids"], images=images)

    def source(self) -> HuggingFaceSource:
        return HuggingFaceSource(self.module, self.folder)

    async def send(self, source: Any = None, **init_info: Any) -> SyncReport:
        """Send the module's weights, in buckets so small that layers straddle them, as the next version."""
        self.version += 1
        client = LocalClient(self.engine, **init_info)

        def send() -> SyncReport:
            sender = make_sender("shared_memory", client=client, source=source or self.source(), bucket_bytes=20_000)
            return sender.send(self.version)

        return await asyncio.to_thread(send)

    async def drawing(self, num_tokens: int = 8) -> None:
        """Wait until some answer has so many tokens."""
        processor = self.engine._llm.output_processor
        while not any(
            state.detokenizer and state.detokenizer.num_output_tokens() >= num_tokens
            for state in processor.request_states.values()
        ):
            await asyncio.sleep(0.002)

    async def verify(self, digest: int | None = None) -> float:
        vocab_size = self.module.config.get_text_config().vocab_size
        picture_token_id = getattr(self.processor, "image_token_id", None)
        prompts = make_probe(
            vocab_size, forbidden_token_ids=self.forbidden_token_ids, picture_token_id=picture_token_id
        )
        logprobs = expected_logprobs(self.module, prompts, self.processor)
        return await self.engine.verify(
            ProbeExpectation(
                prompts=prompts,
                logprobs=logprobs,
                version=self.version,
                tolerance=TOLERANCES["float32"],
                digest=digest,
            )
        )


@asynccontextmanager
async def running(
    pair_folder: Path,
    *,
    pictures: bool = False,
    forbidden: tuple[str, ...] = (),
    config: EngineConfig = CONFIG,
    keeps_cache: bool = False,
) -> AsyncIterator[Pair]:
    """A pair whose engine leaves nothing behind."""
    auto = AutoModelForImageTextToText if pictures else AutoModelForCausalLM
    processor = (AutoProcessor if pictures else AutoTokenizer).from_pretrained(pair_folder)
    tokenizer = getattr(processor, "tokenizer", processor)
    forbidden_token_ids = tuple(tokenizer.convert_tokens_to_ids(list(forbidden)))
    module = auto.from_pretrained(pair_folder).eval()
    before = children()
    engine = await VllmEngine.start(
        pair_folder, config, forbidden_token_ids=forbidden_token_ids, keeps_cache=keeps_cache
    )
    try:
        yield Pair(engine, module, processor, pair_folder, children() - before, forbidden_token_ids)
    finally:
        started = time.monotonic()
        await engine.close()
        assert time.monotonic() - started < 10
        assert children() <= before
        assert shared_files() == []


def children() -> set[psutil.Process]:
    """Processes that this one started, but for the helper that Python's multiprocessing keeps."""
    found = psutil.Process().children(recursive=True)
    return {child for child in found if "resource_tracker" not in " ".join(child.cmdline())}


def shared_files() -> list[str]:
    """Weights of this process that were left in shared memory."""
    return [path.name for path in Path("/dev/shm").glob(f"{FILE_PREFIX}{os.getpid()}-*")]


@torch.no_grad()
def transformers_logprobs(
    module: PreTrainedModel,
    processor: Any,
    text: str,
    completion: Completion,
    *,
    images: Sequence[Image] = (),
    temperature: float = 1.0,
    forbidden_token_ids: Sequence[int] = (),
) -> torch.Tensor:
    """The log-probability of each drawn token, by one forward over the prompt's text and the drawn tokens."""
    inputs = processor(text=text, return_tensors="pt", **({"images": list(images)} if images else {}))
    prompt = inputs.pop("input_ids")
    row = torch.cat([prompt, torch.tensor([completion.token_ids])], dim=1)
    pictures = {name: value for name, value in inputs.items() if name.startswith("pixel")}
    logits = module(input_ids=row, **pictures).logits[0, prompt.shape[1] - 1 : -1].float()
    logits[:, list(forbidden_token_ids)] = float("-inf")
    logprobs = (logits / temperature).log_softmax(dim=-1)
    return logprobs.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]


def gap(completion: Completion, expected: torch.Tensor, start: int = 0, end: int | None = None) -> float:
    """The largest difference between the recorded log-probabilities and the expected ones, of some tokens."""
    difference = torch.tensor(completion.logprobs) - expected
    return float(difference[start:end].abs().max())
