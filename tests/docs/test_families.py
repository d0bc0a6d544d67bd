"""The tables of supported families are what their generator gives."""

import re

import pytest

from moe_zoo.build import buildable, only_as_tested

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), only_as_tested]


@pytest.fixture(scope="module")
def generated(generators):
    import families

    return families, families.find_families()


AGAIN = "run `.venv/bin/python docs/generate/families.py`"


def test_page(generated):
    module, families = generated
    assert module.PAGE.read_text(encoding="utf-8") == module.page(families), AGAIN


def test_readme(generated):
    module, families = generated
    readme = module.README.read_text(encoding="utf-8")
    assert readme == module.insert(readme, module.short_table(families)), AGAIN
    assert {family.folder for family in families} == set(buildable())
    others = sum(family.router_logits != "yes" for family in families)
    [claim] = re.findall(r"In (\d+) of the (\d+) families the top k", " ".join(readme.split()))
    assert claim == (str(others), str(len(families)))


def test_logits_and_choice_are_told_apart(generated):
    """Families with a selection bias do not choose by their logits, Mixtral and OLMoE do."""
    found = {family.folder: family.router_logits for family in generated[1]}
    assert (found["mixtral"], found["olmoe"]) == ("yes", "yes")
    assert (found["deepseek_v3"], found["glm4_moe"], found["afmoe"]) == ("no", "no", "no")
