"""The routers of a model, whichever way it is given."""

import specialize


def test_a_folder_a_checkpoint_and_a_loaded_model_have_the_same_routers(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    ways = (tmp_path / "model", tiny, tiny.model)
    by_folder, by_checkpoint, by_model = (specialize.inspect(model) for model in ways)
    assert by_folder == by_checkpoint == by_model
    assert [spec.layer for spec in by_folder] == list(range(tiny.model.config.num_hidden_layers))
