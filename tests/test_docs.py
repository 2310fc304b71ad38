"""The documentation against the code: defaults, metrics, commands, and the head of `write_your_own_head.md`."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.agents.autoencoder import AUTOENCODERS, Dynamics
from sacae.agents.gates import Gates
from sacae.declaration import CHANGEABLE_ON_RESUME, NOT_COMPARED, declared
from sacae.types import Batch, EnvSpec

ROOT = Path(__file__).parents[1]
HEAD_PAGES = {name: ROOT / "docs" / f"{name}.md" for name in HEADS}
OWN_HEAD = ROOT / "docs" / "write_your_own_head.md"
PIXELS, STATE = "from pixels", "from state"


def tables(page: Path, heading: str | None = None) -> list[list[dict[str, str]]]:
    """Each table of a page, or of the section with that heading, as rows of cells by their column's name."""
    text = page.read_text()
    if heading:
        (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE):
        names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        found.append([dict(zip(names, row, strict=True)) for row in rows])
    return found


def setting_of(flag: str) -> str:
    return flag.strip("`").removeprefix("--").replace("-", "_")


def says(cell: str, value: object) -> bool:
    """Whether what a page says of a default is that default."""
    if isinstance(value, bool):
        return cell == ("on" if value else "off")
    if isinstance(value, int | float):
        return float(cell.replace(",", "").replace("−", "-")) == value
    return cell == str(value)


def documented_settings(name: str) -> list[tuple[str, dict[str, str]]]:
    """Every setting of a head's page, and its default from pixels and from state."""
    (rows,) = tables(HEAD_PAGES[name], "Settings")
    return [
        (setting_of(row["flag"]), {PIXELS: row[PIXELS], STATE: row[PIXELS if row[STATE] == "same" else STATE]})
        for row in rows
    ]


def commands(page: Path) -> list[str]:
    """The arguments of every `train` command of a page, in its order."""
    text = page.read_text().replace("\\\n", " ")
    return re.findall(r"^    python (?:train\.py|\w+\.py train) ([^#\n]*)", text, re.MULTILINE)


# The pages of the heads.


def test_every_head_has_a_page_that_the_readme_and_the_architecture_name():
    readme, architecture = (ROOT / "README.md").read_text(), (ROOT / "docs" / "architecture.md").read_text()
    for name, page in HEAD_PAGES.items():
        assert page.exists()
        assert f"(docs/{page.name})" in readme
        assert f"`sacae/agents/{name}.py`" in architecture


@pytest.mark.parametrize("name", HEADS)
def test_documented_settings_exist_and_have_the_documented_defaults(name):
    actual = {
        (PIXELS, "a DeepMind Control task"): configs.make(agent=name),
        (PIXELS, "an Atari game"): configs.make(agent=name, env="ALE/Pong-v5"),
        (STATE, "a DeepMind Control task"): configs.make(agent=name, obs="state"),
        (STATE, "a Gymnasium environment"): configs.make(agent=name, env="Pendulum-v1"),
    }
    documented = documented_settings(name)
    assert len({setting for setting, _ in documented}) == len(documented) > 10
    for setting, defaults in documented:
        for (seen, task), config in actual.items():
            if task == "an Atari game" and setting in configs.ATARI_PRESET:
                continue
            if seen == STATE and setting in config.idle():
                assert defaults[seen] == "–", f"{setting} of {name} is refused {seen}"
                continue
            value = config.applying()[setting]
            assert says(defaults[seen], value), f"{setting} of {name}, {seen} in {task}: {defaults[seen]} for {value}"


OF_ABLATIONS = {"actor_gradient", "tying"}
"""Settings that are the same for every head with an actor; docs/ablations.md has them."""


@pytest.mark.parametrize("name", HEADS)
def test_settings_that_not_every_head_has_are_on_the_pages_of_those_that_do(name):
    of_all = set.intersection(*({*declared(entry.settings)} for entry in HEADS.values()))
    own = {*declared(HEADS[name].settings)} - of_all - OF_ABLATIONS
    assert own <= {setting for setting, _ in documented_settings(name)}


@pytest.mark.parametrize("name", HEADS)
def test_every_metric_of_a_head_is_documented_and_no_other(name):
    (rows,) = tables(HEAD_PAGES[name], "Metrics")
    assert {row["name"].strip("`") for row in rows} == set(HEADS[name].head.metric_names)


def test_every_metric_of_an_autoencoder_is_documented():
    (rows,) = tables(ROOT / "docs" / "sac_ae.md", "Metrics")
    names = {name for kind in (*AUTOENCODERS.values(), Dynamics) for name in kind.metric_names}
    assert names | set(HEADS["sac"].head.metric_names) == {row["name"].strip("`") for row in rows}


PAGES = [*HEAD_PAGES.values(), ROOT / "docs" / "sac_ae.md", ROOT / "docs" / "settings.md", OWN_HEAD]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_a_page_names_exists(page):
    known = {*configs.every_setting(), "resume", "help"}
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", page.read_text()):
        setting = setting_of(flag)
        assert setting in known or setting.removeprefix("no_") in known, flag


@pytest.mark.parametrize("page", [ROOT / "README.md", *HEAD_PAGES.values(), OWN_HEAD], ids=lambda page: page.name)
def test_every_training_command_is_one_that_the_command_line_takes(page, parsed, own_head):
    given = [arguments for arguments in commands(page) if "--resume" not in arguments]
    assert given
    for arguments in given:
        agent = parsed(*shlex.split(arguments)).agent.agent
        if page in HEAD_PAGES.values():
            assert agent == page.stem


def test_the_page_of_settings_has_the_defaults_of_the_code():
    (rows,) = tables(ROOT / "docs" / "settings.md")
    compared = 0
    for obs, column in (("pixels", PIXELS), ("state", "`--obs state`")):
        actual = configs.make(obs=obs).flat()
        for row in rows:
            names = [setting_of(flag) for flag in re.findall(r"`(--[a-z0-9-]+)`", row["flag"])]
            cell = row[PIXELS] if row[column] == "same" else row[column]
            if cell in ("–", "task's preset", "all agent steps of the run"):
                continue
            defaults = re.split(r", (?!\d{3}\b)", cell)
            defaults *= len(names) // len(defaults)  # one for all of them
            for name, default in zip(names, defaults, strict=True):
                assert says(default, actual[name]), f"{name} from {obs}: {default} for {actual[name]}"
                compared += 1
    assert compared > 60


def test_the_variants_of_dqn_are_what_their_flags_make(parsed):
    (rows,) = tables(HEAD_PAGES["dqn"], "Variants")
    made = {row["variant"]: parsed(*shlex.split(row["flags"].strip("`"))).agent for row in rows}
    switches = {name: (a.target_network, a.double_q, a.dueling, a.td_loss) for name, a in made.items()}
    assert switches == {
        "DQN 2013": (False, False, False, "mse"),
        "DQN 2015": (True, False, False, "huber"),
        "Double DQN": (True, True, False, "huber"),
        "Dueling DQN": (True, True, True, "huber"),
    }


# Lists of settings within a sentence.


@pytest.mark.parametrize(
    ("page", "beginning", "settings"),
    [
        ("training.md", "A resumed run may change", {*configs.Config().with_role(CHANGEABLE_ON_RESUME)}),
        # The folder says itself where it is.
        ("ablations.md", "Not compared are", {*configs.Config().with_role(NOT_COMPARED)} - {"work_dir"}),
    ],
)
def test_a_sentence_that_lists_settings_has_those_of_the_code_and_no_other(page, beginning, settings):
    (sentence,) = re.findall(rf"{beginning} (.*?)\.\s", (ROOT / "docs" / page).read_text(), re.DOTALL)
    named = [setting_of(flag) for flag in re.findall(r"`--[a-z-]+`", sentence)]
    assert sorted(named) == sorted(settings)


# The head of one's own.


def own_head_source() -> str:
    return re.findall(r"^```python\n(.*?)^```", OWN_HEAD.read_text(), re.MULTILINE | re.DOTALL)[0]


@pytest.fixture
def own_head():
    """Runs the page's script as an import would; the head is registered until the test ends."""
    before = dict(HEADS)
    exec(compile(own_head_source(), "ln_ddpg.py", "exec"), {"__name__": "ln_ddpg"})
    yield "ln_ddpg"
    HEADS.clear()
    HEADS.update(before)


@pytest.fixture
def make_own_agent(own_head):
    def make(from_pixels, **settings):
        torch.manual_seed(0)
        frame = ((3, 48, 48), "uint8", 3) if from_pixels else ((4,), "float32", 1)
        small = {"hidden_dim": 16, "batch_size": 5}
        small |= {"num_layers": 2, "num_filters": 4, "feature_dim": 8} if from_pixels else {"obs": "state"}
        return make_agent(EnvSpec(*frame, action_dim=2), configs.make(agent=own_head, **(small | settings)))

    return make


@pytest.fixture
def one_thread():
    """Small networks are slower on several threads, and much slower where the cores have other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_batch(spec, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (size, *spec.obs_shape)
    if spec.from_pixels:
        obs, next_obs = (torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(2))
    else:
        obs, next_obs = (torch.randn(shape, generator=generator) for _ in range(2))
    action = torch.rand(size, spec.action_dim, generator=generator) * 2 - 1
    return Batch(obs, action, torch.rand(size, 1, generator=generator), torch.full((size, 1), 0.99), next_obs)


def update(agent, batch, seed=0):
    return agent.update(batch, agent.draw_noise(torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(("from_pixels", "precision"), [(True, "fp32"), (True, "bf16"), (False, "fp32")])
def test_the_own_head_learns_with_finite_losses(from_pixels, precision, make_own_agent):
    agent = make_own_agent(from_pixels, precision=precision, actor_update_freq=1, critic_target_update_freq=1)
    before = {name: p.clone() for name, p in agent.named_parameters()}
    for seed in range(3):
        metrics = update(agent, random_batch(agent.spec, seed=seed), seed)
        assert set(metrics) == set(agent.metric_names)
        assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in metrics.values())
    agent.check_finite()
    still = [name for name, p in agent.named_parameters() if torch.equal(p, before[name])]
    assert not [name for name in still if name.endswith("weight")]


def test_the_own_head_shares_its_convolutions_and_its_actor_does_not_move_them(make_own_agent):
    agent = make_own_agent(from_pixels=True)
    actor, critic = agent.head.actor, agent.head.critic
    assert actor.encoder.convs is critic.encoder.convs
    assert agent.head.critic_target.encoder.convs is not critic.encoder.convs
    before = {name: p.clone() for name, p in critic.named_parameters()}
    projection = actor.encoder.projection[0].weight.clone()
    noise = agent.draw_noise(torch.Generator().manual_seed(0))
    agent.run_update(random_batch(agent.spec), noise, Gates(critic=False, policy=True, targets=False, auxiliary=False))
    assert all(torch.equal(p, before[name]) for name, p in critic.named_parameters())
    assert not torch.equal(projection, actor.encoder.projection[0].weight)


def test_the_own_head_learns_a_bandit_from_state(make_own_agent, one_thread):
    agent = make_own_agent(from_pixels=False, hidden_dim=32, batch_size=64, critic_lr=1e-2, actor_lr=3e-3)
    obs = random_batch(agent.spec, 256, seed=-1).obs

    def reward(obs, action):
        return 1 - (action - torch.tanh(obs[:, :2])).square().mean(-1, keepdim=True)

    before = reward(obs, agent.act(obs)).mean()
    for seed in range(200):
        batch = random_batch(agent.spec, 64, seed)
        update(agent, batch._replace(reward=reward(batch.obs, batch.action), discount=torch.zeros(64, 1)), seed)
    after = reward(obs, agent.act(obs)).mean()
    assert before < 0.8
    assert after > 0.93


@pytest.mark.slow
def test_the_own_heads_script_trains_with_environments_in_processes_and_plays_back(tmp_path):
    script, folder = tmp_path / "ln_ddpg.py", tmp_path / "run"
    script.write_text(own_head_source())
    arguments = """--agent ln_ddpg --domain pendulum --task swingup --obs state --overlap --num-train-steps 60
        --seed-steps 20 --initial-updates 5 --batch-size 8 --num-eval-episodes 1 --no-save-video --precision fp32
        --work-dir"""
    run = [sys.executable, str(script)]
    subprocess.run([*run, "train", *arguments.split(), str(folder)], check=True, timeout=300)
    subprocess.run([*run, "eval", str(folder), "--episodes", "1", "--no-video"], check=True, timeout=300)
    assert (folder / "train.csv").read_text().startswith("agent,")
    assert [*folder.glob("evaluation/*.json")]


def test_every_test_that_the_page_of_faults_names_exists():
    tests = {path.relative_to(ROOT / "tests").as_posix(): path.read_text() for path in ROOT.glob("tests/**/test_*.py")}
    missing = []
    for row in re.findall(r"^\|.*\|$", (ROOT / "docs" / "faults.md").read_text(), re.MULTILINE):
        text = ""
        for name in re.findall(r"`([^`]+)`", row):
            if re.fullmatch(r"[\w/]*test_\w+\.py", name):
                text = "".join(content for path, content in tests.items() if f"/{path}".endswith(f"/{name}"))
                missing += [] if text else [name]
            elif "…" in name or (text and re.fullmatch(r"[a-z_]{20,}", name)):
                missing += [] if re.search(rf"def test_\w*{name.strip('…')}", text) else [name]
    assert not missing
