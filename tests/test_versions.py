"""What stands in several files agrees: the version, and the ranges that were tried from their lowest version on."""

import configparser
import re

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = {name: value for name, value in SETUP["options.extras_require"].items() if name != "test"}
REQUIRED = [
    Requirement(line)
    for lines in (SETUP["options"]["install_requires"], *EXTRAS.values(), SETUP["options.extras_require"]["test"])
    for line in lines.splitlines()
    if line and not line.startswith("#")
]


def pinned(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def test_one_version_is_named_everywhere():
    version = SETUP["metadata"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["version"] == version and citation["license"] == SETUP["metadata"]["license"]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-min.txt"])
def test_every_requirement_is_pinned_within_its_range(name):
    found = pinned(name)
    for requirement in REQUIRED:
        assert found[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_lowest_versions_are_where_the_ranges_begin():
    found = pinned("constraints-min.txt")
    for requirement in REQUIRED:
        lowest = [s.version for s in requirement.specifier if s.operator in (">=", "==")]
        version = found[canonicalize_name(requirement.name)]
        assert len(lowest) == 1 and (version == lowest[0] or version.startswith(f"{lowest[0]}.0")), requirement
    assert set(found) == {canonicalize_name(requirement.name) for requirement in REQUIRED}
