import pytest

from capture_models import CONFIGS


@pytest.fixture(params=list(CONFIGS), ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def family(request: pytest.FixtureRequest) -> str:
    return request.param
