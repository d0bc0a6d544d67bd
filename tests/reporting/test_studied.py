"""What was studied, at the top of a report, and what it says to cite."""

from planted.manifests import edit_manifest
from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.reporting.citing import cite
from specialize.reporting.reading import read_runs
from specialize.reporting.studied import describe_studied, name_model


def studied(folder, change=lambda manifest: manifest, **results):
    run = make_run(folder / "run", **results)
    edit_manifest(run, change)
    [read] = read_runs([run])
    return read


def test_the_lines_are_the_manifests(tmp_path):
    def change(manifest):
        return manifest | {
            "model": {"name": "allenai/OLMoE-1B-7B-0924", "revision": "0123456789abcdef"},
            "corpus": {"source": "/data/wiki.jsonl", "labels": [], "sample": {"size": 4, "seed": 0, "population": 9}},
            "settings": {"generate": 32},
            "versions": {"specialize": "9.9"},
        }

    run = studied(tmp_path, change, syntax=planted_frame("run", strengths=(0.2,)))
    model, corpus, measured = describe_studied(run)
    routers = [each for each in run.manifest["routers"] if each.get("routing", "learned") == "learned"]
    assert model.startswith("allenai/OLMoE-1B-7B-0924 at 0123456789ab · ")
    assert f"{len(routers)} MoE layer" in model
    assert f"{routers[0]['num_experts']} experts, top {routers[0]['top_k']}" in model
    assert corpus.startswith("wiki.jsonl · ")
    assert ", a random sample · " in corpus
    assert "with up to 32 generated tokens each" in corpus
    assert f"{sum(shard['tokens'] for shard in run.manifest['shards']):,} tokens" in corpus
    assert measured.startswith("labels: part of speech · ")
    assert measured.endswith("recorded with specialize 9.9")


def test_a_manifest_that_says_little_is_no_error(tmp_path):
    run = studied(tmp_path, lambda manifest: manifest | {"model": None, "corpus": None, "versions": {}, "settings": {}})
    model, *others = describe_studied(run)
    assert model.startswith("model not recorded")
    assert others[-1].startswith("nothing measured yet")


def test_models_are_named_without_their_folder(tmp_path):
    for name, short in (
        ("/models/mine", "mine"), ("org/name", "org/name"), ("../a/b", "b"), ("name", "name"), ("a/b/c", "c"),
    ):  # fmt: skip
        run = studied(tmp_path / short.replace("/", "-"), lambda m, name=name: m | {"model": {"name": name}})
        assert name_model(run) == short


def test_what_to_cite_is_bibtex_that_no_name_can_break(tmp_path):
    run = studied(tmp_path, lambda manifest: manifest | {"model": {"name": "a}b%{c_d"}})
    entries = cite([run]).split("\n\n")
    assert [entry.split("{")[0] for entry in entries] == ["@article", "@software", "@misc"]
    assert "2402.13089" in entries[0]
    assert "title = {a\\}b\\%\\{c\\_d}" in entries[2]
    hub = studied(tmp_path / "hub", lambda manifest: manifest | {"model": {"name": "org/name"}})
    assert "url = {https://huggingface.co/org/name}" in cite([hub])
