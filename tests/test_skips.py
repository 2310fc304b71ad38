"""In CI a test is skipped for want of a GPU and for nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOOK = "from tests.conftest import pytest_make_collect_report, pytest_runtest_makereport\n"
TESTS = """
import pytest

def test_runs():
    pass

@pytest.mark.skipif(True, reason="needs a CUDA GPU")
def test_on_a_gpu():
    pass

@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False

{lacking}
"""
LACKING = {
    "mark": '@pytest.mark.skipif(True, reason="no browser")\ndef test_of_a_page():\n    pass',
    "call": "def test_of_a_package():\n    pytest.importorskip('no_such_package')",
    "fixture": "@pytest.fixture\ndef gl():\n    pytest.skip('no OpenGL')\n\ndef test_of_frames(gl):\n    pass",
    "no cases": "@pytest.mark.parametrize('case', [])\ndef test_of_cases(case):\n    pass",
}


def outcome(folder: Path, lacking: str, ci: str, *options: str) -> tuple[int, str]:
    """Exit status and output of pytest on a few tests, with the hook of this project."""
    (folder / "conftest.py").write_text(HOOK)
    (folder / "test_few.py").write_text(TESTS.format(lacking=lacking))
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_few.py"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CI": ci}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("way", LACKING)
def test_in_ci_a_test_that_is_skipped_for_what_could_be_installed_fails(way, tmp_path):
    status, out = outcome(tmp_path, LACKING[way], "true")
    assert status == 1, out
    assert "1 passed, 1 skipped, 1 xfailed" in out
    assert "skipped in CI, which installs what tests need" in out


def test_in_ci_a_file_that_is_skipped_fails(tmp_path):
    status, out = outcome(tmp_path, "pytest.importorskip('no_such_package')", "true")
    assert status != 0, out
    assert "skipped in CI, which installs what tests need" in out


def test_in_ci_it_fails_with_tests_side_by_side_too(tmp_path):
    status, out = outcome(tmp_path, LACKING["mark"], "true", "-n", "2")
    assert status == 1, out
    assert "1 passed, 1 skipped, 1 xfailed, 1 error" in out


def test_in_ci_a_skip_for_want_of_a_gpu_is_allowed(tmp_path):
    status, out = outcome(tmp_path, "", "true")
    assert status == 0, out
    assert "1 passed, 1 skipped, 1 xfailed" in out


def test_elsewhere_a_laptop_without_the_packages_passes(tmp_path):
    status, out = outcome(tmp_path, LACKING["mark"], "")
    assert status == 0, out
    assert "1 passed, 2 skipped, 1 xfailed" in out
