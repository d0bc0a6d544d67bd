from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from specialize.trace import RouterSpec
from specialize.tracing.plan import count_shards, tokens_of_a_shard
from specialize.tracing.windows import Window, cut_windows, group_windows, plan_batches


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words of the text, with [CLS] before and [SEP] after."""
    words = ["[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def test_windows_cover_the_text_once_and_open_as_a_sequence_does(tokenizer):
    windows = list(cut_windows(["a b c d e", "f g"], tokenizer, length=3))
    assert [window.document for window in windows] == [0, 0, 0, 1]
    assert [window.token_ids.tolist() for window in windows] == [[1, 3, 4], [1, 5, 6], [1, 7], [1, 8, 9]]
    assert {window.opening for window in windows} == {1}
    assert windows[1].spans.tolist() == [[4, 5], [6, 7]]


def test_a_text_without_tokens_has_no_window(tokenizer):
    assert [window.document for window in cut_windows(["", "a"], tokenizer, length=4, first_document=7)] == [8]


def test_windows_that_overlap_record_each_token_once(tokenizer):
    windows = list(cut_windows(["a b c d e f g"], tokenizer, length=5, stride=2))
    assert [window.token_ids.tolist() for window in windows] == [[1, 3, 4, 5, 6], [1, 5, 6, 7, 8], [1, 7, 8, 9]]
    assert [window.opening for window in windows] == [1, 3, 3]
    assert [window.spans[:, 0].tolist() for window in windows] == [[0, 2, 4, 6], [8, 10], [12]]


@given(st.integers(0, 40), st.integers(2, 12), st.integers(1, 15))
def test_any_stride_records_every_token_once(tokenizer, tokens, length, stride):
    text = " ".join("abcdefghij"[i % 10] for i in range(tokens))
    windows = list(cut_windows([text], tokenizer, length=length, stride=stride))
    assert [start for window in windows for start, _ in window.spans] == list(range(0, 2 * tokens, 2))
    for window in windows:
        assert len(window.token_ids) <= length
        assert window.num_recorded == len(window.token_ids) - window.opening
    for window in windows[1:]:
        assert window.opening - 1 >= max(0, length - 1 - stride)


@given(st.integers(0, 30), st.integers(2, 12), st.integers(1, 15), st.integers(1, 35))
def test_the_first_tokens_of_a_document_are_cut_like_a_shorter_one(tokenizer, tokens, length, stride, most):
    words = ["abcdefghij"[i % 10] for i in range(tokens)]
    found = list(cut_windows([" ".join(words)], tokenizer, length=length, stride=stride, max_tokens=most))
    expected = list(cut_windows([" ".join(words[:most])], tokenizer, length=length, stride=stride))
    assert [window.token_ids.tolist() for window in found] == [window.token_ids.tolist() for window in expected]
    assert [window.opening for window in found] == [window.opening for window in expected]
    assert [window.spans.tolist() for window in found] == [window.spans.tolist() for window in expected]
    assert sum(window.is_cut for window in found) == (tokens > most)


def make_window(length: int) -> Window:
    return Window(0, np.zeros(length, np.int32), 0, np.zeros((length, 2), np.int32))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 200))
def test_batches_hold_every_window_once_within_the_budget(lengths, budget):
    windows = [make_window(length) for length in lengths]
    batches = plan_batches(windows, tokens=budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(windows)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def sizes_of(groups: Iterable[list[Window]]) -> list[int]:
    return [sum(window.num_recorded for window in group) for group in groups]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 100), st.integers(1, 200))
def test_shards_keep_the_order_and_grow_with_what_is_kept(lengths, first, largest):
    groups = list(group_windows(map(make_window, lengths), first=first, largest=largest))
    assert [window.num_recorded for group in groups for window in group] == lengths
    before = 0
    for group, size in zip(groups, sizes_of(groups), strict=True):
        assert len(group) == 1 or size <= min(largest, max(first, before))
        before += size


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_shards_that_are_written_are_cut_as_they_were_and_the_others_as_ever(lengths, written, held):
    limits = {"first": 40, "largest": 200}
    whole = sizes_of(group_windows(map(make_window, lengths), **limits))
    assert sizes_of(group_windows(map(make_window, lengths), **limits, written=whole[:written])) == whole
    # of fewer documents, or by a version that cut in another way
    part = sizes_of(group_windows(map(make_window, lengths[:held]), first=70, largest=70))
    more = sizes_of(group_windows(map(make_window, lengths), **limits, written=part))
    assert more[: len(part)] == part
    assert sum(more) == sum(lengths)


@pytest.mark.parametrize("windows", [0, 1, 128, 129, 256, 257, 2048, 2049, 10_000])
def test_number_of_shards(windows):
    """Of windows of 64 tokens: 128 are a first batch, 2,048 a shard of the largest size."""
    routers = [RouterSpec(0, "experts", 8, 2)]
    groups = group_windows([make_window(64)] * windows, first=8192, largest=tokens_of_a_shard(routers, (), 8192))
    assert count_shards(64 * windows, routers, (), 8192) == len(list(groups))
