"""The rollout engine that really samples: vLLM, on CPUs and GPUs alike; only the arguments differ.

    start                                       load a model
    generate, score                             what RolloutEngine asks for
    init_weight_transfer, start_weight_update,  vLLM's weight transfer, with the resets that it leaves out;
    update_weights, finish_weight_update        rollout/weight_transfer.py has the other end
    verify                                      READY again only when the probe passes (rollout/probe.py)
    sleep, wake                                 leave a GPU to the learner; an update wakes the engine in two steps

An update keeps running answers: they freeze, their keys and values are thrown away, and they go on under the new
weights. Nothing that unverified weights drew leaves `generate`.

Where keys and values are kept instead (`rollout.keep_cache`), a dialogue shares them only with those that began under
the same version, and its tokens say which that was: who drops what is too old drops such dialogues with it.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from vllm import SamplingParams
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from rollout.config import EngineConfig
from rollout.engine import Completion, EngineError, EngineState, PolicyMismatch, Prompt, Sampling
from rollout.episode import VersionSpan
from rollout.probe import ProbeExpectation, largest_gap
from rollout.sign import Phase, Sign
from rollout.vllm_options import engine_arguments, environment
from rollout.vllm_pictures import Rendering
from rollout.weight_digest import WHOLE

FIRST_VERSION = 0


class VllmEngine:
    """A model in vLLM's own processes. Use it from one event loop."""

    def __init__(self, llm: AsyncLLM, model: Path, forbidden_token_ids: Sequence[int], keeps_cache: bool) -> None:
        """Use `start`."""
        self._llm = llm
        self._render = Rendering(llm)
        self._model = model
        self._processes = list(llm.engine_core.resources.engine_manager.processes)  # pyright: ignore
        self._version = FIRST_VERSION
        # An entry for each token and request is cheaper than a mask over the vocabulary, and nothing costs nothing.
        self._logit_bias = dict.fromkeys(forbidden_token_ids, float("-inf")) or None
        self._request_numbers = itertools.count()
        self._running: set[str] = set()
        self._settled = asyncio.Event()
        self._settled.set()
        self._trouble: EngineError | None = None
        self._update_is_open = False
        self._asleep: list[str] = []
        self._phase = Phase()
        self._keeps_cache, self._is_anew = keeps_cache, False

    @classmethod
    async def start(
        cls,
        model: Path,
        config: EngineConfig,
        *,
        forbidden_token_ids: Sequence[int] = (),
        keeps_cache: bool = False,
    ) -> Self:
        """Load the model of a folder; it is version 0. `keeps_cache`: an update leaves keys and values as they are.

        `forbidden_token_ids` are never drawn: those that stand for pictures, the padding. Log-probabilities are then
        of the distribution without them, so the learner has to leave them out as well.
        """
        with environment(config), _refusals(config):
            logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
            llm = AsyncLLM.from_engine_args(engine_arguments(model, config))
        engine = cls(llm, model, forbidden_token_ids, keeps_cache)
        with engine._named_errors("starting"):
            await engine._llm.update_weight_version(str(FIRST_VERSION))
        return engine

    async def begin_anew(self) -> None:
        """Be as after `start`, but that nobody may play until weights have come: those that are here are another's."""
        self._settled.clear()
        self._trouble = None
        self._version, self._is_anew = FIRST_VERSION, True
        await self._llm.abort(list(self._running))
        with self._named_errors("it was made ready for another learner"):
            await self._llm.update_weight_version(str(FIRST_VERSION))

    @property
    def state(self) -> EngineState:
        """READY from the start, STALE from `sleep` or `start_weight_update` until `verify` passes."""
        return EngineState.READY if self._settled.is_set() and self._trouble is None else EngineState.STALE

    async def alive(self) -> Sign:
        """A sign of life from the process that has the model: vLLM notices one that is dead, not one that hangs.

        While that process loads or moves weights it answers nothing, and this one says so in its place.
        """
        if not self._phase.is_long:
            with self._named_errors("it was asked for a sign of life", is_long=False):
                await self._llm.is_sleeping()
        return self._phase.sign()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """Draw one answer; cancelling the task frees its place."""
        # `logprobs=0`: of the drawn token alone.
        params = _params(**asdict(sampling), logit_bias=self._logit_bias, logprobs=0)
        await self._until_settled()
        began = self._version if prompt.began_with is None else prompt.began_with
        salt = str(began) if self._keeps_cache else None
        output = await self._run(await self._render(prompt, salt), params)
        await self._until_settled()  # an update may have begun: its weights drew the rest, and may be wrong
        drawn = output.outputs[0]
        if drawn.finish_reason not in ("stop", "length"):
            # Only `verify` drops answers; should right weights have come since, this one still began under wrong ones.
            raise PolicyMismatch(f"an answer of {self._model} was dropped: it was drawn by weights that did not match")
        spans = [VersionSpan(int(span.version), span.start, span.end) for span in drawn.weight_versions or ()]
        if self._keeps_cache and prompt.began_with is None and (not spans or spans[0].version > began):
            # It waited while an update came, and may have read what the version before had kept of such a prompt.
            spans.insert(0, VersionSpan(began, 0, 0))
        return Completion(
            token_ids=list(drawn.token_ids),
            logprobs=drawn.logprobs.logprobs,  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
            finish="stop" if drawn.finish_reason == "stop" else "length",
            versions=tuple(spans),
        )

    async def score(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """The log-probability of every token but the first, without temperature and with nothing forbidden."""
        return list(await asyncio.gather(*map(self._score, prompts)))

    async def _score(self, prompt: Prompt) -> list[float]:
        # vLLM does not use the prefix cache for such a request, so all of it is computed by the present weights.
        rendered = await self._render(prompt)
        output = await self._run(rendered, _params(max_tokens=1, temperature=0, prompt_logprobs=0))
        positions = [place for places in rendered.get("mm_placeholders", {}).values() for place in places]
        expanded = {position for place in positions for position in range(place.offset, place.offset + place.length)}
        logprobs = output.prompt_logprobs.logprobs  # pyright: ignore
        return [logprob for position, logprob in enumerate(logprobs, start=1) if position not in expanded]

    async def _run(self, rendered: Any, params: SamplingParams) -> RequestOutput:
        """The only output of one request."""
        request_id = str(next(self._request_numbers))
        self._running.add(request_id)
        try:
            with self._named_errors("it had requests", is_long=False):
                return [output async for output in self._llm.generate(rendered, params, request_id)][-1]
        finally:
            self._running.discard(request_id)

    async def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """Connect the sender of new weights, in the place of one that is perhaps no more."""
        with self._named_errors("a sender of weights connected"):
            if not self._update_is_open:  # else vLLM would refuse
                await self._llm.shutdown_weight_transfer_engine()
            await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info))

    async def start_weight_update(self) -> None:
        """Freeze what runs and make ready for weights. Starting again after an update that broke off is right."""
        self._settled.clear()
        self._trouble = None
        await self.wake("weights")
        with self._named_errors("an update started"):
            # `pause_generation` would wait for nothing besides, for 20 ms.
            await self._llm.engine_core.pause_scheduler_async(mode="keep", clear_cache=False)
            if self._update_is_open:
                await self._llm.finish_weight_update()
            await self._llm.start_weight_update()
        self._update_is_open = True

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        """Take some of the weights."""
        self._update_is_open = False  # should it fail, vLLM has closed the update itself
        with self._named_errors("weights arrived"):
            await self._llm.update_weights(WeightTransferUpdateRequest(update_info))
        self._update_is_open = True

    async def finish_weight_update(self, version: int) -> None:
        """All weights have arrived: drop whatever the old ones made, and let running answers go on."""
        with self._named_errors("an update finished"):
            await self._llm.finish_weight_update(weight_version=str(version))
            self._update_is_open = False
            # What weights of another learner have left behind bears the same versions.
            if not self._keeps_cache or self._is_anew:
                await self._llm.reset_prefix_cache(reset_running_requests=True)
            await self._llm.reset_encoder_cache()
            await self.wake()  # until here the learner and the loading may need the room
            await self._llm.resume_generation()
        self._version = version

    async def verify(self, expected: ProbeExpectation) -> float:
        """Open the engine if its log-probabilities are the expected ones: the largest gap, or PolicyMismatch."""
        gap = largest_gap(await self.score(expected.prompts), expected.logprobs)
        is_whole = expected.digest is None or expected.digest == sum((await self.digests()).values()) % WHOLE
        if gap <= expected.tolerance and self._version == expected.version and is_whole:
            self._trouble, self._is_anew = None, False
            self._settled.set()
            return gap
        self._trouble = PolicyMismatch(
            f"the engine of {self._model} holds version {self._version} and its log-probabilities are {gap:.3g} "
            f"off version {expected.version}; up to {expected.tolerance:.3g} is tolerated"
            f"{'' if is_whole else '; not all of its weights are those that were sent'}. It plays nothing until "
            "weights that match are sent."
        )
        self._settled.set()
        await self._llm.abort(list(self._running))
        raise self._trouble

    async def digests(self) -> dict[str, int]:
        """The digest of each of its weights, added up over the processes that share them."""
        with self._named_errors("its weights were read"):
            found: list[dict[str, int]] = await self._llm.collective_rpc("weight_digests")
        return {name: sum(each.get(name, 0) for each in found) for name in found[0]}

    async def sleep(self) -> None:
        """Give the GPU's memory back: keys and values are dropped, and so are weights, which an update will bring."""
        if not self._asleep:
            self._settled.clear()
            with self._named_errors("it went to sleep"):
                await self._llm.sleep(level=2)
            self._asleep = ["weights", "kv_cache"]

    async def wake(self, up_to: str = "kv_cache") -> None:
        """Take the memory again, or only that of `weights`; what was cached before is gone."""
        while self._asleep and (up_to == "kv_cache" or self._asleep[0] == up_to):
            with self._named_errors("it woke up"):
                await self._llm.wake_up([self._asleep.pop(0)])

    async def close(self) -> None:
        """End vLLM's processes and wait for them."""
        self._llm.shutdown()
        for process in self._processes:
            process.join(10)  # one that took too long was killed, and not waited for
        if self._llm.output_handler is not None:
            await asyncio.wait([self._llm.output_handler])  # just cancelled; a loop that closes earlier complains

    async def _until_settled(self) -> None:
        """Wait while an update is under way; raise what it came to, if not to a verified policy."""
        await self._settled.wait()
        if self._trouble is not None:
            raise type(self._trouble)(*self._trouble.args)

    @contextmanager
    def _named_errors(self, when: str, *, is_long: bool = True) -> Iterator[None]:
        try:
            with self._phase.of(when, is_long=True) if is_long else nullcontext():
                yield
        except EngineDeadError as error:
            codes = ", ".join(f"{process.name}: exit code {process.exitcode}" for process in self._processes)
            self._trouble = EngineError(
                f"the vLLM engine of {self._model} died while {when} ({codes}). What vLLM printed says why; "
                "-9 without a word is mostly a lack of memory. Start another engine."
            )
            self._settled.set()
            raise self._trouble from error
        except Exception as error:
            if type(error) is not Exception:
                raise
            # So vLLM passes on what failed in its process.
            raise EngineError(f"the vLLM engine of {self._model} failed while {when}: {error}") from error


@contextmanager
def _refusals(config: EngineConfig) -> Iterator[None]:
    """What vLLM says of arguments that it does not take; ours it takes."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not config.extra:
            raise
        raise EngineError(
            f"rollout.engine.extra={config.extra}: vLLM does not start with it ({error}); change it or leave it out"
        ) from error


def _params(**options: Any) -> SamplingParams:
    """For one request, which is answered once, with token ids; they are its own, so that vLLM need not clone them."""
    final = RequestOutputKind.FINAL_ONLY
    return SamplingParams(flat_logprobs=True, detokenize=False, output_kind=final, skip_clone=True, **options)
