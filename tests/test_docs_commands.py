"""Every command of the documentation is one that there is, and each kind of them runs."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from baselines import train as baselines_train
from baselines.algorithm import Algorithm
from sacae import cli
from sacae.commands.eval import Evaluate
from sacae.commands.parsing import parse
from sacae.experiments import demo as demonstration
from tests.test_docs import own_head  # noqa: F401, a fixture
from tests.training.runs import SHORT, SMALL_PIXELS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(path for folder in ("docs", "results", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.md"))
SAME_AS = {"train.py": ["sacae", "train"], "eval.py": ["sacae", "eval"], "-m sacae": ["sacae"], "ln_ddpg.py": ["sacae"]}
"""What is the same command, by the words after python; the last is the script of docs/write_your_own_head.md."""


def commands(page):
    """The words of every indented line of a page that starts one of this project's programs, in its order."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
    for line in re.findall(r"^(?: {4})+(\S.*)$", text, re.MULTILINE):
        line = re.sub(r"^(?:srun (?:--\S+ +)*|[A-Z_]+=\S+ +)+", "", re.split(r"\s#\s", line)[0])
        line = line.replace("$SLURM_ARRAY_TASK_ID", "1")  # the number of a job in its array
        if re.match(r"(python|sacae|make|pip|benchmarks/\S+) ", line):
            words = shlex.split(line.removesuffix("&"))
            for start, same in SAME_AS.items():
                if words[0] == "python" and words[1 : 1 + len(start.split())] == start.split():
                    words = same + words[1 + len(start.split()) :]
            yield words


def check_script(words):
    """A script exists, and it or what lies beside it has every flag."""
    path = ROOT / words[0]
    beside = "".join(one.read_text() for one in path.parent.glob(f"*{path.suffix}"))
    assert path.is_file(), words
    flags = [word[2:].split("=")[0] for word in words if word.startswith("--")]
    lacking = [flag for flag in flags if f"--{flag}" not in beside and f" {flag.replace('-', '_')}: " not in beside]
    assert not lacking, words


def check_installed(words):
    """What pip is told to install has the extras that it names."""
    extras = re.findall(r"^([a-z]+) =$", (ROOT / "setup.cfg").read_text().split("[options.extras_require]")[1], re.M)
    named = [extra for word in words for extra in re.findall(r"(?:sacae|\.)\[([\w,-]+)\]", word)]
    assert {extra for names in named for extra in names.split(",")} <= {*extras}, words


@pytest.fixture
def check(monkeypatch):
    """Parses a command as it is parsed when it is run, and starts nothing."""
    started = []

    def start(*given):
        started.append(given)
        return SimpleNamespace(train=lambda: True)

    def conduct(*given):
        started.append(given)
        return 0

    monkeypatch.setattr("sacae.training.off_policy.start", start)
    monkeypatch.setattr(Algorithm, "start", start)
    monkeypatch.setattr("sacae.experiments.experiment.conduct", conduct)
    monkeypatch.setattr("sacae.experiments.local.check_memory", lambda _runs: None)
    monkeypatch.setattr("sacae.experiments.ray_cluster.RayLauncher", lambda *_given: None)

    def starts(run, words):
        started.clear()
        assert run([word for word in words if word != "--resume"]) == 0, words
        assert len(started) == 1, words

    def of_package(name, *words):
        if name in ("train", "ablate", "sweep"):
            starts(lambda given: cli.main([name, *given]), words)
        else:
            assert parse(cli.load(name)[0], words, name)

    def of_python(module, *words):
        if module == "baselines.train":
            starts(baselines_train.train, words)
        elif module == "baselines.eval":
            assert parse(Evaluate, words, module)
        elif module != "venv":
            check_script([f"{module.replace('.', '/')}/__main__.py", *words])

    def check(words):
        program, *rest = words
        if program == "sacae":
            of_package(*rest)
        elif program == "python" and rest[0] == "-m":
            of_python(*rest[1:])
        elif program == "python":
            check_script(rest)
        elif program == "make":
            makefile = (ROOT / "Makefile").read_text()
            for word in rest:  # a variable or a target
                pattern = rf"^{word.partition('=')[0]} \?=" if "=" in word else f"^{word}:"
                assert re.search(pattern, makefile, re.MULTILINE), words
        elif program == "pip":
            check_installed(rest)
        else:
            check_script(words)

    return check


WITH_COMMANDS = [page for page in PAGES if [*commands(page)]]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_is_one_that_there_is(page, check, own_head, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    written = set(re.findall(r"^Save (?:it|these lines) as `(\S+)`", page.read_text(), re.MULTILINE))
    for words in commands(page):
        if not (words[0] == "python" and words[1] in written):
            check(words)


def test_commands_are_found_in_every_form():
    found = [words for page in WITH_COMMANDS for words in commands(page)]
    assert len(found) > 200
    kinds = {" ".join(words[: 3 if words[1] == "-m" else 2]) for words in found}
    assert kinds >= {f"sacae {name}" for name in cli.COMMANDS} - {"sacae check-env", "sacae prune"}
    assert kinds >= {"python -m baselines.train", "python -m baselines.eval", "make docs", "pip install"}


# Each kind of command, once.


def flags(settings):
    """Settings as words of a command line."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    switches = [f"--{'' if value else 'no-'}{name}" for name, value in named.items() if isinstance(value, bool)]
    return switches + [f"--{name}={value}" for name, value in named.items() if not isinstance(value, bool)]


TINY = {"action_repeat": 50, **SMALL_PIXELS, **SHORT}
CARTPOLE = {"domain": "cartpole", "task": "swingup"}
ONE_RUN = ["--tasks=cartpole_swingup", "--seeds=1", "--device=cpu", *flags(TINY)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny run, as `sacae train` makes it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", *flags(TINY | CARTPOLE), f"--work-dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["eval", "RUN", "--episodes=1", "--no-video"], "RUN/evaluation/*.json"),
        (["show", "RUN"], "RUN/show/*.png"),
        (["probe", "RUN", "--episodes=3", "--max-steps=5"], "RUN/probe/probe.csv"),
        (["export", "RUN", "--out=exported"], "exported/agent.safetensors"),
        (["report", "RUN", "--out=report"], "report/index.html"),
        (["ablate", "decoder", "--arms=none", *ONE_RUN], "runs/**/curve.png"),
        (["sweep", "--grid", "critic_lr=1e-3", *ONE_RUN], "runs/**/curve.png"),
        (["demo", "--work-dir=demo"], "demo/before-and-after.mp4"),
        (["check-env", "CartPole-v1"], "check-env/*.png"),
        (["doctor"], None),
        (["reproduce", "laptop", "--dry-run"], None),
        # The last one of the run.
        (["prune", "RUN", "--yes"], "RUN/checkpoint/replay.pruned"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_command_runs(words, written, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demonstration, "SETTINGS", TINY | CARTPOLE)
    monkeypatch.setattr(demonstration, "EPISODES", 1)
    assert cli.main([str(run) if word == "RUN" else word for word in words]) == 0
    if written:
        folder = run if written.startswith("RUN") else tmp_path
        assert [*folder.glob(written.removeprefix("RUN/"))]


def test_each_command_of_the_package_has_a_case():
    (cases,) = (mark for mark in test_each_command_runs.pytestmark if mark.name == "parametrize")
    assert {words[0] for words, _ in cases.args[1]} | {"train"} == {*cli.COMMANDS}
