"""Which part a process makes: as given, or as Slurm and torchrun number it."""

from pathlib import Path

import pytest

from specialize.errors import TraceError
from specialize.trace.parts import Part
from specialize.tracing.launch import choose_device, part_folder, parts_pattern, read_part


def array(task, first=1, last=4, *, count=None, step=None):
    found = {"ID": task, "MIN": first, "MAX": last, "COUNT": last - first + 1 if count is None else count}
    found |= {} if step is None else {"STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in found.items()}


TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}
SCRIPT = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}  # of a job, which srun did not start


@pytest.mark.parametrize("shard", ["1/1", "1/2", "2/2", "07/16", "100000/100000"])
def test_a_part_that_is_given(shard):
    number, of = map(int, shard.split("/"))
    assert read_part(shard, TORCHRUN | array(2)) == (Part(number, of), "as given")


@pytest.mark.parametrize(
    "shard",
    [
        "0/2",
        "3/2",
        "a/b",
        "1",
        "",
        "1/0",
        "-1/2",
        "1/2/3",
        "1.0/2",
        " 1/2",
        "1/2\n",
        "\u0661/\u0662",
        "/",
        "Auto",
        1,
        (1, 2),
    ],
)
def test_anything_else_is_one_line(shard):
    with pytest.raises(TraceError, match=r"shard: expected I/N with I from 1 to N, such as 1/2") as caught:
        read_part(shard, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        (array(1), Part(1, 4)),
        (array(4), Part(4, 4)),
        (array(0, 0, 9), Part(1, 10)),
        (array(14, 10, 16, count=4, step=2), Part(3, 4)),
        (TORCHRUN, Part(6, 8)),
        (SRUN, Part(2, 2)),
        (SRUN | TORCHRUN, Part(6, 8)),  # srun started torchrun
        (SCRIPT | array(3), Part(3, 4)),
        (SCRIPT | TORCHRUN, Part(6, 8)),
        (array(3) | SRUN, Part(6, 8)),  # each process of each task
        (array(2, 1, 2) | SRUN | TORCHRUN, Part(14, 16)),
        (array(5, 5, 5) | TORCHRUN, Part(6, 8)),
    ],
)
def test_processes_are_numbered_by_what_started_them(environment, part):
    found, said_by = read_part("auto", environment)
    assert found == part
    assert any(name in said_by for name in ("SLURM_ARRAY_TASK_ID", "RANK", "SLURM_PROCID"))


def test_every_process_of_every_task_has_a_part_of_its_own():
    found = {
        read_part("auto", array(task, 3, 7) | {"RANK": str(rank), "WORLD_SIZE": "3"})[0]
        for task in range(3, 8)
        for rank in range(3)
    }
    assert found == {Part(number, 15) for number in range(1, 16)}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "found no such variables"),
        (SCRIPT, "found no such variables"),
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"},
            "expected several tasks or processes, got one",
        ),
        (array(5, 5, 5), r"expected several tasks or processes, got one \(SLURM_ARRAY_TASK_ID 5 of 5 to 5\)"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "expected several tasks or processes, got one"),
        (array(3, 3, 7, count=2), "expected a Slurm array without gaps"),  # --array=3,7
        (array(7, 3, 7, count=2), "expected a Slurm array without gaps"),
        (array(4, 3, 7, count=3, step=2), "expected a Slurm array without gaps"),
        (array(1, step=0), "expected a Slurm array without gaps"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "in the variable SLURM_ARRAY_TASK_MIN, got none"),
        ({"RANK": "1"}, "in the variable WORLD_SIZE, got none"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "in the variable RANK, got 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "expected RANK below WORLD_SIZE, got 2 and 2"),
    ],
)
def test_what_does_not_number_several_processes_is_one_line(environment, message):
    with pytest.raises(TraceError, match=message) as caught:
        read_part("auto", environment)
    assert str(caught.value).endswith("give the part, such as --shard 1/2")
    assert "\n" not in str(caught.value)


def test_parts_lie_beside_the_whole_trace(tmp_path, monkeypatch):
    assert part_folder(Path("runs/olmoe"), Part(3, 16)) == Path("runs/olmoe.part-03-of-16")
    assert parts_pattern(Path("runs/olmoe"), Part(3, 16)) == "runs/olmoe.part-*-of-16"
    assert parts_pattern(Path("runs/my run"), Part(1, 2)) == "'runs/my run.part-'*-of-2"
    monkeypatch.chdir(tmp_path)
    assert part_folder(Path("."), Part(1, 2)) == tmp_path.with_name(f"{tmp_path.name}.part-1-of-2")
    with pytest.raises(TraceError, match="expected with shard the folder of the whole trace, got one without a name"):
        part_folder(Path("/"), Part(1, 2))
    with pytest.raises(TraceError, match=r"the folder of the whole trace, such as runs/olmoe, got that of a part"):
        part_folder(Path("runs/olmoe.part-1-of-2"), Part(1, 2))


@pytest.mark.parametrize(
    ("environment", "count", "device"),
    [
        ({"LOCAL_RANK": "3"}, 8, "cuda:3"),
        ({"LOCAL_RANK": "3", "SLURM_LOCALID": "0"}, 8, "cuda:3"),
        ({"SLURM_LOCALID": "5"}, 4, "cuda:1"),
        ({"SLURM_LOCALID": "5"}, 1, None),  # Slurm gave each process one of its own
        ({"SLURM_LOCALID": "5"}, 0, None),
        ({}, 8, None),
    ],
)
def test_processes_of_a_machine_take_its_gpus_in_turn(environment, count, device):
    assert choose_device(environment, count) == device
