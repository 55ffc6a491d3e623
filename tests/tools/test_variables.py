"""The table of variables has every one that the code reads, and no other."""

from __future__ import annotations

import re
import subprocess

from tools.variables import VARIABLES
from tools.workspace import ROOT

CODE = ("*.py", "*.sh", "*.yml", "*.j2", "Makefile", "tools/run", "sandbox/plugins/bin/*")
NOT_READ = {"tools/variables.py", "tests/tools/test_variables.py"}


def read_in_code() -> set[str]:
    listed = subprocess.run(["git", "ls-files", *CODE], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = ((ROOT / name).read_text() for name in listed.split() if name not in NOT_READ and (ROOT / name).exists())
    return {name for text in texts for name in re.findall(r"\bANCLA_[A-Z]+(?:_[A-Z]+)*\b", text)}


def test_every_variable_is_described_and_every_description_is_of_one():
    prefixes = {"ANCLA_SANDBOX"}  # of the variables that a test takes away
    assert read_in_code() - prefixes == set(VARIABLES)


def test_each_says_who_sets_it():
    assert {who for who, _ in VARIABLES.values()} == {"people and CI", "programs", "tests"}
