"""Advantages, the policies' steps and whole runs of the algorithms that learn from what they have just done."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence
from torch.nn.utils import parameters_to_vector

from baselines.actor_critic import ActorCritic
from baselines.algorithms import ALGORITHMS
from baselines.on_policy import minibatches
from baselines.ppo import PPO, clipped_loss
from baselines.rollout import Rollout, RolloutBatch, advantages
from baselines.settings import make
from baselines.settings.on_policy import NPGSettings, OnPolicySettings, PPOSettings, TRPOSettings, VPGSettings
from baselines.trpo import NPG, TRPO, conjugate_gradient, fisher_vector_product, frozen
from baselines.vpg import VPG, approximate_kl, policy_gradient_loss
from sacae.envs.contract import StepResult
from sacae.errors import UserError
from sacae.settings import check
from sacae.types import EnvSpec
from tests.baselines.runs import small_runs, whole_and_resumed

SPECS = {
    "continuous": EnvSpec((3,), "float32", 1, 2),
    "discrete": EnvSpec((3,), "float32", 1, 2, num_actions=4),
}


@pytest.fixture(params=SPECS)
def actor_critic(request):
    torch.manual_seed(0)
    return ActorCritic(SPECS[request.param], 5).double()


def make_batch(actor_critic, size=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    action = actor_critic.sample(obs, generator)
    with torch.no_grad():
        log_prob = actor_critic.policy(obs).log_prob(action)
    advantage = torch.randn(size, generator=generator, dtype=torch.float64)
    return RolloutBatch(obs, action, log_prob, advantage, torch.zeros(size, dtype=torch.float64))


def moved(actor_critic, by=0.1):
    """Changes the policy a little."""
    with torch.no_grad():
        for parameter in actor_critic.policy_parameters():
            parameter += by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))


# Advantages.


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_advantages_equal_the_direct_sum_over_each_episode(gae_lambda):
    rng, discount = np.random.default_rng(0), 0.9
    reward, value, next_value = rng.normal(size=(3, 12, 4))
    terminated, truncated = rng.random((2, 12, 4)) < 0.2
    ended = terminated | truncated
    found = advantages(reward, value, next_value, terminated, ended, discount, gae_lambda)
    for i in range(4):
        for t in range(12):
            expected, weight = 0.0, 1.0
            for k in range(t, 12):
                after = 0.0 if terminated[k, i] else next_value[k, i]
                expected += weight * (reward[k, i] + discount * after - value[k, i])
                weight *= discount * gae_lambda
                if ended[k, i]:
                    break
            assert found[t, i] == pytest.approx(expected)


def step_result(frame, reward, terminated, truncated, first):
    n = len(frame)
    ends = [first[i] if terminated[i] or truncated[i] else None for i in range(n)]
    return StepResult(
        np.array(frame, np.float32), np.array(reward, float), np.array(terminated), np.array(truncated), ends,
        *[[None] * n] * 3,
    )  # fmt: skip


def test_a_time_limit_bootstraps_from_the_last_observation_and_an_end_does_not():
    """V(s) = s: one environment is cut off at 7, the other ends there; both begin anew at 100."""
    torch.manual_seed(0)
    actor_critic = ActorCritic(EnvSpec((1,), "float32", 1, 1, num_actions=2), 4)
    actor_critic.value = lambda obs: obs.squeeze(-1)
    rollout = Rollout(actor_critic.spec, 2, 2)
    action = np.zeros((2, 1), np.int64)
    cut, over = [False, True], [True, False]
    rollout.add(np.array([[1.0], [1.0]]), action, step_result([[7], [7]], [1, 1], over, cut, [[100.0], [100.0]]))
    rollout.add(np.array([[100.0], [100.0]]), action, step_result([[101], [101]], [1, 1], [False] * 2, [False] * 2, []))
    assert rollout.full
    target = rollout.batch(actor_critic, 0.5, 0.9, True, torch.device("cpu")).value_target.view(2, 2)
    assert target.tolist() == [[1, 1 + 0.5 * 7], [1 + 0.5 * 101] * 2]
    assert rollout.length == 0


def test_a_rollout_keeps_what_it_hands_over():
    actor_critic = ActorCritic(SPECS["continuous"], 4)
    rollout = Rollout(actor_critic.spec, 2, 1)
    obs = np.ones((1, 3), np.float32)
    for _ in range(2):
        rollout.add(obs, np.zeros((1, 2), np.float32), step_result([[1, 2, 3]], [0], [False], [False], []))
    batch = rollout.batch(actor_critic, 0.9, 0.9, False, torch.device("cpu"))
    rollout.add(5 * obs, np.zeros((1, 2), np.float32), step_result([[1, 2, 3]], [0], [False], [False], []))
    assert (batch.obs == 1).all()


@pytest.mark.parametrize(("size", "sizes"), [(None, [10]), (4, [4, 4, 2]), (10, [10]), (99, [10])])
def test_minibatches_are_each_step_once(size, sizes):
    column = torch.arange(10)
    batch = RolloutBatch(column[:, None], column[:, None], column, column, column)
    parts = [*minibatches(batch, size, np.random.default_rng(0))]
    assert [len(part.obs) for part in parts] == sizes
    assert sorted(torch.cat([part.advantage for part in parts]).tolist()) == [*range(10)]
    assert all((part.obs[:, 0] == part.log_prob).all() for part in parts)


# The policy.


def test_log_probs_and_entropy_add_up_over_action_dimensions(actor_critic):
    obs = torch.randn(6, 3, dtype=torch.float64)
    policy = actor_critic.policy(obs)
    action = actor_critic.sample(obs, torch.Generator().manual_seed(0))
    assert policy.log_prob(action).shape == policy.entropy().shape == (6,)
    by_dimension = policy.base_dist.log_prob(action)
    assert torch.allclose(policy.log_prob(action), by_dimension.sum(-1))


def test_samples_follow_the_policy(actor_critic):
    obs = torch.randn(1, 3, dtype=torch.float64).expand(40_000, 3)
    actions = actor_critic.sample(obs, torch.Generator().manual_seed(0)).double()
    policy = actor_critic.policy(obs[:1]).base_dist
    if actor_critic.discrete:
        for i in range(2):
            shares = torch.bincount(actions[:, i].long(), minlength=4) / len(actions)
            assert torch.allclose(shares.double(), policy.probs[0, i], atol=0.01)
    else:
        assert torch.allclose(actions.mean(0), policy.mean[0], atol=0.02)
        assert torch.allclose(actions.std(0), policy.stddev[0], atol=0.02)


def test_the_divergence_equals_a_monte_carlo_estimate(actor_critic):
    obs = torch.randn(1, 3, dtype=torch.float64).expand(200_000, 3)
    with torch.no_grad():
        old = frozen(actor_critic.policy(obs))
        actions = actor_critic.sample(obs, torch.Generator().manual_seed(0))
        moved(actor_critic, 0.3)
        new = actor_critic.policy(obs)
        exact = kl_divergence(old, new).mean().item()
        assert exact > 0.01
        assert (old.log_prob(actions) - new.log_prob(actions)).mean().item() == pytest.approx(exact, rel=0.05)
        assert approximate_kl(new.log_prob(actions), old.log_prob(actions)).item() == pytest.approx(exact, rel=0.05)


def test_playing_takes_the_most_likely_action(actor_critic):
    obs = np.random.default_rng(0).normal(size=(5, 3))
    policy = actor_critic.policy(torch.from_numpy(obs)).base_dist
    played = actor_critic.act(obs)
    best = policy.logits.argmax(-1) if actor_critic.discrete else policy.mean.clamp(-1, 1)
    assert torch.equal(played, best)


# Natural gradients.


def test_the_fisher_vector_product_is_that_of_the_explicit_matrix(actor_critic):
    obs = make_batch(actor_critic).obs
    parameters = actor_critic.policy_parameters()
    old = frozen(actor_critic.policy(obs))
    kl = kl_divergence(old, actor_critic.policy(obs)).mean()
    size = sum(p.numel() for p in parameters)
    product = fisher_vector_product(kl, parameters, damping=0.0)
    matrix = torch.stack([product(unit) for unit in torch.eye(size, dtype=torch.float64)])
    assert torch.allclose(matrix, matrix.T, atol=1e-10)
    # F = E[score score'] exactly: over all choices, or for a Gaussian from its known information.
    assert torch.allclose(matrix, explicit_fisher(actor_critic, obs, parameters), atol=1e-8)
    vector = torch.randn(size, dtype=torch.float64)
    damped = fisher_vector_product(kl, parameters, damping=0.3)
    assert torch.allclose(damped(vector), matrix @ vector + 0.3 * vector)


def explicit_fisher(actor_critic, obs, parameters):
    """J' M J over the states, M the information of the distribution's own parameters."""

    def jacobian(outputs):
        rows = [torch.autograd.grad(x, parameters, retain_graph=True, materialize_grads=True) for x in outputs]
        return torch.stack([parameters_to_vector(row) for row in rows])

    total = 0
    for state in obs:
        policy = actor_critic.policy(state[None]).base_dist
        if actor_critic.discrete:
            for i in range(actor_critic.spec.action_dim):
                scores = jacobian(policy.logits[0, i])  # d log pi(a) for each choice a
                total = total + scores.T @ torch.diag(policy.probs[0, i].detach()) @ scores
        else:
            means, log_stds = jacobian(policy.mean[0]), jacobian(policy.stddev[0].log())
            precision = torch.diag(policy.stddev[0].detach() ** -2)
            total = total + means.T @ precision @ means + 2 * log_stds.T @ log_stds
    return total / len(obs)


def test_conjugate_gradients_solve_the_system():
    torch.manual_seed(0)
    root = torch.randn(8, 8, dtype=torch.float64)
    matrix, b = root @ root.T + torch.eye(8), torch.randn(8, dtype=torch.float64)
    assert torch.allclose(conjugate_gradient(lambda v: matrix @ v, b, 20), torch.linalg.solve(matrix, b), atol=1e-6)


def test_the_natural_step_has_the_divergence_asked_for(actor_critic):
    batch = make_batch(actor_critic, 400)
    metrics = NPG(actor_critic, NPGSettings(max_kl=1e-4, damping=1e-3, cg_iterations=50)).improve(batch, None)
    assert metrics["step_fraction"] == 1
    # The damping takes a part of it: F alone is singular.
    assert 0.5e-4 < metrics["kl"].item() < 1.1e-4


def test_a_step_within_the_region_improves_the_surrogate_and_is_found_anew_each_time(actor_critic):
    batch = make_batch(actor_critic, 400)
    algorithm = TRPO(actor_critic, TRPOSettings(max_kl=0.01))
    before = algorithm._surrogate(batch).item()
    metrics = algorithm.improve(batch, None)
    assert 0 < metrics["step_fraction"] <= 1
    assert metrics["kl"] <= 0.01
    assert algorithm._surrogate(batch).item() > before
    for seed in range(1, 6):  # every search begins with the whole step
        fraction = algorithm.improve(make_batch(actor_critic, 400, seed), None)["step_fraction"].item()
        assert fraction in [pytest.approx(0.8**j) for j in range(10)]


def test_where_no_length_will_do_the_policy_stays(actor_critic):
    batch = make_batch(actor_critic)
    before = parameters_to_vector(actor_critic.policy_parameters()).clone()
    algorithm = TRPO(actor_critic, TRPOSettings())
    algorithm._kl = lambda *_: torch.tensor(1.0)
    assert algorithm.improve(batch, None)["step_fraction"] == 0
    assert torch.equal(parameters_to_vector(actor_critic.policy_parameters()), before)


def test_without_advantage_nothing_moves(actor_critic):
    batch = make_batch(actor_critic)._replace(advantage=torch.zeros(40, dtype=torch.float64))
    before = parameters_to_vector(actor_critic.policy_parameters()).clone()
    for kind, config in ((NPG, NPGSettings()), (TRPO, TRPOSettings())):
        kind(actor_critic, config).improve(batch, None)
        assert torch.equal(parameters_to_vector(actor_critic.policy_parameters()), before)


# Policy gradient and PPO.


def test_the_policy_gradient_is_the_surrogates_at_the_old_policy(actor_critic):
    batch, parameters = make_batch(actor_critic), actor_critic.policy_parameters()
    log_prob = actor_critic.policy(batch.obs).log_prob(batch.action)
    vanilla = torch.autograd.grad(policy_gradient_loss(log_prob, batch.advantage), parameters, retain_graph=True)
    clipped, _ = clipped_loss(log_prob, batch.log_prob, batch.advantage, 0.2)
    for ours, surrogate in zip(vanilla, torch.autograd.grad(clipped, parameters)):
        assert torch.allclose(ours, surrogate)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"),
    [(1.5, 1.0, 1.2), (0.5, 1.0, 0.5), (1.5, -1.0, -1.5), (0.5, -1.0, -0.8), (1.1, 2.0, 2.2)],
)
def test_the_clipped_objective_is_the_smaller_one(ratio, advantage, objective):
    loss, outside = clipped_loss(torch.tensor([ratio]).log(), torch.zeros(1), torch.tensor([advantage]), 0.2)
    assert -loss.item() == pytest.approx(objective)
    assert outside == (0 if 0.8 <= ratio <= 1.2 else 1)


def test_ppo_stops_where_it_has_gone_far_enough(actor_critic):
    rng, batch = np.random.default_rng(0), make_batch(actor_critic)
    metrics = PPO(actor_critic, PPOSettings(policy_lr=0.05, target_kl=0.01)).improve(batch, rng)
    assert 0 < metrics["policy_steps"] < 80
    assert metrics["kl"] > 0.015
    calm = PPO(actor_critic, PPOSettings(policy_lr=1e-9, policy_updates=3, minibatch_size=16))
    batch = make_batch(actor_critic)
    assert calm.improve(batch, rng)["policy_steps"] == 9


def test_vpg_makes_one_step_up_the_advantage(actor_critic):
    batch = make_batch(actor_critic)
    VPG(actor_critic, VPGSettings(policy_lr=1e-3)).improve(batch, None)
    log_prob = actor_critic.policy(batch.obs).log_prob(batch.action)
    assert ((log_prob - batch.log_prob) * batch.advantage).mean() > 0


# Whole runs.

ON_POLICY = [name for name, algorithm in ALGORITHMS.items() if issubclass(algorithm.settings, OnPolicySettings)]


@pytest.fixture
def make_trainer(tmp_path):
    def make(name, *args, **settings):
        small = {"env": "CartPole-v1", "num_train_steps": 240, "eval_every": 100, "num_eval_episodes": 1,
                 "steps_per_update": 60, "hidden_dim": 8, "value_updates": 2}  # fmt: skip
        return small_runs(ALGORITHMS[name], tmp_path, **small)(*args, **settings)

    return make


@pytest.mark.parametrize("name", ON_POLICY)
@pytest.mark.parametrize(
    ("stop_at", "settings"),
    [(31, {}), (130, {"env": "Pendulum-v1", "num_envs": 3, "minibatch_size": 16, "value_target": "gae"})],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(name, stop_at, settings, make_trainer):
    whole, second = whole_and_resumed(partial(make_trainer, name), stop_at, **settings)
    assert whole.learner.updates_done == 4
    ours, theirs = second.learner.actor_critic.state_dict(), whole.learner.actor_critic.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("ppo", {"steps_per_update": 1}, "steps_per_update is 1"),
        ("ppo", {"steps_per_update": 241}, "steps_per_update is 241, but it must be at most the run's agent steps"),
        ("vpg", {"action_repeat": 5}, "steps_per_update is 60, but it must be at most the run's agent steps"),
        ("ppo", {"clip_ratio": 1.0}, "clip_ratio is 1.0"),
        ("trpo", {"backtrack_coefficient": 1.0}, "backtrack_coefficient"),
        ("npg", {"max_kl": 0.0}, "max_kl"),
        ("vpg", {"gae_lambda": 1.5}, "gae_lambda"),
        ("vpg", {"policy_lr": 0.0}, "policy_lr"),
    ],
)
def test_settings_out_of_range_are_named(name, settings, words, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(name, **settings)


def test_a_run_may_last_as_long_as_one_update_or_less_where_it_is_an_older_one(make_trainer):
    trainer = make_trainer("vpg", num_train_steps=59 * 4 + 1, action_repeat=4)
    assert trainer.train()
    assert trainer.learner.updates_done == 1
    too_short = make(VPGSettings, steps_per_update=100, num_train_steps=100).replace(num_train_steps=99)
    check(too_short, new_run=False)
    with pytest.raises(UserError, match="steps_per_update is 100"):
        check(too_short)


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(make_trainer):
    trainer = make_trainer("ppo")
    receive = trainer.stepper.receive
    trainer.stepper.receive = lambda: (lambda r: r._replace(reward=r.reward * np.nan))(receive())
    with pytest.raises(UserError, match="not finite at update 1"):
        trainer.train()


@pytest.mark.parametrize("passes", [1, 3])
def test_ppo_reports_the_divergence_after_its_last_step(passes, actor_critic):
    batch = make_batch(actor_critic)
    metrics = PPO(actor_critic, PPOSettings(policy_updates=passes)).improve(batch, np.random.default_rng(0))
    log_prob = actor_critic.policy(batch.obs).log_prob(batch.action)
    assert metrics["policy_steps"] == passes
    assert metrics["kl"].item() == pytest.approx(approximate_kl(log_prob, batch.log_prob).item(), rel=1e-6)
    assert metrics["kl"].item() != 0


@pytest.mark.parametrize("name", ["ppo", "option_critic"])
def test_a_run_that_was_saved_on_another_kind_of_device_goes_on(name, tmp_path):
    small = {"env": "CartPole-v1", "num_train_steps": 60, "eval_every": 60, "num_eval_episodes": 1}
    small |= {"steps_per_update": 20} if name == "ppo" else {}
    training = small_runs(ALGORITHMS[name], tmp_path, **small)()
    state = training.learner.state()
    state["random"]["actions"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's is
    assert training.learner.load(state)
    assert training.train()


def test_a_training_leaves_the_random_numbers_as_they_are(tmp_path):
    before = torch.get_rng_state()
    small_runs(ALGORITHMS["vpg"], tmp_path)(env="CartPole-v1", steps_per_update=4, num_train_steps=8).close()
    assert torch.equal(torch.get_rng_state(), before)
