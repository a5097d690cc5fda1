"""Real engines on small random models; each is started once, by the first test that wants it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import ray

from tests.support.engines import Pair, running
from tests.support.ranks import end_ranks
from tests.support.tiny_models import make_picture_model, make_text_model


def pytest_configure(config: pytest.Config) -> None:
    """vLLM never closes the context of its sockets, so Python complains whenever it happens to find one."""
    config.addinivalue_line("filterwarnings", r"ignore:Unclosed context <zmq.Context:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def own_ray() -> Iterator[None]:
    """No file finds the Ray of the one before it."""
    yield
    if ray.is_initialized():
        end_ranks()
        ray.shutdown()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """A text model whose output layer is its embedding."""
    async with running(make_text_model(tmp_path_factory.mktemp("tied"), tied=True)) as pair:
        yield pair


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def picture(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """A model with eyes that may not draw the tokens that stand for pictures."""
    forbidden = ("<pad>", "<image>", "<fake_token_around_image>", "<global-img>")
    folder = make_picture_model(tmp_path_factory.mktemp("picture"))
    async with running(folder, pictures=True, forbidden=forbidden) as pair:
        yield pair


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def untied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """A text model with an output layer of its own."""
    async with running(make_text_model(tmp_path_factory.mktemp("untied"), tied=False)) as pair:
        yield pair
