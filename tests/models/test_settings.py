"""Mistakes in the settings of a training are one line, and leave nothing behind."""

import pytest

from specialize.errors import ConfigError, SpecializeError
from specialize.models.settings import TrainConfig, read_train_config
from specialize.models.training import train
from tiny_training import write_training

HEX = "0x" + "f" * 6000  # Python reads it, but does not write it in decimals


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return write_training(tmp_path_factory.mktemp("settings"))


@pytest.fixture
def changed(valid, tmp_path):
    """Write the settings with a change; return their path."""

    def write(old, new):
        text = valid.read_text().replace('"corpus.jsonl"', f'"{valid.parent}/corpus.jsonl"')
        assert old in text
        path = tmp_path / "train.toml"
        path.write_text(text.replace(old, new))
        return path

    return write


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 30", "", "training.steps: expected this setting, found none"),
        ("steps = 30", "steps = 30\nstep = 30", "unknown setting 'training.step'. Did you mean 'steps'?"),
        ("steps = 30", "steps = true", "training.steps: Input should be a valid integer, got True"),
        ("steps = 30", 'steps = "30"', "training.steps: Input should be a valid integer, got '30'"),
        ("steps = 30", "steps = 2000000000", "training.steps: Input should be less than or equal to 1000000000"),
        (
            "steps = 30",
            f"steps = {HEX}",
            "training.steps: Input should be less than or equal to 1000000000, got a value",
        ),
        ("batch_size = 8", "batch_size = 0", "training.batch_size: Input should be greater than or equal to 1, got 0"),
        ("1e-2", "inf", "training.learning_rate: Input should be a finite number, got inf"),
        ("1e-2", "nan", "training.learning_rate: Input should be a finite number, got nan"),
        ("1e-2", "1e-2\nweight_decay = inf", "training.weight_decay: Input should be a finite number, got inf"),
        ("1e-2", "1e-2\ngradient_clip = inf", "training.gradient_clip: Input should be a finite number, got inf"),
        ("1e-2", "1e-2\ngradient_clip = true", "training.gradient_clip: Input should be a valid number, got True"),
        ("1e-2", "1e-2\nbetas = [0.9, 1.0]", "training.betas.1: Input should be less than 1, got 1.0"),
        ("1e-2", "1e-2\nbetas = [0.9, true]", "training.betas.1: Input should be a valid number, got True"),
        (
            "warmup_steps = 5",
            "warmup_steps = 31",
            "training.warmup_steps: expected at most training.steps = 30, got 31",
        ),
        (
            "warmup_steps = 5",
            "snapshots = [31]\nwarmup_steps = 5",
            "expected steps from 1 to training.steps = 30, got 31",
        ),
        (
            "compare_from = 3",
            "compare_from = 15",
            "training.compare_from: expected at most training.context_length - 2",
        ),
        ("seed = 3", "seed = -3", "seed: Input should be greater than or equal to 0, got -3"),
        ("[model]", "[model", "expected TOML, got: "),
        ("[model]", f"x = {'[' * 3000}{']' * 3000}\n[model]", "expected TOML, got: "),
        ("[model]", f"x = {'9' * 5000}\n[model]", "expected TOML, got: "),
        ("[training]", "[[training]]", "training: Input should be a valid dictionary"),
        ("corpus = ", "corpus = 1 # ", "data.corpus: Input should be a valid string, got 1"),
        ("corpus = ", 'corpus = "a\\u0000b" # ', "data.corpus: expected a path, got 'a\\x00b'"),
        ("num_experts = 4", "num_expert = 4", "unknown setting 'model.num_expert'. Did you mean 'num_experts'?"),
        ("num_experts = 4", 'num_experts = 4\n"\\u001b[31m" = 4', r"unknown setting 'model.\x1b[31m'."),
        ("num_experts = 4", "num_experts = 4\nvocab_size = 300", "unknown setting 'model.vocab_size'."),
        ("hidden_size = 32", 'hidden_size = "x"', "model.hidden_size: expected a whole number, got 'x'"),
        ("hidden_size = 32", "hidden_size = 0", "model.hidden_size: expected 1 or more, got 0"),
        (
            "hidden_size = 32",
            f"hidden_size = {HEX}",
            "model.hidden_size: expected at most 1048576, got a value of type int",
        ),
        (
            "hidden_size = 32",
            "hidden_size = 1979-05-27",
            "model.hidden_size: expected a whole number, got datetime.date(",
        ),
        (
            "routing_prefix = 4",
            "routing_prefix = 4\nmax_position_embeddings = 8",
            "training.context_length: expected at most model.max_position_embeddings = 8, got 16",
        ),
        ('"token"\nrouting_prefix = 4', '"sequence"\nrouting_prefix = 16', "model.routing_prefix: expected less than"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(changed, old, new, message):
    path = changed(old, new)
    with pytest.raises(ConfigError) as caught:
        read_train_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_experts_in_bfloat16_have_a_width_that_torch_multiplies(changed):
    path = changed('dtype = "float32"\nsaved', "saved")
    path.write_text(path.read_text().replace("intermediate_size = 32", "intermediate_size = 36"))
    with pytest.raises(ConfigError, match=r"model\.intermediate_size: expected a multiple of 8, .* got 36; or set"):
        read_train_config(path)


@pytest.mark.parametrize("place", ["", "/dev/zero", "nothing.toml", "binary"])
def test_what_is_no_settings_file(tmp_path, place):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r": expected (a TOML file|a training configuration|TOML), got"):
        read_train_config(tmp_path / place)


def test_settings_given_in_python_are_checked_too(changed, valid):
    settings = read_train_config(valid).model_dump()
    assert TrainConfig.model_validate(settings) == read_train_config(valid)
    with pytest.raises(ConfigError, match=r"^model\.hidden_size: expected a whole number, got True$"):
        TrainConfig.model_validate(settings | {"model": {"hidden_size": True}})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("corpus.jsonl", "corpus.json1", "Did you mean 'corpus.jsonl'"),
        ("validation_share = 0.2", "validation_share = 0.0001", "expected documents on both sides of the split"),
        ("batch_size = 8", "batch_size = 8000", "expected at least one batch of 8000 windows of 16 tokens"),
        ("context_length = 16", "context_length = 400", "expected at least one batch of 8 windows of 400 tokens"),
        ('"learned"', '"guided"', r"expected data\.guide_column with as many values as num_experts = 4"),
        ("vocab_size = 300", 'path = "/dev"', "/dev: expected a tokenizer .*, got: "),
        (
            "intermediate_size = 32",
            "intermediate_size = 16777216",
            r"model: expected one that .* got 8,589,95\d,\d+ param",
        ),
    ],
)
def test_what_does_not_fit_the_data_or_the_machine_leaves_no_folder(changed, tmp_path, old, new, message):
    path = changed(old, new)
    with pytest.raises(SpecializeError, match=message):
        train(read_train_config(path), tmp_path / "runs" / "first")
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_other_things_is_not_written_to(valid, tmp_path):
    config = read_train_config(valid)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SpecializeError, match="file: could not be created"):
        train(config, tmp_path / "file")
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "notes.txt").write_text("mine")
    with pytest.raises(SpecializeError, match="data: expected a new or empty folder for the tokens"):
        train(config, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text('{"model_type": "olmoe"}')
    with pytest.raises(
        ConfigError, match=r"config\.json: expected the settings of a training run, got: data: expected"
    ):
        train(config, tmp_path / "run")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["config.json", "notes.txt"]
