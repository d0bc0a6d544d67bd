"""What was studied, in a few lines: the model and its routers, the corpus, and what was measured on it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from specialize.names import name_label_set
from specialize.reporting.runs import RunResults
from specialize.text import clean_text, cut_name, list_names


def describe_studied(run: RunResults) -> list[str]:
    """Return what a run is of, a line each: model and routers, corpus, what was measured."""
    return [line for line in (_model_line(run), _corpus_line(run), _measured_line(run)) if line]


def name_model(run: RunResults) -> str:
    """Return the model's name, without the folder it lies in; an empty string where the manifest has none."""
    model = run.manifest.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    if not isinstance(name, str) or not name:
        return ""
    own = clean_text(name)
    return (PurePath(own).name or own) if own.startswith(("/", ".", "~")) or own.count("/") > 1 else own


def name_corpus(run: RunResults) -> str:
    """Return the name of the file or data set of a run's corpus; an empty string where the manifest has none."""
    corpus = run.manifest.get("corpus")
    source = corpus.get("source") if isinstance(corpus, dict) else None
    return cut_name(_shorten_path(clean_text(source))) if isinstance(source, str) and source else ""


def _model_line(run: RunResults) -> str:
    model = run.manifest.get("model")
    revision = model.get("revision") if isinstance(model, dict) else None
    parts = [cut_name(name_model(run)) or "model not recorded"]
    if isinstance(revision, str) and revision:
        parts[0] += f" at {cut_name(revision)[:12]}"
    routers = _learned(run)
    if routers:
        parts.append(_count(len({each.get("layer") for each in routers}), "MoE layer"))
        parts.append(f"{_range(routers, 'num_experts')} experts, top {_range(routers, 'top_k')}")
    parts.append(run.kind)
    server = model.get("server") if isinstance(model, dict) else None
    if isinstance(server, dict):
        parts.append(f"through {clean_text(str(server.get('api')))}")
    imported = _setting(run, "import")
    if imported:
        parts.append(f"imported ({cut_name(str(imported))})")
    return " · ".join(part for part in parts if part)


def _corpus_line(run: RunResults) -> str:
    corpus = run.manifest.get("corpus")
    corpus = corpus if isinstance(corpus, dict) else {}
    parts = [name] if (name := name_corpus(run)) else []
    documents = run.manifest.get("documents")
    count = documents.get("count") if isinstance(documents, dict) else None
    if isinstance(count, int):
        sampled = isinstance(corpus.get("sample"), dict)
        parts.append(_count(count, "document") + (", a random sample" if sampled else ""))
    shards = run.manifest.get("shards")
    if run.has_tokens and isinstance(shards, list):
        tokens = sum(each.get("tokens", 0) for each in shards if isinstance(each, dict))
        parts.append(_count(tokens, "token"))
    generate = _setting(run, "generate")
    if isinstance(generate, int):
        parts.append(f"with up to {generate:,} generated tokens each")
    languages = run.tagging.get("documents_by_language")
    if isinstance(languages, Mapping) and languages:
        names = [clean_text(str(name)) for name, _ in Counter(languages).most_common()]
        parts.append(("languages: " if len(names) > 1 else "language: ") + list_names(names))
    return " · ".join(parts)


def _measured_line(run: RunResults) -> str:
    names = [name_label_set(name).long for name in run.label_sets]
    parts = ["labels: " + list_names(names)] if names else ["nothing measured yet"]
    draws = {each.get("draw", 0) for each in _routers(run) if each.get("routing") == "random"}
    parts.append(f"{_count(len(draws), 'random router')} for comparison" if draws else "no random routers")
    if run.ablation:
        parts.append("experts switched off")
    versions = run.manifest.get("versions")
    version = versions.get("specialize") if isinstance(versions, dict) else None
    if isinstance(version, str):
        parts.append(f"recorded with specialize {cut_name(version)}")
    return " · ".join(parts)


def _routers(run: RunResults) -> Sequence[Mapping[str, Any]]:
    routers = run.manifest.get("routers")
    return [each for each in routers if isinstance(each, dict)] if isinstance(routers, list) else []


def _learned(run: RunResults) -> list[Mapping[str, Any]]:
    return [each for each in _routers(run) if each.get("routing", "learned") == "learned"]


def _setting(run: RunResults, name: str) -> Any:
    settings = run.manifest.get("settings")
    return settings.get(name) if isinstance(settings, dict) else None


def _range(routers: Sequence[Mapping[str, Any]], name: str) -> str:
    values = sorted({value for each in routers if isinstance(value := each.get(name), int)})
    return " to ".join(map(str, dict.fromkeys(values[:1] + values[-1:]))) or "?"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shorten_path(source: str) -> str:
    return PurePath(source).name or source if "/" in source and "://" not in source else source
