"""Pictures as vLLM's processor makes them, each prepared once for all turns of the dialogues that show it.

    Rendering(llm)(prompt)   →  vLLM's form of a prompt: pictures resized, their placeholders expanded

vLLM's own cache of them lives in two processes that must see the same requests; one that is cancelled between them
would leave them apart. This one is the sender's alone: what is prepared stays with it as long as somebody holds the
picture, which dialogues in play do, and goes along with every turn.
"""

import weakref
from collections import Counter, OrderedDict, deque
from typing import Any

from vllm.inputs import TokensPrompt, tokens_input
from vllm.multimodal.cache import BaseMultiModalProcessorCache
from vllm.multimodal.cache.base import MultiModalCache
from vllm.utils.cache import CacheInfo
from vllm.v1.engine.async_llm import AsyncLLM

from rollout.engine import Prompt

ROOM_BYTES = 8 * 2**30
"""Beyond it the longest unused are dropped, and prepared again where they are shown again."""


class Rendering:
    """Renders prompts, off the event loop as far as pictures go."""

    def __init__(self, llm: AsyncLLM) -> None:
        """`llm` is to prepare pictures for nobody else."""
        self._renderer = llm.renderer
        self.pictures = PreparedPictures()
        # With `skip_mm_cache`, vLLM leaves its two caches alone and asks this one, of which it makes none by itself
        # where the two are off.
        self._renderer._mm_processor_only_cache = self.pictures

    async def __call__(self, prompt: Prompt, salt: str | None = None) -> Any:
        """vLLM's form of it; with a `salt`, it shares keys and values with prompts of the same salt alone."""
        if not prompt.images:
            return tokens_input(prompt.token_ids, cache_salt=salt)
        data = TokensPrompt(prompt_token_ids=prompt.token_ids, multi_modal_data={"image": list(prompt.images)})
        if salt is not None:
            data["cache_salt"] = salt
        if prompt.digests:
            self.pictures.hold(prompt)
            data["multi_modal_uuids"] = {"image": list(prompt.digests)}
        [rendered] = await self._renderer.render_cmpl_async([data], skip_mm_cache=True)
        return rendered


class PreparedPictures(BaseMultiModalProcessorCache):
    """By digest; `hold` may be called anywhere, all else by the one thread in which vLLM prepares pictures."""

    def __init__(self) -> None:
        self._prepared: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        self._num_bytes = 0
        self._new: list[str] = []
        self._holders: Counter[str] = Counter()
        # Pictures are let go of by any thread at any moment, so that is only noted.
        self._changes: deque[tuple[str, int]] = deque()
        self._asked = self._found = 0

    def hold(self, prompt: Prompt) -> None:
        """Keep what is prepared of its pictures as long as these live."""
        for image, digest in zip(prompt.images, prompt.digests, strict=True):
            self._changes.append((digest, 1))
            weakref.finalize(image, self._changes.append, (digest, -1)).atexit = False

    def is_cached_item(self, mm_hash: str) -> bool:
        """Whether it need not be prepared."""
        return mm_hash in self._prepared

    def get_and_update_item(self, mm_item: Any, mm_hash: str) -> Any:
        """What was prepared before, or else is given now."""
        self._asked += 1
        if mm_hash in self._prepared:
            self._found += 1
        else:
            self._prepared[mm_hash] = mm_item
            self._num_bytes += MultiModalCache.get_item_size(mm_item[0])
            self._new.append(mm_hash)
        return self._prepared[mm_hash]

    def touch_sender_cache_item(self, mm_hash: str) -> None:
        """It is used now."""
        if mm_hash in self._prepared:
            self._prepared.move_to_end(mm_hash)

    def release_sender_touches(self) -> None:
        """A prompt is rendered: drop what nobody holds, and what there is no room for."""
        while self._changes:
            digest, change = self._changes.popleft()
            self._holders[digest] += change
            if not self._holders[digest]:
                del self._holders[digest]
                self._drop(digest)
        for digest in self._new:
            if digest not in self._holders:
                self._drop(digest)
        self._new.clear()
        while self._num_bytes > ROOM_BYTES:
            self._drop(next(iter(self._prepared)))

    def clear_cache(self) -> None:
        """Drop all."""
        self._prepared.clear()
        self._num_bytes = 0

    def make_stats(self, *, delta: bool = False) -> CacheInfo:
        """How often pictures were asked for, and how often they were there; since the start in any case."""
        return CacheInfo(hits=self._found, total=self._asked)

    def _drop(self, digest: str) -> None:
        if (dropped := self._prepared.pop(digest, None)) is not None:
            self._num_bytes -= MultiModalCache.get_item_size(dropped[0])
