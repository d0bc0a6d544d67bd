"""What can go wrong at an address: each is one clear line and exit code 2, and no credentials are shown."""

import socket
import sys
import urllib.request

import pytest

import specialize
from specialize.errors import OutputError, StoreError, TraceError
from specialize.remote import store
from specialize.remote.address import parse_address
from specialize.remote.cache import process_folder


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere://b/x", "nowhere://: expected the protocol of a store, such as s3, gs or memory."),
        ("s4://b/x", "Did you mean 's3'?"),
        ("adl://b/x", "adl://: needs a package that is not installed ("),
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x: could not be listed: The specified bucket does not exist"),
        ("s3://bucket/none", "s3://bucket/none: expected a run folder, found none; make one with `specialize trace"),
        (
            "s3://bucket/other",
            "s3://bucket/other: expected the address of a run, got that of 2 files without",
        ),
        ("s3://bucket/other/a", "s3://bucket/other/a: expected the address of a run, got that of a file; give another"),
        ("s3://key:hidden-word@bucket/x", "s3://…@bucket: expected an address without credentials, which would be"),
        ("s3://bucket/../x", "s3://bucket/../x: expected an address PROTOCOL://BUCKET/NAME without empty parts"),
        ("s3://", "s3://: expected an address PROTOCOL://BUCKET/NAME"),
        ("simplecache::s3://bucket/x", "simplecache::s3://…: expected the address of one store, got a chain"),
    ],
)
def test_what_is_no_run_is_one_line(bucket, call, address, message):
    bucket.write("other/a", b"1")
    bucket.write("other/b", b"2")
    for command in (("routing", address), ("validate", address), ("report", address, "-o", "page")):
        code, out, err = call(*command)
        assert (code, out) == (2, "")
        assert message in err
        assert err.startswith("specialize: ")
        assert err.count("\n") == 1
        assert "hidden-word" not in err
    assert bucket.files("other").keys() == {"a", "b"}


def test_a_place_with_other_things_is_not_written_to(bucket, call, tmp_path):
    bucket.write("other/a", b"1")
    np = pytest.importorskip("numpy")
    np.savez(tmp_path / "own.npz", experts=np.zeros((4, 1, 1), int))
    code, _, err = call("import", "arrays", tmp_path / "own.npz", "-o", "s3://bucket/other")
    assert code == 2
    assert "expected the address of a run, or a place with nothing, got that of 1 files" in err
    code, _, err = call("train", "none.toml", "-o", "s3://bucket/model")
    assert code == 2
    assert err == "specialize: folder: expected a local path, got an address; runs, corpora and reports may have one\n"
    assert bucket.files("other").keys() == {"a"}


def test_wrong_credentials_and_none_are_one_line(bucket, small_run, call, monkeypatch, fresh):
    bucket.write_folder(small_run, "runs/x")

    def allow(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        asked = urllib.request.Request(f"{bucket.url}/moto-api/reset-auth", requests.encode(), headers)
        urllib.request.urlopen(asked).close()

    allow("0")
    try:
        code, _, err = call("routing", "s3://bucket/runs/x")
    finally:
        allow("inf")
    assert code == 2
    assert "s3://bucket/runs/x: could not be listed: The AWS Access Key Id you provided does not exist" in err
    assert err.endswith("check the credentials, which the store's library reads from the environment\n")
    fresh()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    code, _, err = call("routing", "s3://bucket/runs/x")
    assert code == 2
    assert "Unable to locate credentials; check the credentials" in err


def test_a_store_that_cannot_be_reached_is_one_line_soon(bucket, call, monkeypatch, fresh):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    fresh()
    code, _, err = call("routing", "s3://bucket/runs/x")
    assert code == 2
    assert "s3://bucket/runs/x: could not be listed (EndpointConnectionError: " in err
    assert err.endswith("run the same command again when the store can be reached\n")


def test_what_fails_once_is_repeated_and_what_lasts_is_not_repeated_for_ever(bucket, small_run, monkeypatch):
    bucket.write_folder(small_run, "runs/x")
    monkeypatch.setattr(store, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(store, "_PAUSES_LATER", (0.0, 0.0, 0.0, 0.0))
    files = store.open_store("s3")._files
    asked, find = [], files.find

    def fail(*given, **how):
        asked.append(given)
        if len(asked) < 3:
            raise TimeoutError("too slow")
        return find(*given, **how)

    monkeypatch.setattr(files, "find", fail)
    assert specialize.open_trace("s3://bucket/runs/x").num_documents == 60
    asked.clear()
    monkeypatch.setattr(files, "find", lambda *given, **how: asked.append(given) or 1 / 0)
    with pytest.raises(StoreError, match=r"could not be listed \(ZeroDivisionError: division by zero\); run the same"):
        specialize.open_trace("s3://bucket/runs/x")
    assert len(asked) == 5  # of a store that has answered


def test_a_missing_package_names_the_extra(monkeypatch, fresh, call):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "s3fs", None)
        patch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
        code, _, err = call("routing", "s3://bucket/runs/x")
    assert code == 2
    assert err == "specialize: this needs the package s3fs, which is not installed: pip install 'specialize[remote]'\n"


def test_objects_that_are_cut_off_or_change_while_they_are_read_are_errors(bucket, small_run, fresh, monkeypatch):
    bucket.write_folder(small_run, "runs/x")
    files = store.open_store("s3")._files
    get = files.get_file
    monkeypatch.setattr(store, "_PAUSES_LATER", (0.0, 0.0))

    def cut(place, path, **how):
        get(place, path, **how)
        with open(path, "rb+") as file:
            file.truncate(10)

    monkeypatch.setattr(files, "get_file", cut)
    with pytest.raises(StoreError, match=r"manifest\.json: could not be read \(EOFError: 10 of [\d,]+ bytes came\)"):
        specialize.open_trace("s3://bucket/runs/x")

    failing = [ConnectionResetError(104, "reset"), PermissionError(13, "Access Denied")]

    def fail(place, path, **how):
        raise failing.pop(0)

    monkeypatch.setattr(files, "get_file", fail)
    with pytest.raises(StoreError, match=r"manifest\.json: could not be read: .*Access Denied; check the credentials"):
        specialize.open_trace("s3://bucket/runs/x")
    assert not failing  # the first was repeated
    monkeypatch.setattr(files, "get_file", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        specialize.open_trace("s3://bucket/runs/x")

    def change(place, path, **how):
        get(place, path, **how)
        bucket.write("runs/x/manifest.json", b"changed".ljust(small_run.joinpath("manifest.json").stat().st_size))

    monkeypatch.setattr(files, "get_file", change)
    with pytest.raises(StoreError, match=r"manifest\.json: another process changed it while it was read"):
        specialize.open_trace("s3://bucket/runs/x")
    monkeypatch.setattr(files, "get_file", get)
    with pytest.raises(TraceError, match=r"^s3://bucket/runs/x/manifest\.json: expected JSON"):
        specialize.open_trace("s3://bucket/runs/x")


def test_names_in_a_store_cannot_lead_out_of_the_copy(bucket, small_run, fresh, monkeypatch):
    bucket.write_folder(small_run, "runs/x")
    stored = store.open_store("s3")
    found = stored.list(parse_address("s3://bucket/runs/x"))
    monkeypatch.setattr(stored, "list", lambda _: found | {"../../../outside": found["manifest.json"]})
    assert specialize.open_trace("s3://bucket/runs/x").num_documents == 60
    assert not list(process_folder().rglob("outside"))


def test_folders_of_processes_that_were_killed_are_removed(fresh, tmp_path, monkeypatch):
    import os

    dead = tmp_path / "shared/work/process-dead"
    dead.mkdir(parents=True)
    (dead / ".lock").touch()
    monkeypatch.setenv("SPECIALIZE_CACHE", str(tmp_path / "shared"))
    process_folder.cache_clear()
    mine = process_folder()
    assert os.listdir(tmp_path / "shared/work") == [mine.name]
    process_folder.cache_clear()
    assert process_folder() != mine
    assert mine.is_dir()  # its process lives


def test_workers_need_a_folder(bucket, small_run, call):
    bucket.write_folder(small_run, "runs/x")
    before = bucket.files("runs")
    for command in (
        ("routing", "s3://bucket/runs/x"),
        ("syntax", "s3://bucket/runs/x"),
        ("trace", "none", "none.jsonl", "-o", "s3://bucket/runs/y"),
    ):
        code, _, err = call(*command, "--engine", "ray")
        assert code == 2
        assert (
            f"{next(each for each in command if each.startswith('s3:'))}: expected with the engine ray a run folder"
            in err
        )
        assert err.count("\n") == 1
    assert bucket.files("runs") == before
