"""Llama-3.2-Vision: pictures are no tokens; some layers look at them across, each token at the pictures before it.

    tiles       a picture is cut into up to T; all its tiles are states that a token may look at
    sees        from a picture's placeholder on to the next one's, a token looks at that picture
    before it   a token looks at everything that its sequence shows, as Transformers' own forward has it, and the rest
                of the layer is left out

Told apart only by rows, as Transformers does, a dialogue without pictures would look at its neighbour's. Here each row
has a state of zeros behind its pictures, which gives nothing: who has no picture looks at that. So dialogues with and
without pictures may share a micro-batch and a row, and each reads as it does alone.

Legend: B rows, R tokens in a row, n pictures in all, m at most in a row, T tiles of a picture.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers.models.mllama.processing_mllama import get_cross_attention_token_mask

from learner.batch import Layout, Rows
from learner.families.family import Family

_OURS = ("shown", "sees", "is_before")


class MllamaFamily(Family):
    """Pictures that are looked at across."""

    def inputs(self, rows: Rows, width: int, layout: Layout) -> dict[str, torch.Tensor]:
        told = super().inputs(rows, width, layout)
        if "pixel_values" not in told:
            return told
        # One picture to a row of the vision tower: they see each other's tiles no more than in the model's own forward.
        for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask"):
            told[name] = told[name].transpose(0, 1)
        return told | self._looked_at(rows, width, told["aspect_ratio_mask"][:, 0].numpy().astype(bool))

    def _looked_at(self, rows: Rows, width: int, is_tile: Any) -> dict[str, torch.Tensor]:
        """`shown` [B, m]: which of the n pictures, n where there is none; `sees` [B, R, m, T]; `is_before` [B, R]."""
        most = max(sum(len(each.images) for each in row) for row in rows)
        shown = np.full((len(rows), most), len(is_tile))
        sees = np.zeros((len(rows), width, most, is_tile.shape[1]), bool)
        is_before = np.zeros((len(rows), width), bool)
        number = 0
        for row_number, row in enumerate(rows):
            start, slot = 0, 0
            for each in row:
                last = slot + len(each.images)
                spans = get_cross_attention_token_mask(each.token_ids.tolist(), self._image_token_id or 0)
                for offset, (begin, end) in enumerate(spans):
                    shown[row_number, slot + offset] = number
                    until = start + (each.num_tokens if end == -1 else end)
                    sees[row_number, start + begin : until, slot + offset] = is_tile[number]
                    number += 1
                if spans:
                    before = slice(start, start + spans[0][0])
                    sees[row_number, before, slot:last] = True
                    is_before[row_number, before] = True
                start, slot = start + each.num_tokens, last
        arrays = zip(_OURS, (shown, sees, is_before), strict=True)
        return {name: torch.from_numpy(array) for name, array in arrays}

    def seen(self, backbone: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
        model = backbone.base_model
        pictures = {name: inputs[name] for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}
        return model.multi_modal_projector(model.vision_model(**pictures).last_hidden_state)

    def hidden_states(
        self, backbone: Any, token_ids: torch.Tensor, inputs: Mapping[str, torch.Tensor], seen: Any = None
    ) -> torch.Tensor:
        if "pixel_values" not in inputs:
            return super().hidden_states(backbone, token_ids, inputs)
        model = backbone.base_model
        shown, sees, is_before = (inputs[name] for name in _OURS)
        states = self.seen(backbone, inputs) if seen is None else seen
        states_of_tile, size = states.shape[-2:]
        whole = torch.cat([states.flatten(0, 1), states.new_zeros(1, *states.shape[2:])])
        rows = torch.cat([whole[shown].reshape(len(shown), -1, size), states.new_zeros(len(shown), 1, size)], 1)
        may = sees.repeat_interleave(states_of_tile, dim=3).flatten(2)
        has_none = ~may.any(-1)
        may = torch.cat([may, has_none[..., None]], -1)[:, None]
        mask = torch.zeros(may.shape, dtype=states.dtype, device=states.device)
        goes_on = ~(has_none | is_before)[:, None, :, None]
        told = {name: inputs[name] for name in ("position_ids", "packing") if name in inputs}
        return model.language_model(
            input_ids=token_ids,
            use_cache=False,
            cross_attention_states=rows,
            cross_attention_mask=mask.masked_fill(~may, torch.finfo(states.dtype).min),
            full_text_row_masked_out_mask=goes_on.to(states.dtype),
            **told,
        ).last_hidden_state
