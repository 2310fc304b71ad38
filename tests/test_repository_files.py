"""Files that GitHub and Docker read: valid, and in keeping with the package."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

from sacae.envs import rendering

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
DOCKERFILE = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    """The words after each instruction of that name in the Dockerfile, on one line each."""
    return [" ".join(words.split()) for words in re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)]


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


# GitHub.


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_every_file_of_settings_is_valid_yaml(path):
    assert isinstance(read(path), dict)


def test_the_workflow_runs_the_whole_check_on_every_python_that_the_package_names():
    workflow = read(GITHUB / "workflows" / "ci.yml")
    assert {*workflow[True]} == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as a truth value.
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    versions = re.findall(r"Python :: (3\.\d+)", parser["metadata"]["classifiers"])
    assert job["strategy"]["matrix"]["python"] == versions
    cached = [step["with"] for step in job["steps"] if "cache" in step.get("uses", "")]
    assert [cache["path"] for cache in cached] == [job["env"]["PIP_CACHE_DIR"]]
    patterns = re.findall(r"'([^']+)'", cached[0]["key"])
    assert patterns
    assert all([*ROOT.glob(pattern)] for pattern in patterns)


def test_ci_installs_every_extra_that_only_tests_need():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    (named,) = re.findall(r"EXTRAS=([\w,]+)", (ROOT / ".ci" / "run").read_text())
    extras = parser["options.extras_require"]
    assert {*named.split(",")} <= {*extras}

    def packages(extra: str) -> set[str]:
        lines = extras[extra].split("\n")
        return {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")}

    installed = set.union(*map(packages, named.split(",")))
    assert {extra: lacking for extra in extras if (lacking := packages(extra) - installed)} == {}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_what_github_asks_of_it(path):
    form = read(path)
    assert form.keys() == {"name", "description", "labels", "body"}
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    ids = [field["id"] for field in form["body"]]
    assert len({*ids}) == len(ids)
    for field in form["body"]:
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert field["type"] in {"textarea", "input"}
        assert field["attributes"].keys() <= {"label", "description", "render"}
        assert field["attributes"]["label"]


def test_a_bug_comes_with_what_doctor_says():
    (field,) = [field for field in read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"] if field["id"] == "doctor"]
    assert "sacae doctor" in field["attributes"]["label"]
    assert field["validations"]["required"]


# Docker.


def test_the_image_has_the_packages_that_render_on_a_gpu_and_on_the_cpu():
    (line,) = [line for line in instructions("RUN") if "apt-get install" in line]
    named = {*re.findall(r"\blib\S+", line.split("&&")[1])}
    wanted = f"{rendering.SOFTWARE_PACKAGES} {rendering.GPU_PACKAGES}"
    assert named == {*re.findall(r"\blib\S+", wanted)}
    (environment,) = instructions("ENV")
    assert {"compute", "utility", "graphics"} <= {*environment.removeprefix("NVIDIA_DRIVER_CAPABILITIES=").split(",")}


def test_the_image_installs_the_tested_versions_on_the_python_that_they_were_tested_with():
    assert any("pip install -c constraints.txt -e '.[report]'" in line for line in instructions("RUN"))
    (base,) = instructions("FROM")
    (tested,) = re.findall(r"tested together \(CPython ([\d.]+)", (ROOT / "constraints.txt").read_text())
    assert base == f"python:{tested}-slim-bookworm"


def test_the_container_runs_as_a_user_who_owns_the_volume_of_runs():
    (user,) = instructions("USER")
    assert user != "root"
    (volume,) = instructions("VOLUME")
    (owned,) = [line for line in instructions("RUN") if "useradd" in line]
    assert f"--owner {user}" in owned
    assert volume in owned.split()
    assert instructions("WORKDIR")[-1] == str(Path(volume).parent)
    assert Path(volume).name == "runs"


def test_what_is_left_out_of_the_image_is_nothing_that_an_installation_needs():
    left_out = {*re.findall(r"^[^#\s]\S*$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)}
    assert {".git", ".venv", "runs"} <= left_out
    assert not left_out & {
        "sacae",
        "baselines",
        "setup.cfg",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
    }
