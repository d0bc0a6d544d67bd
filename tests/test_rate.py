import pytest

from specialize import rate


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(rate.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_is_that_of_the_last_seconds(clock):
    speed = rate.Rate(window=10.0)
    for second in range(1, 41):
        clock[0] = float(second)
        speed.count(5 if second <= 20 else 50)
    assert speed.value == pytest.approx(50)


def test_a_pause_is_not_counted_as_work(clock):
    speed = rate.Rate(window=10.0)
    clock[0] = 1.0
    speed.count(8)
    clock[0] = 100.0
    speed.pause()
    assert speed.value == pytest.approx(8)
    clock[0] = 102.0
    speed.count(8)
    assert speed.value == pytest.approx(4)
