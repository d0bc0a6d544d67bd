"""The routers of a model, whichever way it is given."""

import specialize
from capture.test_run import make_checkpoint


def test_a_folder_a_checkpoint_and_a_loaded_model_have_the_same_routers(tmp_path):
    tiny = make_checkpoint()
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    ways = (tmp_path / "model", tiny, tiny.model)
    by_folder, by_checkpoint, by_model = (specialize.inspect(model) for model in ways)
    assert by_folder == by_checkpoint == by_model
    assert [spec.layer for spec in by_folder] == list(range(tiny.model.config.num_hidden_layers))
