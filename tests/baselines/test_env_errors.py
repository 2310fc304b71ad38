"""What the algorithms learn where environments fail: from every step that was taken, and from no other."""

import numpy as np
import pytest
import torch

from baselines.actor_critic import ActorCritic
from baselines.algorithms import ALGORITHMS
from baselines.rollout import Rollout
from sacae.envs.contract import StepResult
from sacae.errors import EnvironmentFailed
from sacae.training import checkpoint
from sacae.types import EnvSpec
from tests.baselines.runs import small_runs
from tests.baselines.test_her_ddpg import fill, frame, replay  # noqa: F401 - replay is a fixture
from tests.envs.misbehaving import FLAKY
from tests.training.runs import rows

MODULE = "tests.envs.misbehaving"
CPU = torch.device("cpu")
CASES = {
    "vpg": ("CartPole", {"steps_per_update": 7}),
    "ppo": ("Pendulum", {"steps_per_update": 7, "minibatch_size": 4}),
    "trpo": ("CartPole", {"steps_per_update": 7}),
    "npg": ("Pendulum", {"steps_per_update": 7}),
    "q_learning": ("CartPole", {"observation_clip": (2.4, 3.0, 0.5, 2.0)}),
    "option_critic": ("Pendulum", {"seed_steps": 5, "batch_size": 4, "replay_capacity": 400}),
    "hdqn": ("SixStateChain", {"batch_size": 4}),
    "her_ddpg": ("PointMassGoal", {"episodes_per_cycle": 2, "updates_per_cycle": 2, "batch_size": 4}),
}
HEALTHY = {base.partition("-")[0]: base for base in FLAKY}
RUN = {"num_train_steps": 60, "eval_every": 100, "num_eval_episodes": 1, "checkpoint_every": 25, "device": "cpu"}


@pytest.fixture(autouse=True)
def no_evaluations(monkeypatch):
    """Evaluations fail too often in these environments; what comes of that is tested elsewhere."""
    monkeypatch.setattr("sacae.training.run.Run.evaluation_due", False)


def make_run(name, tmp_path, num_envs, **settings):
    base, own = CASES[name]
    if "steps_per_update" in own:
        own = own | {"steps_per_update": own["steps_per_update"] * num_envs}
    env = {"env": f"{MODULE}:Flaky{base}-v0", "max_env_errors": 100}
    return small_runs(ALGORITHMS[name], tmp_path, **RUN | env | own | {"num_envs": num_envs} | settings)


def test_every_algorithm_is_tested():
    assert {*CASES} == {*ALGORITHMS}


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_every_algorithm_goes_on_where_environments_fail_and_stops_and_resumes_exactly(name, num_envs, tmp_path):
    make = make_run(name, tmp_path, num_envs)
    whole = make("whole")
    assert whole.train()
    assert whole.run.env_errors > 5
    written = rows(whole.run.folder / "train.csv")
    steps = sum(int(row["episode_length"]) for row in written) + whole.run.episode_length.sum()
    assert steps == whole.run.agent_step
    first = make("parts")
    first.run.config = first.run.config.replace(num_train_steps=30)
    assert first.train()
    resumed = make("parts", resume=True)
    assert resumed.train()
    ours, theirs = (
        [(row["env_step"], row["episode_return"]) for row in rows(training.run.folder / "train.csv")]
        for training in (resumed, whole)
    )
    assert ours == theirs


@pytest.mark.parametrize("name", CASES)
def test_every_algorithm_begins_episodes_anew_where_they_do_not_repeat(name, tmp_path, monkeypatch):
    make = make_run(name, tmp_path, 2)
    first = make()
    first.run.config = first.run.config.replace(num_train_steps=30)
    assert first.train()
    monkeypatch.setattr("sacae.envs.gym.GymEnv.restore", lambda *_: float("nan"))
    resumed = make(resume=True)
    assert resumed.run.episode_length.tolist() == [0, 0]
    assert resumed.train()


@pytest.mark.parametrize("name", CASES)
def test_every_algorithm_stops_at_a_number_that_is_not_finite_with_a_checkpoint_from_before(name, tmp_path):
    make = make_run(name, tmp_path, 1, env=HEALTHY[CASES[name][0]])
    training = make()
    (env,) = training.stepper.envs
    step, steps = env.step, []

    def nan_at_ten(action):
        steps.append(action)
        frame, reward, *rest = step(action)
        return (frame, np.nan if len(steps) >= 10 else reward, *rest)

    env.step = nan_at_ten
    with pytest.raises(EnvironmentFailed, match="environment 0 returned reward nan at step"):
        training.train()
    state = checkpoint.load(training.run.folder)[0]
    assert state["loop"]["agent_step"] == training.run.agent_step == 9
    assert make(resume=True).train()


# The parts.


def result_of(frames, first, lost):
    n = len(frames)
    return StepResult(
        np.array(frames, np.float32), np.ones(n), np.zeros(n, bool), np.array([i in lost for i in range(n)]), first,
        *[[None] * n] * 3, frozenset(lost),
    )  # fmt: skip


def test_a_rollout_leaves_failed_steps_out_and_bootstraps_before_them():
    torch.manual_seed(0)
    actor_critic = ActorCritic(EnvSpec((1,), "float32", 1, 1, num_actions=2), 4)
    actor_critic.value = lambda obs: obs.squeeze(-1)
    rollout = Rollout(actor_critic.spec, 3, 2)
    action = np.zeros((2, 1), np.int64)
    rollout.add(np.array([[1.0], [2.0]]), action, result_of([[3], [4]], [None, None], []))
    rollout.add(np.array([[3.0], [4.0]]), action, result_of([[5], [50]], [None, [50.0]], [1]))
    again = Rollout(actor_critic.spec, 3, 2)
    again.load(rollout.state())
    again.add(np.array([[5.0], [50.0]]), action, result_of([[7], [70]], [None, None], []))
    assert again.full
    batch = again.batch(actor_critic, 0.5, 0.9, True, CPU)
    assert batch.obs[:, 0].tolist() == [1, 2, 3, 5, 50]
    returns = [1 + 0.5 * (1 + 0.5 * (1 + 0.5 * 7)), 1 + 0.5 * 4, 1 + 0.5 * (1 + 0.5 * 7), 1 + 0.5 * 7, 1 + 0.5 * 70]
    assert batch.value_target.tolist() == pytest.approx(returns)
    assert batch.advantage.mean().item() == pytest.approx(0, abs=1e-6)
    assert [len(column) for column in batch] == [5] * 5


def test_a_rollout_takes_no_room_for_a_step_in_which_all_failed_and_cuts_off_what_was_before():
    actor_critic = ActorCritic(EnvSpec((1,), "float32", 1, 1, num_actions=2), 4)
    actor_critic.value = lambda obs: obs.squeeze(-1)
    rollout = Rollout(actor_critic.spec, 2, 1)
    action = np.zeros((1, 1), np.int64)
    rollout.add(np.array([[9.0]]), action, result_of([[90]], [[90.0]], [0]))
    rollout.add(np.array([[1.0]]), action, result_of([[2]], [None], []))
    rollout.add(np.array([[2.0]]), action, result_of([[90]], [[90.0]], [0]))
    assert not rollout.full
    rollout.add(np.array([[90.0]]), action, result_of([[91]], [None], []))
    assert rollout.full
    assert rollout.batch(actor_critic, 0.5, 0.9, True, CPU).value_target.tolist() == [1 + 0.5 * 2, 1 + 0.5 * 91]


def test_a_healthy_rollouts_checkpoint_holds_nothing_new():
    actor_critic = ActorCritic(EnvSpec((1,), "float32", 1, 1, num_actions=2), 4)
    rollout = Rollout(actor_critic.spec, 2, 1)
    rollout.add(np.array([[1.0]]), np.zeros((1, 1), np.int64), result_of([[2]], [None], []))
    assert [*rollout.state()] == [*rollout.columns]


def test_a_replay_of_episodes_ends_one_that_is_cut_off_without_a_terminal_state(replay):  # noqa: F811
    fill(replay, [3])
    for step in (1, 2):
        replay.add(np.zeros((1, 1)), StepResult(frame(1, step)[None], np.zeros(1), [False], [False], *[[None]] * 4))
    failed = StepResult(frame(2, 0)[None], np.zeros(1), [False], [True], [frame(2, 0)], *[[None]] * 3, frozenset([0]))
    (ended,) = replay.add(np.zeros((1, 1)), failed)
    assert ended[:, 1].tolist() == [0, 1, 2]
    assert replay._columns["length"].sum() == 5
    again = failed._replace(first_frame=[frame(3, 0)])
    assert replay.add(np.zeros((1, 1)), again) == []
    assert replay.obs.tolist() == [frame(3, 0).tolist()]
    assert replay._columns["length"].sum() == 5
    batch = replay.sample(200, 0.0, 0.9, np.random.default_rng(0), CPU)
    assert (batch.discount == np.float32(0.9)).all()
