"""Routing during generation is the routing of a prefill of the same text."""

import numpy as np
import pytest
import torch

import specialize
from capture_models import build
from specialize.errors import CaptureError

FAMILIES = ["mixtral", "olmoe", "qwen3_moe", "deepseek_v3", "gpt_oss", "own, by token"]
PADDING = (0, 3, 7)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 128, (3, 10), generator=torch.Generator().manual_seed(7))
    mask = torch.ones_like(ids)
    for row, padding in enumerate(PADDING):
        ids[row, :padding] = mask[row, :padding] = 0
    return ids, mask


def generate(model: torch.nn.Module, **how: object) -> tuple[torch.Tensor, specialize.Recorder]:
    ids, mask = prompts()
    with specialize.attach(model) as recorder:
        output = model.generate(ids, attention_mask=mask, **{"max_new_tokens": 9, "do_sample": False} | how)
    return output, recorder


def prefill(model: torch.nn.Module, ids: torch.Tensor) -> list[specialize.capture.LayerRouting]:
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids[None])
    return recorder.take()


def count_differences(model, output, taken) -> tuple[int, int]:
    """Tokens whose set of experts is not that of a prefill, and tokens compared."""
    different = compared = 0
    for row, padding in enumerate(PADDING):
        text = output[row, padding:]
        alone = prefill(model, text)
        for layer, expected in zip(taken, alone, strict=True):
            own = layer.sequence == row
            length = int(own.sum())
            np.testing.assert_array_equal(layer.position[own], np.arange(length))
            same = np.sort(layer.experts[own]) == np.sort(expected.experts[:length])
            different += int((~same.all(axis=1)).sum())
            compared += length
    return different, compared


@pytest.mark.parametrize("name", FAMILIES)
def test_every_token_but_the_last_is_there_and_routed_as_in_a_prefill(name):
    model = build(name)
    model.generation_config.eos_token_id = None
    output, recorder = generate(model)
    taken = recorder.take_generation(output)
    for layer in taken:
        lengths = np.bincount(layer.sequence)
        np.testing.assert_array_equal(lengths, [output.shape[1] - 1 - padding for padding in PADDING])
        prompt = np.bincount(layer.sequence[~layer.generated])
        np.testing.assert_array_equal(prompt, [10 - padding for padding in PADDING])
    assert count_differences(model, output, taken)[0] == 0


def test_ties_in_half_precision_are_few():
    model = build("olmoe").bfloat16()
    model.generation_config.eos_token_id = None
    output, recorder = generate(model)
    different, compared = count_differences(model, output, recorder.take_generation(output))
    assert compared == 3 * sum(18 - padding for padding in PADDING)
    assert different / compared < 0.1


def test_sampling_several_sequences_of_a_prompt():
    model = build("mixtral")
    model.generation_config.eos_token_id = None
    torch.manual_seed(0)
    output, recorder = generate(model, do_sample=True, num_return_sequences=2)
    for layer in recorder.take_generation(output):
        lengths = [output.shape[1] - 1 - padding for padding in PADDING for _ in range(2)]
        np.testing.assert_array_equal(np.bincount(layer.sequence), lengths)


def test_a_sequence_that_ends_early_has_no_padding_behind_it():
    model = build("mixtral")
    model.generation_config.eos_token_id = None
    free, recorder = generate(model)
    recorder.clear()
    end = int(free[1, 12])  # the second sequence ends with its third new token
    for pad in (0, end):  # padding of its own, or the end token again
        output, recorder = generate(model, eos_token_id=end, pad_token_id=pad)
        model.generation_config.eos_token_id = end
        for layer in recorder.take_generation(output, pad_token_id=pad):
            for row, padding in enumerate(PADDING):
                new = output[row, 10:].tolist()
                made = new.index(end) + 1 if end in new else len(new)
                read = made if len(new) > made else made - 1  # the very last column is read by no layer
                assert (layer.sequence == row).sum() == 10 - padding + read
        model.generation_config.eos_token_id = None


@pytest.mark.parametrize("how", [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 3}])
def test_beam_search_is_refused(how):
    model = build("olmoe")
    output, recorder = generate(model, **how)
    with pytest.raises(CaptureError, match="beam search and assisted decoding are not supported"):
        recorder.take_generation(output)


def test_other_sequences_than_the_recorded_are_refused():
    model = build("olmoe")
    output, recorder = generate(model)
    output[0, 3] += 1
    with pytest.raises(CaptureError, match="expected the model to have read the sequences that generate returned"):
        recorder.take_generation(output)


def test_a_long_prompt_read_in_pieces():
    model = build("olmoe")
    model.generation_config.eos_token_id = None
    ids = torch.randint(3, 128, (2, 11), generator=torch.Generator().manual_seed(1))
    with specialize.attach(model) as recorder:
        output = model.generate(ids, max_new_tokens=4, do_sample=False, prefill_chunk_size=4)
    for layer in recorder.take_generation(output):
        np.testing.assert_array_equal(np.bincount(layer.sequence[~layer.generated]), [11, 11])
        np.testing.assert_array_equal(np.bincount(layer.sequence[layer.generated]), [3, 3])
