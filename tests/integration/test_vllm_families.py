"""vLLM and the learner say the same of pictures, whatever the model family; Idefics3's stands in test_vllm_engine.py.

vLLM's processors of Qwen-VL want torchvision, whose builds for CPUs are not where all packages are; without it these
are skipped.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from learner.batch import ModelInput, micro_batches
from learner.config import LearnerConfig
from learner.policy_model import PolicyModel, load_policy
from rollout.engine import Prompt
from rollout.probe import expected_logprobs, largest_gap, make_probe
from rollout.transcript import ChatTokens
from rollout.vllm_engine import VllmEngine
from tests.support.engines import CONFIG
from tests.support.tiny_families import make_model

pytest.importorskip("torchvision", reason="vLLM's processors of Qwen-VL want torchvision", exc_type=ImportError)

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
async def test_vllm_scores_pictures_as_the_learner_does(family: str, tmp_path: Path) -> None:
    """Two pictures of two shapes in one prompt, and the probe that every push is held against."""
    folder = make_model(family, tmp_path)
    chat = ChatTokens.load(folder)
    policy = load_policy(folder, LearnerConfig(model=str(folder)), chat).eval()
    random = np.random.default_rng(2)
    images = tuple(
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((64, 120), (150, 90))
    )
    shown = Prompt(token_ids=[*chat.opening("Which cards?", 2), *range(40, 60)], images=images)
    probe = make_probe(
        policy.backbone.config.get_text_config().vocab_size,
        forbidden_token_ids=chat.forbidden_token_ids,
        picture_token_id=chat.image_token_id,
    )
    engine = await VllmEngine.start(folder, CONFIG, forbidden_token_ids=chat.forbidden_token_ids)
    try:
        scores = await engine.score([shown, *probe])
    finally:
        await engine.close()
    assert largest_gap(scores, expected_logprobs(policy.backbone, [shown, *probe], chat.processor)) < 1e-5
    assert largest_gap(scores[:1], [learned(policy, shown)]) < 1e-5


@torch.no_grad()
def learned(policy: PolicyModel, prompt: Prompt) -> list[float]:
    """What the learner makes of it, packed behind another sequence; placeholders left out."""
    token_ids = np.array(prompt.token_ids)
    family = policy.family
    own = token_ids != family._image_token_id
    own[0] = False
    seen = family.expanded(token_ids, own, prompt.images, 0)
    other = ModelInput(token_ids=np.arange(20, 30), sampled_at=np.zeros(0, np.int64), first_number=0)
    [batch] = micro_batches([seen, other], max_tokens=4096, layout="packed", family=family)
    scores = torch.zeros(len(seen.sampled_at))
    scores[batch.numbers] = policy(batch, torch.zeros(len(batch.numbers), dtype=torch.bool), 1.0).logprobs
    return scores.tolist()
