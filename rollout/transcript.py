"""Words become tokens here, once, and nowhere else.

    ChatTokens(tokenizer, …)                 a model's chat template, as tokens
      .opening(text, num_images)             the first question of a context
      .follow_up(text, num_images, …)        what stands between an answer's last token and the next answer's first
      .words(token_ids)                      an answer as text, for the verifier and for people

    Transcript                               one context: what was shown and sampled so far, token by token
      .show(delta, …)  →  Prompt             appends the question's delta
      .hear(completion)                      appends the answer exactly as it was sampled
      .has_room(config)                      whether another answer fits

An answer is never tokenised: the next question's delta is cut out of the template as it stands behind a marker in the
answer's place, so that the tokens of turn k+1 always extend those of turn k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL.Image import Image
from PIL.Image import new as blank
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from envs.protocol import OpenEpisode, Question
from rollout.config import RolloutConfig
from rollout.engine import Completion, Prompt
from rollout.processors import load_processor
from rollout.traffic import Traffic, of_picture

_MARKER = "MARKERMARKER"


class TemplateError(ValueError):
    """A model's chat template or tokenizer cannot carry a dialogue; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What a picture is for the model, in the place of its placeholder."""

    token_ids: tuple[int, ...]
    """Those that stand for it, with what the model wants around them."""
    traffic: Traffic
    """What of it goes through the vision tower and the projector."""


class ChatTokens:
    """A model's chat template, turned into the tokens between answers."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        end_token_ids: Sequence[int],
        image_token_id: int | None = None,
        processor: Any = None,
        patch_size: int = 1,
    ) -> None:
        if not getattr(tokenizer, "chat_template", None) and not getattr(processor, "chat_template", None):
            raise TemplateError("the tokenizer has no chat_template; save one with it (tokenizer.chat_template = …)")
        self.tokenizer = tokenizer
        self.processor = processor
        self.end_token_ids = frozenset(end_token_ids)
        self.image_token_id = image_token_id
        self._patch_size = patch_size
        self._expansions: dict[tuple[int, int], Expansion] = {}
        self._joint = self._render([self._user("first", 0), self._assistant(_MARKER), self._user("second", 0)])
        if self._joint.count(_MARKER) != 1:
            raise TemplateError("the chat_template does not write an assistant's message as it is; use one that does")

    @classmethod
    def load(cls, model: Path) -> "ChatTokens":
        """The template of the model in a folder, with its processor where it has eyes."""
        config = AutoConfig.from_pretrained(model)
        image_token_id = getattr(config, "image_token_id", None)
        processor = load_processor(model) if image_token_id is not None else None
        tokenizer = processor.tokenizer if processor is not None else AutoTokenizer.from_pretrained(model)
        return cls(
            tokenizer,
            end_token_ids=_end_token_ids(model, tokenizer),
            image_token_id=image_token_id,
            processor=processor,
            patch_size=getattr(getattr(config, "vision_config", None), "patch_size", 1),
        )

    @property
    def forbidden_token_ids(self) -> tuple[int, ...]:
        """Tokens that stand for pictures, and padding: an answer that held one could not be read back."""
        found = set(self.tokenizer.all_special_ids) - self.end_token_ids if self.image_token_id is not None else set()
        if self.image_token_id is not None:
            found.add(self.image_token_id)
        return tuple(sorted(found))

    def opening(self, text: str, num_images: int) -> list[int]:
        """The tokens of a context's first question, up to where the answer begins."""
        return self._tokens(self._render([self._user(text, num_images)]), num_images)

    def follow_up(self, text: str, num_images: int, *, after_end_token: bool) -> list[int]:
        """The tokens between an answer and the next one; the template's end token is left out where it was sampled."""
        dialogue = [self._user("first", 0), self._assistant(_MARKER), self._user(text, num_images)]
        rendered = self._render(dialogue)
        token_ids = self._tokens(rendered[rendered.index(_MARKER) + len(_MARKER) :], num_images)
        if after_end_token and token_ids and token_ids[0] in self.end_token_ids:
            return token_ids[1:]
        return token_ids

    def words(self, token_ids: Sequence[int]) -> str:
        """An answer as text, without its end token."""
        kept = [token_id for token_id in token_ids if token_id not in self.end_token_ids]
        return self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def character_ends(self, token_ids: Sequence[int]) -> list[int]:
        """For each token of an answer, how many characters of `words(token_ids)` stand up to its end."""
        whole = self.words(token_ids)
        ends = list(accumulate(len(self.words([token_id])) for token_id in token_ids))
        if not ends or (ends[-1] == len(whole) and "\ufffd" not in whole):
            return ends
        # Some tokens are no text by themselves: a part of a character, or a word whose blank shows only between others.
        ends = [len(self.words(token_ids[:number])) for number in range(1, len(token_ids) + 1)]
        return [min(end, len(whole)) for end in accumulate(ends, max)]

    def num_image_tokens(self, images: Sequence[Image]) -> int:
        """How many tokens the pictures are for the model, beyond the one placeholder that the record holds for each."""
        return sum(len(self.expanded(image.size).token_ids) - 1 for image in images)

    def expanded(self, size: tuple[int, int]) -> Expansion:
        """What any picture of this width and height is for the model."""
        if size not in self._expansions:
            # Some processors write an opening token of their own, unless there is one.
            opening = self.tokenizer.bos_token or ""
            text, images = opening + self.processor.image_token, [blank("RGB", size)]
            inputs = self.processor(text=text, images=images, add_special_tokens=False, return_tensors="pt")
            self._expansions[size] = Expansion(
                token_ids=tuple(inputs["input_ids"][0, int(bool(opening)) :].tolist()),
                traffic=of_picture(inputs, self.image_token_id or 0, self._patch_size),
            )
        return self._expansions[size]

    def _render(self, messages: list[dict[str, Any]]) -> str:
        writer = self.processor if self.processor is not None else self.tokenizer
        return writer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _tokens(self, rendered: str, num_images: int) -> list[int]:
        # The template writes its own opening tokens; a second set would shift every position.
        token_ids = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        if self.image_token_id is not None and token_ids.count(self.image_token_id) != num_images:
            found = token_ids.count(self.image_token_id)
            raise TemplateError(f"a question with {num_images} pictures holds {found} placeholders for them")
        return token_ids

    def _user(self, text: str, num_images: int) -> dict[str, Any]:
        return {"role": "user", "content": self._content(text, num_images)}

    def _assistant(self, text: str) -> dict[str, Any]:
        return {"role": "assistant", "content": self._content(text, 0)}

    def _content(self, text: str, num_images: int) -> Any:
        """Templates of models with eyes want parts, those of others a string."""
        if self.processor is None:
            return text
        return [{"type": "image"}] * num_images + [{"type": "text", "text": text}]


class Transcript:
    """One context of an episode, token by token."""

    def __init__(self, chat: ChatTokens) -> None:
        self._chat = chat
        self._token_ids: list[int] = []
        self._images: list[Image] = []
        self._digests: list[str] = []
        self._began_with: int | None = None
        self._ended = False

    def delta(self, text: str, num_images: int) -> list[int]:
        """The tokens that this question would add."""
        if not self._token_ids:
            return self._chat.opening(text, num_images)
        return self._chat.follow_up(text, num_images, after_end_token=self._ended)

    def show(
        self, delta: Sequence[int], question: Question, episode: OpenEpisode, digests: Sequence[str] = ()
    ) -> Prompt:
        """Append a question; what comes back is the whole context for the engine. `digests` are of its pictures, of
        every question's or of none's."""
        self._token_ids += delta
        self._images += question.images
        self._digests += digests
        return Prompt(
            token_ids=list(self._token_ids),
            images=tuple(self._images),
            digests=tuple(self._digests),
            began_with=self._began_with,
            asked=(question, episode),
        )

    def hear(self, completion: Completion) -> None:
        """Append an answer as it was sampled."""
        self._token_ids += completion.token_ids
        if self._began_with is None:
            self._began_with = min((span.version for span in completion.versions), default=None)
        self._ended = completion.token_ids[-1:] != [] and completion.token_ids[-1] in self._chat.end_token_ids

    @property
    def num_tokens(self) -> int:
        """The length of the context for the model, pictures expanded."""
        return len(self._token_ids) + self._chat.num_image_tokens(self._images)

    def has_room(self, config: RolloutConfig) -> bool:
        """Whether an answer of any allowed length still fits into the context."""
        return self.num_tokens + config.max_answer_tokens <= config.engine.max_context_tokens


def _end_token_ids(model: Path, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's and those of the generation config, where there is one."""
    found = {tokenizer.eos_token_id}
    if (model / "generation_config.json").is_file():
        configured = GenerationConfig.from_pretrained(model).eos_token_id
        found |= set(configured if isinstance(configured, list) else [configured])
    return tuple(sorted(token_id for token_id in found if token_id is not None))
