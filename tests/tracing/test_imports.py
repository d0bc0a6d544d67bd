"""What traces need in common imports no torch."""

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import specialize.tracing as room
for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print(sorted({"torch", "transformers", "tokenizers"} & set(sys.modules)))
"""


def test_importing_what_models_and_servers_share_imports_no_torch():
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
