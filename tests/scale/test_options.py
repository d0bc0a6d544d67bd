"""Which engine is asked for, and how a cluster is divided; nothing here starts one."""

import sys
from io import BytesIO, TextIOWrapper

import pytest

import specialize
from specialize.engine import LOCAL
from specialize.errors import CaptureError, CorpusError, EngineError, MissingExtraError, TraceError
from specialize.scale.division import Division, divide_cluster
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_engine


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "rai"}, "engine: expected one of local, ray, got 'rai'. Did you mean 'ray'?"),
        ({"workers": 2}, "workers: expected it only with the engine ray, got it without; add --engine ray"),
        ({"address": "auto"}, "address: expected it only with the engine ray, got it without; add --engine ray"),
        ({"engine": "ray", "workers": 0}, "workers: expected a positive number, got 0"),
        ({"engine": "ray", "workers": 1.5}, "workers: expected a whole number, got 1.5"),
        (
            {"engine": "ray", "gpus_per_worker": 1.5},
            "gpus_per_worker: expected a whole number, or a fraction of one GPU, got 1.5",
        ),
        (
            {"engine": "ray", "gpus_per_worker": -1},
            "gpus_per_worker: expected a whole number, or a fraction of one GPU, got -1",
        ),
    ],
)
def test_options_out_of_range_are_one_line(given, message):
    with pytest.raises(EngineError) as caught:
        EngineOptions(**given)
    assert str(caught.value) == message


def test_a_client_of_another_machine_is_refused():
    with pytest.raises(EngineError, match="expected auto or the HOST:PORT of a cluster, whose machines see the same"):
        EngineOptions("ray", address="ray://host:10001")


def test_the_local_engine_works_when_it_is_asked():
    called = []
    with open_engine(EngineOptions()) as engine:
        assert engine is LOCAL
        results = engine.map(lambda item: called.append(item) or item * 2, [1, 2])
        assert (next(results), called) == (2, [1])


@pytest.mark.parametrize(
    ("machines", "asked", "expected"),
    [
        ([{"CPU": 2}], {}, Division(2, 1, 0)),
        ([{"CPU": 64}], {}, Division(8, 8, 0)),
        ([{"CPU": 16}], {"workers": 3}, Division(3, 5, 0)),
        ([{"CPU": 8}, {"CPU": 4}], {"workers": 2}, Division(2, 4, 0)),  # or 8 and 4: all have the same
        ([{"CPU": 16}, {"CPU": 16}], {"workers": 3}, Division(3, 8, 0)),  # not 10: two would be on one machine
        ([{"CPU": 32, "GPU": 4}], {}, Division(4, 8, 1)),
        ([{"CPU": 32, "GPU": 4}], {"gpus_per_worker": 2}, Division(2, 16, 2)),
        ([{"CPU": 32, "GPU": 2}], {"gpus_per_worker": 0.5}, Division(4, 8, 0.5)),
        ([{"CPU": 32, "GPU": 4}], {"gpus_per_worker": 0}, Division(8, 4, 0)),
        ([{"CPU": 4}, {"CPU": 8, "GPU": 2}], {}, Division(2, 4, 1)),
    ],
)
def test_cores_and_gpus_are_divided_among_workers(machines, asked, expected):
    assert divide_cluster(machines, **asked) == expected


@pytest.mark.parametrize(
    ("machines", "asked", "message"),
    [
        ([{"CPU": 2}], {"workers": 3}, "room for 3 with a core each, got 2 cores and 0 GPUs on 1 machine, room"),
        ([{"CPU": 8, "GPU": 2}], {"workers": 4}, "room for 4 with a core and 1 GPUs each, got 8 cores and 2 GPUs on 1"),
        ([{"CPU": 8, "GPU": 2}], {"gpus_per_worker": 4}, "4 GPUs each, got 8 cores and 2 GPUs on 1 machine, room"),
        ([{"CPU": 8, "GPU": 2}], {"workers": 4, "gpus_per_worker": 0.6}, "8 cores and 2 GPUs on 1 machine, room for 2"),
    ],
)  # fmt: skip
def test_workers_without_room_are_one_line(machines, asked, message):
    with pytest.raises(EngineError, match=f"workers: .*{message}") as caught:
        divide_cluster(machines, **asked)
    assert "\n" not in str(caught.value)


def test_workers_are_described():
    assert str(Division(2, 1, 0)) == "2 workers, each with 1 core"
    assert str(Division(1, 8, 2)) == "1 worker with 8 cores and 2 GPUs"
    assert str(Division(4, 8, 0.5)) == "4 workers, each with 8 cores and 0.5 GPU"


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("specialize.extras.find_spec", lambda name: None if name == "ray" else True)
    message = r"package ray, which is not installed: pip install 'specialize\[ray\]'"
    with pytest.raises(MissingExtraError, match=message), open_engine(EngineOptions("ray")):
        pytest.fail("opened")


def test_what_cannot_be_sent_to_workers_is_refused_before_they_start(tmp_path, monkeypatch):
    text = tmp_path / "a.txt"
    text.write_text("One.")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    how = {"engine": "ray", "workers": 2}
    with pytest.raises(TraceError, match="shard: expected none with the engine ray, which divides the trace itself"):
        specialize.trace_corpus(tmp_path / "model", text, tmp_path / "run", shard="1/2", **how)
    monkeypatch.setattr("specialize.pipeline.trace.check_model", lambda *_: None)
    with pytest.raises(CaptureError, match=r"got one that is loaded; save it with save_pretrained"):
        specialize.trace_corpus(object(), text, tmp_path / "run", **how)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"Some text.")))
    with pytest.raises(CorpusError, match="got standard input; save them to a file"):
        specialize.trace_corpus(tmp_path / "model", "-", tmp_path / "run", **how)
    assert not (tmp_path / "run").exists()


def test_a_wrong_engine_is_one_line_on_the_command_line(call, tmp_path):
    for option in (("--workers", "2"), ("--gpus-per-worker", "1"), ("--address", "auto")):
        code, out, err = call("routing", tmp_path, *option)
        name = option[0][2:].replace("-", "_")
        assert (code, out) == (2, "")
        assert err == f"specialize: {name}: expected it only with the engine ray, got it without; add --engine ray\n"
