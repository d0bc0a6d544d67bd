import pytest

from planted.dumps import Planted, plant_routing


@pytest.fixture
def planted() -> Planted:
    return plant_routing()
