from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators import store
from specialize.annotators.store import find_annotation, list_annotations, load_annotation, save_annotation
from specialize.column import Column
from specialize.errors import AnnotationError, OutputError


@pytest.fixture
def trace(make_trace):
    return make_trace(["the cat", "on the mat"])


@pytest.fixture
def upos(trace):
    codes = np.resize(np.array([1, NO_LABEL, 0], dtype=np.int32), trace.num_tokens)
    return Annotation("upos", "token", ("NOUN", "VERB", "nie benutzt 🙂"), codes, {"pieces": "first", "share": 0.25})


def test_what_is_saved_is_loaded(trace, upos):
    path = save_annotation(trace, upos)
    assert path == trace.path / "annotations" / "upos.arrow"
    loaded = load_annotation(trace, "upos")
    assert (loaded.name, loaded.level, loaded.labels) == (upos.name, upos.level, upos.labels)
    assert loaded.provenance == upos.provenance
    assert loaded.codes.dtype == np.int32
    np.testing.assert_array_equal(loaded.codes, upos.codes)
    loaded.codes[0] = 0  # a copy of its own


def test_codes_that_stay_on_disk_are_read_a_slice_at_a_time(trace, upos, monkeypatch):
    monkeypatch.setattr(store, "_ROWS", 2)  # several record batches
    save_annotation(trace, upos)
    codes = load_annotation(trace, "upos", on_disk=True).codes
    save_annotation(trace, replace(upos, codes=np.zeros_like(upos.codes)))  # what is open remains as it was
    assert isinstance(codes, Column)
    np.testing.assert_array_equal(codes[1:4], upos.codes[1:4])
    np.testing.assert_array_equal(codes >= 0, upos.codes >= 0)
    assert (codes.min(), codes.max(), codes.tolist()) == (-1, 1, upos.codes.tolist())


@pytest.mark.parametrize("codes", [[NO_LABEL, NO_LABEL], [0, 0]])
def test_documents_without_any_label_or_all_of_one(trace, codes):
    save_annotation(trace, Annotation("domain", "document", ("a",), np.array(codes, dtype=np.int32)))
    loaded = load_annotation(trace, "domain")
    assert loaded.codes.tolist() == codes
    assert (loaded.level, loaded.provenance) == ("document", {})


def test_any_arrow_reader_sees_the_label_names(trace, upos):
    table = pa.ipc.open_file(save_annotation(trace, upos).read_bytes()).read_all()
    names = [None if code == NO_LABEL else upos.labels[code] for code in upos.codes]
    assert table["label"].to_pylist() == names


def test_the_stored_annotations_are_listed(trace, upos):
    assert list_annotations(trace) == ()
    save_annotation(trace, upos)
    for name in ("bertopic", "v1.2 topic"):
        save_annotation(trace, Annotation(name, "document", ("a",), np.zeros(2, dtype=np.int32)))
    assert list_annotations(trace) == ("bertopic", "upos", "v1.2 topic")
    assert load_annotation(trace, "v1.2 topic").labels == ("a",)


def test_saving_again_replaces_and_leaves_nothing_behind(trace, upos):
    save_annotation(trace, upos)
    again = Annotation("upos", "token", ("X",), np.zeros(trace.num_tokens, dtype=np.int32))
    save_annotation(trace, again)
    assert load_annotation(trace, "upos").labels == ("X",)
    assert [path.name for path in (trace.path / "annotations").iterdir()] == ["upos.arrow"]


def test_an_interrupted_write_keeps_the_old_file(trace, upos, monkeypatch):
    save_annotation(trace, upos)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(pa.ipc.RecordBatchFileWriter, "write_batch", fail)
    with pytest.raises(OutputError, match="disk full"):
        save_annotation(trace, Annotation("upos", "token", ("X",), np.zeros(trace.num_tokens, dtype=np.int32)))
    assert [path.name for path in (trace.path / "annotations").iterdir()] == ["upos.arrow"]
    assert load_annotation(trace, "upos").labels == upos.labels


def test_an_unknown_name_lists_what_there_is(trace, upos):
    with pytest.raises(AnnotationError, match="the run has none"):
        load_annotation(trace, "upos")
    save_annotation(trace, upos)
    with pytest.raises(AnnotationError, match=r"the run has upos\. Did you mean 'upos'\?"):
        load_annotation(trace, "pos")


@pytest.mark.parametrize("name", ["", "../upos", "a/b", ".hidden", "a\nb"])
def test_a_name_that_cannot_be_a_file_name_raises(trace, name):
    with pytest.raises(AnnotationError, match="expected an annotation name of letters"):
        save_annotation(trace, Annotation(name, "document", ("a",), np.zeros(2, dtype=np.int32)))


@pytest.mark.parametrize(("level", "expected"), [("document", "2 documents"), ("token", "tokens")])
def test_another_length_raises_when_saving_and_loading(trace, make_trace, level, expected):
    with pytest.raises(AnnotationError, match=expected):
        save_annotation(trace, Annotation("x", level, ("a",), np.zeros(99, dtype=np.int32)))
    size = trace.num_documents if level == "document" else trace.num_tokens
    save_annotation(trace, Annotation("x", level, ("a",), np.zeros(size, dtype=np.int32)))
    other = make_trace(["the cat sits", "on the mat", "the"])
    with pytest.raises(AnnotationError, match=rf"expected \d+ {level}s as in .*, got {size}; annotate this trace anew"):
        load_annotation(other, "x")


def rewrite(path, **metadata):
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    old = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    with pa.ipc.new_file(path, table.schema.with_metadata(old | metadata)) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("metadata", "got"),
    [({"format_version": "2"}, "got specialize.annotation version 2"), ({"format": "other"}, "got other version 1")],
)
def test_another_format_or_version_raises(trace, upos, metadata, got):
    rewrite(save_annotation(trace, upos), **metadata)
    with pytest.raises(AnnotationError, match=f"expected specialize.annotation version 1, {got}; annotate anew"):
        load_annotation(trace, "upos")


@pytest.mark.parametrize("content", [b"", b"not arrow at all"])
def test_a_damaged_file_is_one_line(trace, upos, content):
    save_annotation(trace, upos).write_bytes(content)
    with pytest.raises(AnnotationError, match="got a damaged file") as caught:
        load_annotation(trace, "upos")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_line(trace, upos):
    path = save_annotation(trace, upos)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AnnotationError, match="got a damaged file"):
        load_annotation(trace, "upos")


def test_labels_of_another_text_raise_though_there_are_as_many(trace, upos):
    save_annotation(trace, upos)
    trace.text_digest = "1"
    with pytest.raises(
        AnnotationError, match=r"expected labels of the text of .*, got those of another text; annotate anew"
    ):
        load_annotation(trace, "upos")
    assert find_annotation(trace, "upos", {}) is None


def test_what_was_made_in_the_same_way_is_found_again(trace, upos):
    made_by = {"pipelines": {"all": "en 1"}, "pieces": "first"}
    made = Annotation(upos.name, upos.level, upos.labels, upos.codes, {"made_by": made_by})
    assert find_annotation(trace, "upos", made_by) is None
    path = save_annotation(trace, made)
    found = find_annotation(trace, "upos", made_by)
    assert found is not None
    np.testing.assert_array_equal(found.codes, upos.codes)
    assert find_annotation(trace, "upos", made_by | {"pieces": "last"}) is None
    path.write_bytes(b"junk")
    assert find_annotation(trace, "upos", made_by) is None


def rewrite_table(path, table=None, **metadata):
    old = pa.ipc.open_file(path.read_bytes()).read_all()
    about = {key.decode(): value.decode() for key, value in old.schema.metadata.items()} | metadata
    about = {key: value for key, value in about.items() if value is not None}
    new = (old if table is None else table).replace_schema_metadata(about)
    with pa.ipc.new_file(path, new.schema) as writer:
        writer.write_table(new)


def test_a_label_that_changed_on_disk_is_one_line(trace):
    path = save_annotation(trace, Annotation("kind", "document", ("a", "b"), np.array([0, 1], dtype=np.int32)))
    rewrite_table(path, dictionary([1, 1], pa.array(["a", "b"])))
    with pytest.raises(
        AnnotationError, match=r"damaged file \(the labels do not match their checksum\); annotate anew"
    ):
        load_annotation(trace, "kind")
    rewrite_table(path, sha256=None)  # as earlier versions wrote it
    assert load_annotation(trace, "kind").codes.tolist() == [1, 1]


def dictionary(codes, labels):
    return pa.table({"label": pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), labels, safe=False)})


@pytest.mark.parametrize(
    ("table", "metadata"),
    [
        (pa.table({"tag": ["a", "b"]}), {}),
        (pa.table({"label": ["a", "b"]}), {}),
        (pa.table({"label": [1, 2]}), {}),
        (dictionary([0, 1], pa.array([1, 2])), {}),
        (dictionary([0, 0], pa.array([None, "b"])), {}),
        (dictionary([0, 7], pa.array(["a", "b"])), {}),
        (dictionary([0, -5], pa.array(["a", "b"])), {}),
        (None, {"name": None}),
        (None, {"name": "other"}),
        (None, {"level": "word"}),
        (None, {"level": None}),
        (None, {"provenance": "{"}),
        (None, {"provenance": "[]"}),
        (None, {"provenance": "[" * 100_000}),
    ],
)
def test_an_annotation_of_other_contents_is_one_line(trace, table, metadata):
    path = save_annotation(trace, Annotation("kind", "document", ("a", "b"), np.array([0, 1], dtype=np.int32)))
    rewrite_table(path, table, **metadata)
    with pytest.raises(AnnotationError, match=r"kind\.arrow: expected an annotation, got a damaged file") as caught:
        load_annotation(trace, "kind")
    assert "\n" not in str(caught.value)
    assert find_annotation(trace, "kind", {}) is None


def test_a_file_in_place_of_the_folder(trace):
    (trace.path / "annotations").write_text("")
    with pytest.raises(AnnotationError, match="expected a folder of annotations, got something else"):
        list_annotations(trace)
