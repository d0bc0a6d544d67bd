"""Whatever JSON an answer is, it gives experts of the request or an error that says what is wrong."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialize.errors import CaptureError, TraceError
from specialize.serving.apis import APIS, _read_info, _read_models
from specialize.serving.client import TryAgainError

IDS = [5, 6, 7]
EXPERTS = [[[0, 1], [2, 3]], [[1, 2], [3, 0]], [[3, 1], [0, 2]]]
WHOLE = {
    "vllm": {
        "id": "cmpl-1",
        "choices": [{"index": 0, "token_ids": [3], "prompt_token_ids": IDS, "routed_experts": EXPERTS}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    },
    "sglang": {
        "output_ids": [3],
        "meta_info": {
            "id": "r",
            "finish_reason": {"type": "length"},
            "prompt_tokens": 3,
            "completion_tokens": 1,
            "routed_experts": EXPERTS,
        },
    },
}
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats()
    | st.sampled_from(["", "AAAA", "k05VTVBZ", "abort"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "choices", "data", "message", "routed_experts"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def read(api, answer):
    return APIS[api].read(answer, IDS, "r", top_k=2, where="here")


def places(value, path=()):
    """The paths to all values in JSON."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


@pytest.mark.parametrize("api", APIS)
def test_a_whole_answer_gives_its_experts(api):
    answer = read(api, WHOLE[api])
    assert answer.experts.tolist() == EXPERTS
    assert answer.generated.tolist() == [3]


@given(st.data())
@pytest.mark.parametrize("api", APIS)
def test_any_change_gives_experts_or_a_known_error(api, data):
    answer = copy.deepcopy(WHOLE[api])
    *path, last = data.draw(st.sampled_from([path for path in places(answer) if path]))
    inner = answer
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(ANY)
    try:
        known = read(api, answer)
    except (TryAgainError, CaptureError, TraceError):
        pass
    else:
        assert known.experts.ndim == 3
        assert np.issubdtype(known.experts.dtype, np.integer)
        assert known.generated.ndim == 1


@given(ANY)
def test_any_other_json_is_a_known_error(answer):
    for api in APIS:
        with pytest.raises((TryAgainError, CaptureError, TraceError)):
            read(api, answer)
    try:
        models = _read_models(answer)
    except CaptureError:
        pass
    else:
        assert all(isinstance(each["id"], str) for each in models)
    assert _read_info(answer).name is None
