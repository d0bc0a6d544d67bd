import pandas as pd
import pytest

from specialize.errors import MeasurementError
from specialize.plot import expert_tokens, save_figure


def planted_tokens(num_experts=3):
    return pd.DataFrame(
        [
            {
                "run": "toy", "routing": "learned", "layer": 1, "token": "input", "expert": expert, "rank": rank,
                "text": None if rank == 2 else f"<$w{expert}_{rank}>", "share": 0.9 - 0.1 * rank,
            }
            for expert in range(num_experts) for rank in range(4)
        ]
    )  # fmt: skip


def test_tokens_stand_in_the_column_of_their_expert_in_order(tmp_path):
    ax = expert_tokens(planted_tokens(), layer=1, most=3)
    texts = {text.get_gid(): text for text in ax.texts if text.get_gid()}
    assert set(texts) == {f"token-{expert}-{rank}" for expert in range(3) for rank in range(3)}
    assert texts["token-2-1"].get_text() == "<$w2_1>"
    assert texts["token-2-1"].get_position() == (2, 1)
    assert texts["token-0-2"].get_text() == "–"  # its text is not known
    assert "80%" in [text.get_text() for text in ax.texts]
    save_figure(ax.figure, tmp_path / "tokens.pdf")


def test_what_is_not_there_is_an_error():
    with pytest.raises(MeasurementError, match="the table has none"):
        expert_tokens(planted_tokens(), layer=0)
    with pytest.raises(MeasurementError, match="those of 0 to 2"):
        expert_tokens(planted_tokens(), layer=1, experts=[5])
    with pytest.raises(MeasurementError, match="got no 'rank'"):
        expert_tokens(planted_tokens().drop(columns="rank"), layer=1)
