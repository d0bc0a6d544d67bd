"""Runs at addresses: measured, reported, checked and merged as local ones are, with the same bytes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

import specialize
from remote.buckets import digests
from specialize.errors import StoreError, TraceError
from specialize.remote import store
from specialize.remote.store import Store
from specialize.trace.verified import forget


def measure(run: str | Path) -> None:
    specialize.topics(run, fit=False, permutations=3)
    specialize.routing(specialize.open_trace(run), permutations=3)
    specialize.export(run)


@pytest.fixture(scope="module")
def measured(small_run, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("measured") / "x"
    shutil.copytree(small_run, run)
    measure(run)
    return run


@pytest.fixture
def at_store(bucket, small_run) -> str:
    bucket.write_folder(small_run, "runs/x")
    return f"{bucket.address}/runs/x"


def test_a_run_in_a_store_is_measured_to_the_same_bytes(bucket, at_store, measured, fresh):
    measure(at_store)
    assert bucket.files("runs/x") == digests(measured)
    fresh()
    assert [check.problem for check in specialize.validate(at_store)] == [None] * 5
    trace = specialize.open_trace(at_store)
    assert (trace.experts(0) == specialize.open_trace(measured).experts(0)).all()
    assert repr(trace).startswith(f"RoutingTrace('{at_store}'")


def test_a_run_in_memory_and_one_at_a_file_address_are_too(fresh, small_run, measured, tmp_path):
    files = fsspec.filesystem("memory")
    files.put(str(small_run), "/memory-bucket/runs/x", recursive=True)
    measure("memory://memory-bucket/runs/x")
    files.get("/memory-bucket/runs/x", str(tmp_path / "got"), recursive=True)
    assert digests(tmp_path / "got") == digests(measured)
    shutil.copytree(small_run, tmp_path / "x")
    measure(f"file://{tmp_path}/x")
    assert digests(tmp_path / "x") == digests(measured)
    files.rm("/memory-bucket", recursive=True)


def test_figures_and_comparisons_are_stored_at_addresses(bucket, measured, fresh, tmp_path, monkeypatch):
    for name in ("x", "y"):
        bucket.write_folder(measured, f"runs/{name}")
        shutil.copytree(measured, tmp_path / f"runs/{name}")
    monkeypatch.chdir(tmp_path)
    for root in ("", f"{bucket.address}/"):
        runs = [f"{root}runs/{name}" for name in ("x", "y")]
        how = {"only": ["load*"], "formats": ["svg"], "command": "as given"}
        for _ in range(2):  # it may hold earlier figures
            written = specialize.figures(runs, f"{root}runs/x/figures", **how)
        specialize.compare(*runs)
        specialize.compare(*runs, output=f"{root}differences")
    assert written
    stored, local = bucket.files("runs/x"), digests(tmp_path / "runs/x")
    assert stored.keys() == local.keys()
    assert [name for name in local if stored[name] != local[name] and not name.startswith("figures/")] == []
    (record,) = [name for name in local if name.startswith("figures/") and name.endswith(".json")][:1]
    origin = json.loads(bucket.read(f"runs/x/{record}"))["runs"]
    assert [each["path"] for each in origin] == [f"{bucket.address}/runs/x", f"{bucket.address}/runs/y"]
    assert bucket.files("differences") == digests(tmp_path / "differences")


def test_a_report_may_go_beside_runs_and_nowhere_else(bucket, at_store, fresh, call):
    code, _, err = call("report", at_store, "-o", f"{bucket.address}/runs", "--format", "md", "--figure-format", "svg")
    assert code == 0, err
    assert {"report.md", "x/manifest.json"} <= bucket.files("runs").keys()
    text = bucket.read("runs/report.md").decode()
    assert at_store in text
    assert "/process-" not in text
    bucket.write("other/notes.txt", b"mine")
    code, _, err = call("report", at_store, "-o", f"{bucket.address}/other")
    assert code == 2
    assert f"{bucket.address}/other: expected a new or empty folder for the report" in err
    assert bucket.files("other").keys() == {"notes.txt"}


def test_files_are_downloaded_once_and_only_where_they_are_read(bucket, at_store, fresh, monkeypatch):
    got: list[str] = []
    get = Store.get

    def counted(self, address, *given, **how):
        got.append(address.path.removeprefix("bucket/runs/x/"))
        get(self, address, *given, **how)

    monkeypatch.setattr(Store, "get", counted)
    trace = specialize.open_trace(at_store)
    assert got == ["manifest.json"]
    trace.documents()
    assert got == ["manifest.json", "trace/documents.arrow"]
    with pytest.raises(specialize.errors.MeasurementError):
        specialize.routing(at_store, permutations=0)
    assert len(got) == 2  # what is wrong is said before anything is downloaded
    specialize.routing(at_store, permutations=2)
    assert sorted(got) == sorted({*got})
    read = list(got)
    specialize.affinity(at_store)
    store.open_store.cache_clear()
    specialize.validate(at_store)
    assert got == read


def test_a_damaged_download_is_replaced_and_a_damaged_object_is_an_error(bucket, at_store, fresh, call):
    trace = specialize.open_trace(at_store)
    expected = trace.experts(0)
    path = trace.path / "trace/routing-00000.arrow"
    path.write_bytes(b"!" * path.stat().st_size)  # and with it the file that is kept
    forget()
    assert (trace.experts(0) == expected).all()
    whole = bucket.read("runs/x/trace/routing-00000.arrow")
    bucket.write("runs/x/trace/routing-00000.arrow", whole[:-100])
    fresh()
    code, out, _ = call("validate", at_store)
    assert code == 1
    assert "damaged: its checksum differs" in out
    assert f"{at_store}: 1 of 5 files not as the manifest says" in out
    with pytest.raises(TraceError, match=f"^{at_store}/trace/routing-00000.arrow: damaged"):
        specialize.routing(at_store)
    bucket.write("runs/x/trace/routing-00000.arrow", whole)
    forget()
    assert (specialize.open_trace(at_store).experts(0) == expected).all()


def test_what_fails_leaves_the_store_as_it_was(bucket, at_store, fresh, monkeypatch):
    before = bucket.files("runs/x")
    with pytest.raises(specialize.errors.AnnotationError):
        specialize.topics(at_store, labels=["none"], fit=False)
    from specialize.pipeline import stage

    monkeypatch.setattr(stage, "write_frames", lambda *_: 1 / 0)
    monkeypatch.setattr(sys.modules["specialize.pipeline.topics"], "write_frames", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        specialize.topics(at_store, fit=False, permutations=2)  # the annotation was written here
    assert bucket.files("runs/x") == before
    monkeypatch.undo()


def test_another_writer_is_noticed_and_nothing_is_overwritten(bucket, at_store, small_run, fresh):
    trace = specialize.open_trace(at_store)
    manifest = json.loads(bucket.read("runs/x/manifest.json"))
    bucket.write("runs/x/manifest.json", json.dumps(manifest).encode())
    before = bucket.files("runs/x")
    with pytest.raises(StoreError, match="has changed the run since it was opened; open it again"):
        specialize.routing(trace, permutations=2)

    class Other(specialize.events.SilentReporter):
        def progress(self, title, unit):
            bucket.write("runs/x/routing/routing.csv", b"of another process")
            return super().progress(title, unit)

    with pytest.raises(StoreError, match=r"another process has changed routing/routing\.csv since it was read"):
        specialize.routing(at_store, permutations=2, reporter=Other())
    assert bucket.files("runs/x").keys() == {*before, "routing/routing.csv"}
    assert bucket.read("runs/x/routing/routing.csv") == b"of another process"


def test_results_that_cannot_be_stored_are_kept_and_stored_later(bucket, at_store, measured, fresh, monkeypatch):
    put = Store.put
    with monkeypatch.context() as patch:

        def fail(self, path, address, **how):
            raise StoreError(f"{address}: could not be stored (no network)")

        patch.setattr(Store, "put", fail)
        with pytest.raises(StoreError, match=r"no network\); what is not stored yet is kept in (.*)/process-"):
            specialize.routing(at_store, permutations=3)
    assert Store.put is put
    assert "routing/routing.csv" not in bucket.files("runs/x")
    specialize.affinity(at_store)  # whatever is done next
    assert bucket.files("runs/x")["routing/routing.csv"] == digests(measured)["routing/routing.csv"]


def test_local_runs_load_nothing_for_addresses(small_run):
    script = (
        "import sys, specialize; specialize.open_trace(sys.argv[1]).documents(); specialize.validate(sys.argv[1]);"
        "print([name for name in sys.modules if name.split('.')[0] in ('fsspec', 's3fs', 'aiobotocore') or name in "
        "('specialize.remote.copy', 'specialize.remote.store')])"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(small_run)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
