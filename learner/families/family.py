"""A model that is told tokens, positions, and pixels as its processor makes them: Llama, Idefics3 and their like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from learner.batch import BatchError, Layout, ModelInput, Rows, positions
from learner.pictures import Pictures
from learner.sequence import TrainingSequence
from rollout.traffic import total
from rollout.transcript import ChatTokens

OF_PICTURES = ("pixel_values", "pixel_attention_mask", "image_grid_thw")
"""What a model's tower is told."""


class Family:
    """Reads records for one model, and tells it what its micro-batches show."""

    def __init__(self, chat: ChatTokens, backbone: Any) -> None:
        self._chat = chat
        self._image_token_id = chat.image_token_id
        self._model = backbone.base_model
        self._pictures = Pictures(chat.processor)

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
        images = tuple(self._pictures.of(digest, sequence.pictures[digest]) for digest in sequence.images)
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

    def filler(self) -> ModelInput | None:
        """A row with a picture of nothing, in which nothing was sampled; None where the model has no eyes."""
        if self._chat.processor is None:
            return None
        blank = Image.new("RGB", (32, 32))
        token_ids = np.array(self._chat.expanded(blank.size).token_ids, np.int64)
        return ModelInput(token_ids=token_ids, sampled_at=np.zeros(0, np.int64), first_number=0, images=(blank,))

    def words(self, text: str) -> ModelInput:
        """A question without pictures, in which nothing was sampled."""
        token_ids = np.array(self._chat.opening(text, 0), np.int64)
        return ModelInput(token_ids=token_ids, sampled_at=np.zeros(0, np.int64), first_number=0)

    def inputs(self, rows: Rows, width: int, layout: Layout) -> dict[str, torch.Tensor]:
        """What the model is told beside the tokens of these rows, by the names under which it takes it."""
        told = {} if layout == "padded" else {"position_ids": positions(rows, width)}
        images = [image for row in rows for each in row for image in each.images]
        return told | (self._pictures.prepared(images) if images else {})

    def seen(self, backbone: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
        """What tower and projector say of the pictures, as `hidden_states` takes it."""
        shown = {name: inputs[name] for name in OF_PICTURES if name in inputs}
        return {"image": backbone.base_model.get_image_features(**shown, return_dict=True)}

    def hidden_states(
        self, backbone: Any, token_ids: torch.Tensor, inputs: Mapping[str, torch.Tensor], seen: Any = None
    ) -> torch.Tensor:
        """[B, R, width] of the last layer; `seen`, where that is known already."""
        told: dict[str, Any] = dict(inputs)
        if seen is not None:
            told = {name: value for name, value in inputs.items() if name not in OF_PICTURES}
            # A copy: the model adds to what it is given.
            told["mm_encoder_outputs"] = dict(seen)
        return backbone.base_model(input_ids=token_ids, use_cache=False, **told).last_hidden_state

    @torch.no_grad()
    def check(self, backbone: Any) -> None:
        """Raises BatchError where a picture is another thing here than in the model's own forward."""
        pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        made = self._chat.processor(text=self._chat.processor.image_token, images=[image], return_tensors="pt")
        token_ids = made["input_ids"]
        row = ModelInput(
            token_ids=token_ids[0].numpy(), sampled_at=np.zeros(0, np.int64), first_number=0, images=(image,)
        )
        device = backbone.get_input_embeddings().weight.device
        own, told = (
            {name: value.to(device) for name, value in cast(inputs, backbone.dtype).items()}
            for inputs in (made, self.inputs([[row]], token_ids.shape[1], "padded"))
        )
        expected = backbone.base_model(**own, use_cache=False).last_hidden_state
        gap = (self.hidden_states(backbone, token_ids.to(device), told) - expected).abs().max()
        if not gap < (1e-4 if expected.dtype == torch.float32 else 1e-1):
            raise BatchError(
                f"learner.model: pictures of a {backbone.config.model_type} are not understood here (its own forward "
                f"differs by {float(gap):.3g}); it wants more than pixels, which a file in learner/families would say"
            )


def cast(inputs: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What is no whole number in the model's precision."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def _name(sequence: TrainingSequence) -> str:
    trajectory = sequence.trajectory
    return f"episode {trajectory.env}/{trajectory.split}/{trajectory.seed}"
