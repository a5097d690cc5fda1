"""Pictures of a record, as the model wants them."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from learner.batch import BatchError, ModelInput
from learner.sequence import TrainingSequence
from rollout.traffic import total
from rollout.transcript import ChatTokens


class PictureReader:
    """Expands placeholders and prepares pixels with a model's own processor."""

    def __init__(self, chat: ChatTokens) -> None:
        self._chat = chat
        self._image_token_id = chat.image_token_id

    def model_input(self, sequence: TrainingSequence, first_number: int) -> ModelInput:
        """The sequence as the model sees it; raises BatchError where pictures and placeholders do not match."""
        token_ids = sequence.token_ids.astype(np.int64)
        if self._image_token_id is None and sequence.images:
            raise BatchError(f"{_name(sequence)} shows pictures, but learner.model has no eyes; use one that has")
        num_placeholders = int((token_ids == self._image_token_id).sum()) if self._image_token_id is not None else 0
        if num_placeholders != len(sequence.images):
            raise BatchError(
                f"{_name(sequence)} shows {len(sequence.images)} pictures, but its tokens hold {num_placeholders} "
                f"placeholders ({self._image_token_id}); it was recorded with another model's tokenizer, so play it "
                "again with learner.model"
            )
        images = tuple(Image.open(io.BytesIO(sequence.pictures[digest])).convert("RGB") for digest in sequence.images)
        return self.expanded(token_ids, sequence.is_sampled, images, first_number)

    def expanded(
        self,
        token_ids: npt.NDArray[np.int64],
        is_sampled: npt.NDArray[np.bool_],
        images: Sequence[Image.Image],
        first_number: int,
    ) -> ModelInput:
        """Tokens with as many in place of each picture's placeholder as the model wants."""
        placeholders = np.flatnonzero(token_ids == self._image_token_id) if images else ()
        sampled_at = np.flatnonzero(is_sampled)
        expansions = [self._chat.expanded(image.size) for image in images]
        for at, expansion in zip(reversed(placeholders), reversed(expansions), strict=True):
            token_ids = np.concatenate([token_ids[:at], expansion.token_ids, token_ids[at + 1 :]])
            sampled_at = sampled_at + (len(expansion.token_ids) - 1) * (sampled_at > at)
        return ModelInput(
            token_ids=token_ids,
            sampled_at=sampled_at,
            first_number=first_number,
            images=tuple(images),
            of_images=total(expansion.traffic for expansion in expansions),
        )

    def prepare(self, images: Sequence[Image.Image]) -> Mapping[str, torch.Tensor]:
        """The pictures as tensors, by the names under which the model takes them."""
        processor = self._chat.processor
        text = processor.image_token * len(images)
        inputs = processor(text=text, images=list(images), add_special_tokens=False, return_tensors="pt")
        return {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}

    def filler(self) -> ModelInput | None:
        """A row with a picture of nothing, in which nothing was sampled; None where the model has no eyes."""
        if self._chat.processor is None:
            return None
        blank = Image.new("RGB", (32, 32))
        nothing = np.zeros(0, np.int64)
        token_ids = np.array(self._chat.expanded(blank.size).token_ids, np.int64)
        return ModelInput(token_ids=token_ids, sampled_at=nothing, first_number=0, images=(blank,))


def _name(sequence: TrainingSequence) -> str:
    trajectory = sequence.trajectory
    return f"episode {trajectory.env}/{trajectory.split}/{trajectory.seed}"
