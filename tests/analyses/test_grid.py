"""The grid covers the design choices, and every cell of every preset is a model that can be built."""

from itertools import product
from pathlib import Path

import pytest
from analyses.design_choices.grid import HERE, read_grid, read_preset

from specialize.errors import ConfigError
from specialize.models import GPTMoEConfig

PRESETS = sorted(path.stem for path in (HERE / "presets").glob("*.toml"))


def test_the_cells_of_a_claim_have_three_seeds() -> None:
    cells, margin = read_grid(read_preset("cpu"))
    seeds = {cell.name: cell.seeds for cell in cells}
    assert len(seeds) == len(cells)
    assert margin == 1.02
    for unit, k, scope in product(("token", "sequence"), (1, 2), ("layer", "global")):
        assert seeds[f"en-{unit}-top{k}-{scope}-learned"] >= 3
        assert seeds[f"en-{unit}-top{k}-{scope}-frozen"] >= 3
        assert seeds[f"en-{unit}-top{k}-{scope}-rerandomized"] >= 1
    assert {"en-dense-1", "en-dense-2", "en-dense-4", "multilingual-sequence-top1-layer-guided"} <= seeds.keys()
    assert {f"en-token-top1-layer-learned-{count}experts" for count in (8, 16)} <= seeds.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_every_cell_is_a_model(name: str) -> None:
    preset = read_preset(name)
    cells, _ = read_grid(preset)
    assert cells
    for cell in cells:
        config = cell.config(preset, 0, Path("data"))
        model = GPTMoEConfig(max_position_embeddings=config.training.context_length, **config.model)
        # all models of a table count the same positions, whatever their routers read
        assert model.uncounted_positions <= config.training.compare_from
        assert config.training.snapshots == (preset.training.snapshots if cell.curve else ())


def test_seeds_share_the_split_and_nothing_else() -> None:
    preset = read_preset("cpu")
    cell = read_grid(preset)[0][0]
    one, other = (cell.config(preset, seed, Path("data")) for seed in (0, 1))
    assert one.data == other.data
    assert one.digest != other.digest


def test_an_unknown_preset_suggests_its_neighbour() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cpu'"):
        read_preset("cpuu")
