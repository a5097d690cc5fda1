"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: positions have three axes, time, height and width, which a picture spreads over.

Told nothing, these models count along one axis and say nothing of it; so each sequence is counted by the model's own
`get_rope_index`, by itself, wherever in a row it stands.
"""

from collections.abc import Iterable

import torch

from learner.batch import Layout, ModelInput, Rows, positions
from learner.families.family import Family


class MultiAxisFamily(Family):
    """Positions of three axes."""

    def inputs(self, rows: Rows, width: int, layout: Layout) -> dict[str, torch.Tensor]:
        told = super().inputs(rows, width, layout)
        grids = iter(told.get("image_grid_thw", ()))
        axes = positions(rows, width).expand(3, -1, -1).clone()
        for number, row in enumerate(rows):
            start = 0
            for each in row:
                end = start + each.num_tokens
                if each.images:
                    axes[:, number, start:end] = self._counted(each, [next(grids) for _ in each.images])
                start = end
        return {**told, "position_ids": axes}

    def _counted(self, each: ModelInput, grids: Iterable[torch.Tensor]) -> torch.Tensor:
        """[3, length]"""
        token_ids = torch.from_numpy(each.token_ids)[None]
        is_picture = (token_ids == self._image_token_id).int()
        counted, _ = self._model.get_rope_index(
            token_ids, mm_token_type_ids=is_picture, image_grid_thw=torch.stack(list(grids))
        )
        return counted[:, 0]
