"""Option-critic on state vectors: its equations, its networks, and whole runs."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from baselines.algorithms import ALGORITHMS
from baselines.option_critic import (
    NO_OPTION,
    OptionCritic,
    OptionUpdates,
    chosen,
    critic_loss,
    load_player,
    option_target,
    policy_loss,
    termination_loss,
)
from baselines.settings import make
from baselines.settings.option_critic import OptionCriticSettings
from sacae.errors import UserError
from sacae.training.evaluation import evaluate
from sacae.types import Batch, EnvSpec
from tests.baselines.runs import small_runs, whole_and_resumed

SPECS = {
    "continuous": EnvSpec((3,), "float32", 1, 2),
    "discrete": EnvSpec((3,), "float32", 1, 2, num_actions=4),
}
CONFIG = OptionCriticSettings(num_options=3, hidden_dim=6)


@pytest.fixture(params=SPECS)
def networks(request):
    torch.manual_seed(0)
    return OptionCritic(SPECS[request.param], CONFIG).double()


def some_obs(size, seed=0):
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_options(size, seed=0):
    return torch.randint(3, (size,), generator=torch.Generator().manual_seed(seed))


def finite_differences(of, parameter, width=1e-6):
    """The gradient of a number by central differences, one entry of the parameter after another."""
    gradient, flat = torch.zeros_like(parameter), parameter.data.view(-1)
    for i in range(flat.numel()):
        before = flat[i].item()
        values = []
        for sign in (1, -1):
            flat[i] = before + sign * width
            values.append(of())
        flat[i] = before
        gradient.view(-1)[i] = (values[0] - values[1]) / (2 * width)
    return gradient


# The equations.


def test_the_target_goes_on_with_the_option_or_changes_to_the_best_by_the_termination():
    """r = 1, gamma = 0.5; Q'(s', .) = (4, 10); beta of option 0 is 0.25, of option 1 0.9."""
    next_q, next_beta = torch.tensor([[4.0, 10.0]] * 3), torch.tensor([[0.25, 0.9]] * 3)
    discount = torch.tensor([0.5, 0.5, 0.0])  # the last one is over
    target = option_target(torch.ones(3), discount, next_q, next_beta, torch.tensor([0, 1, 0]))
    assert target.tolist() == pytest.approx([1 + 0.5 * (0.75 * 4 + 0.25 * 10), 1 + 0.5 * 10, 1])


def test_the_critics_loss_is_hubers_with_a_knee_at_one():
    q = torch.tensor([[7.0, 1.5], [7.0, 4.0]])
    loss = critic_loss(q, torch.tensor([1, 1]), torch.tensor([1.0, 1.0]))
    assert loss.item() == pytest.approx((0.5 * 0.5**2 + (3 - 0.5)) / 2)


def test_terminations_weigh_going_on_against_the_best_and_nothing_after_the_end():
    next_beta, next_q = torch.tensor([[0.5, 0.2]] * 3), torch.tensor([[4.0, 10.0]] * 3)
    alive = torch.tensor([1.0, 1.0, 0.0])
    loss = termination_loss(next_beta, next_q, torch.tensor([0, 1, 0]), alive, 0.1)
    assert loss.item() == pytest.approx((0.5 * (4 - 10 + 0.1) + 0.2 * 0.1 + 0) / 3)


def test_the_policy_gradient_is_that_of_the_expected_value_of_an_action():
    """Summed over all actions by their probability, the loss's gradient is minus that of sum pi(a) Q_U(a) + c H."""
    torch.manual_seed(0)
    networks = OptionCritic(EnvSpec((3,), "float32", 1, 1, num_actions=4), CONFIG).double()
    obs, option, weight = some_obs(5), some_options(5), 0.3
    value = torch.randn(5, 4, dtype=torch.float64)
    baseline = torch.randn(5, dtype=torch.float64)

    def objective():
        policy = networks.policy(networks.features(obs), option)
        return ((policy.base_dist.probs[:, 0] * value).sum(-1) + weight * policy.entropy()).mean().item()

    policy = networks.policy(networks.features(obs), option)
    loss = 0
    for action in range(4):
        log_prob = policy.log_prob(torch.full((5, 1), action))
        share = log_prob.exp().detach()
        loss = loss + policy_loss(log_prob, 0 * log_prob, share * (value[:, action] - baseline), 0.0)
    loss = loss + policy_loss(0 * log_prob, policy.entropy(), torch.zeros(5), weight)
    for parameter in networks.policies.parameters():
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        assert torch.allclose(gradient, -finite_differences(objective, parameter), atol=1e-8)


def test_the_termination_gradient_is_that_of_the_value_on_arrival():
    """U(w, s') = (1 - beta) Q(s', w) + beta max Q(s', .), of which the loss's gradient is minus that of the mean."""
    torch.manual_seed(0)
    networks = OptionCritic(SPECS["continuous"], CONFIG).double()
    obs, option = some_obs(7), some_options(7)
    q = torch.randn(7, 3, dtype=torch.float64)

    def on_arrival():
        beta = chosen(networks.termination(networks.features(obs)), option)
        return ((1 - beta) * chosen(q, option) + beta * q.max(-1).values).mean().item()

    loss = termination_loss(networks.termination(networks.features(obs)), q, option, torch.ones(7), 0.0)
    for parameter in networks.terminations.parameters():
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        assert torch.allclose(gradient, -finite_differences(on_arrival, parameter), atol=1e-8)
    assert all(parameter.grad is None for parameter in networks.parameters())


def test_drawn_actions_carry_no_gradient_so_that_the_mean_learns():
    """E1.20: through a reparameterised action the gradient of log pi with respect to the mean is zero.

    With advantages A(a) = a the gradient of E[A] with respect to the mean is 1 in each action dimension.
    """
    torch.manual_seed(0)
    networks = OptionCritic(SPECS["continuous"], CONFIG).double()
    obs, option = some_obs(1).expand(100_000, 3), torch.zeros(100_000, dtype=torch.long)
    action = networks.sample(obs, option, torch.Generator().manual_seed(0))
    assert not action.requires_grad
    policy = networks.policy(networks.features(obs), option)
    loss = policy_loss(policy.log_prob(action), policy.entropy(), action.sum(-1) - policy.mean.sum(-1).detach(), 0.0)
    (gradient,) = torch.autograd.grad(loss, networks.policies.bias)
    assert torch.allclose(gradient.view(3, 2)[0], torch.full((2,), -1.0, dtype=torch.float64), atol=0.03)
    assert (gradient.view(3, 2)[1:] == 0).all()  # options that did not run learn nothing


# The networks.


def test_each_option_has_a_policy_and_a_termination_of_its_own(networks):
    obs, option = some_obs(6), some_options(6)
    features = networks.features(obs)
    together = networks.policy(features, option).base_dist
    for i in range(6):
        alone = networks.policy(features[i : i + 1], option[i : i + 1]).base_dist
        assert torch.allclose(together.mean[i] if not networks.discrete else together.logits[i],
                              alone.mean[0] if not networks.discrete else alone.logits[0])  # fmt: skip
    other = networks.policy(features, (option + 1) % 3)
    action = networks.sample(obs, option, torch.Generator().manual_seed(0))
    log_prob = networks.policy(features, option).log_prob(action)
    assert log_prob.shape == networks.policy(features, option).entropy().shape == (6,)
    assert not torch.allclose(log_prob, other.log_prob(action))
    assert networks.termination(features).shape == networks.value(obs).shape == (6, 3)
    if not networks.discrete:
        assert networks.log_std.shape == (3, 2)


def test_samples_follow_the_option_that_runs(networks):
    with torch.no_grad():
        if not networks.discrete:
            networks.log_std.copy_(torch.log(torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])))
        networks.policies.bias.copy_(torch.randn(networks.policies.bias.shape))
    obs, option = some_obs(1).expand(20_000, 3), torch.full((20_000,), 1)
    actions = networks.sample(obs, option, torch.Generator().manual_seed(0)).double()
    base = networks.policy(networks.features(obs[:1]), option[:1]).base_dist
    if networks.discrete:
        for i in range(2):
            shares = torch.bincount(actions[:, i].long(), minlength=4) / len(actions)
            assert torch.allclose(shares.double(), base.probs[0, i], atol=0.015)
    else:
        assert torch.allclose(actions.mean(0), base.mean[0], atol=0.02)
        assert torch.allclose(actions.std(0), torch.tensor([0.3, 0.4], dtype=torch.float64), atol=0.02)


def make_learner(**changes):
    torch.manual_seed(0)
    config = OptionCriticSettings(**{"num_options": 3, "hidden_dim": 6, "critic_target_update_freq": 2} | changes)
    return OptionUpdates(SPECS["continuous"], config, torch.device("cpu"))


def a_step(learner, size=4):
    """What update_options takes: obs, option, action, reward, alive, next_obs."""
    obs, option = some_obs(size).float(), some_options(size)
    action = learner.networks.sample(obs, option, torch.Generator().manual_seed(1))
    return obs, option, action, torch.randn(size), torch.ones(size), some_obs(size, 5).float()


def a_batch(size=4):
    option = some_options(size)[:, None]
    discount = torch.tensor([[0.99]] * (size - 1) + [[0.0]])
    return Batch(some_obs(size).float(), option, torch.ones(size, 1), discount, some_obs(size, 5).float())


def changes_in(learner, change):
    before = {name: value.clone() for name, value in learner.networks.state_dict().items()}
    change()
    after = learner.networks.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_the_critic_alone_trains_the_features_and_nothing_else():
    """E1.23: neither policies nor terminations move what they share."""
    learner = make_learner()
    step, batch = a_step(learner), a_batch()
    assert changes_in(learner, lambda: learner.update_critic(batch)) == {"features", "q"}
    assert changes_in(learner, lambda: learner.update_options(*step)) == {"policies", "terminations", "log_std"}
    networks = learner.networks
    features = networks.features(step[0])
    heads = networks.termination(features).sum() + networks.policy(features, step[1]).log_prob(step[2]).sum()
    gradients = torch.autograd.grad(heads, [*networks.features.parameters()], allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_the_target_networks_own_features_say_its_values():
    """E1.21: Q' of the online features is another number."""
    learner, batch = make_learner(critic_target_update_freq=100), a_batch()
    for _ in range(5):
        learner.update_critic(batch)  # the networks move away from the target network
    networks, target = learner.networks, learner.target
    with torch.no_grad():
        beta = networks.termination(networks.features(batch.next_obs))
        right = option_target(batch.reward[:, 0], batch.discount[:, 0], target.q(target.features(batch.next_obs)), beta,
                              batch.action[:, 0])  # fmt: skip
        wrong = option_target(batch.reward[:, 0], batch.discount[:, 0], target.q(networks.features(batch.next_obs)),
                              beta, batch.action[:, 0])  # fmt: skip
        q = networks.value(batch.obs)
    found = learner.update_critic(batch)["critic_loss"]
    assert found == critic_loss(q, batch.action[:, 0], right)
    assert found != critic_loss(q, batch.action[:, 0], wrong)


def test_the_target_network_is_copied_whole_after_so_many_updates():
    learner, batch = make_learner(), a_batch()
    first = {name: value.clone() for name, value in learner.target.state_dict().items()}
    learner.update_critic(batch)
    assert all(torch.equal(value, first[name]) for name, value in learner.target.state_dict().items())
    learner.update_critic(batch)
    same = learner.networks.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in learner.target.state_dict().items())


def test_options_learn_from_the_target_minus_their_value():
    learner = make_learner(entropy_weight=0.0, discount=0.9)
    obs, option, action, reward, alive, next_obs = a_step(learner)
    alive = torch.tensor([1.0, 0.0, 1.0, 1.0])
    networks = learner.networks
    with torch.no_grad():
        beta = networks.termination(networks.features(next_obs))
        target = option_target(reward, 0.9 * alive, learner.target.value(next_obs), beta, option)
        advantage = target - chosen(networks.value(obs), option)
        log_prob = networks.policy(networks.features(obs), option).log_prob(action)
        q = networks.value(next_obs)
        expected = termination_loss(beta, q, option, alive, learner.config.termination_reg)
    metrics = learner.update_options(obs, option, action, reward, alive, next_obs)
    assert metrics["policy_loss"].item() == pytest.approx(-(log_prob * advantage).mean().item(), rel=1e-5)
    assert metrics["termination_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


# Playing.


def test_playing_keeps_an_option_until_it_is_likelier_to_end(networks):
    with torch.no_grad():
        for layer in (networks.q, networks.terminations):
            layer.weight.zero_()
        networks.q.bias.copy_(torch.tensor([0.0, 2.0, 1.0]))
        networks.terminations.bias.copy_(torch.tensor([-1.0, -1.0, 1.0]))
    obs = some_obs(4).numpy()
    actions, options = networks.act_on(obs, [None, 0, 1, 2])
    assert options == [1, 0, 1, 1]  # the first begins with the best; only option 2 is likelier to end than not
    base = networks.policy(networks.features(torch.from_numpy(obs)), torch.tensor(options)).base_dist
    best = base.logits.argmax(-1) if networks.discrete else base.mean.clamp(-1, 1)
    assert torch.equal(actions, best)


class Counting:
    """Remembers in each episode how many steps it has acted, and acts by it."""

    spec = EnvSpec((1,), "float32", 1, 1)

    def __init__(self):
        self.told = []

    def act_on(self, obs, memory):
        self.told.append([*zip(obs[:, 0].tolist(), memory)])
        steps = [1 if count is None else count + 1 for count in memory]
        return torch.tensor(steps, dtype=torch.float32)[:, None], steps


class Lasting:
    """An episode whose length is its seed, and whose reward is the action; it shows its seed."""

    observation_space = action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    max_episode_steps = None

    def reset(self, seed):
        self.seed, self.length = seed, 0
        return np.array([seed], np.float32), {}

    def step(self, action):
        self.length += 1
        return np.array([self.seed], np.float32), float(action[0]), self.length == self.seed, False, {}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_a_player_remembers_belongs_to_one_episode_however_many_run_side_by_side(count):
    player, seeds = Counting(), [4, 2, 3, 1, 5]
    episodes = evaluate(player, [Lasting() for _ in range(count)], seeds)
    assert [episode.episode_return for episode in episodes] == [sum(range(1, n + 1)) for n in seeds]
    for shown, memory in (pair for step in player.told for pair in step):
        assert memory is None or memory < shown


# Whole runs.


@pytest.fixture
def make_trainer(tmp_path):
    return small_runs(
        ALGORITHMS["option_critic"],
        tmp_path,
        env="CartPole-v1",
        num_train_steps=150,
        eval_every=60,
        num_eval_episodes=2,
        num_eval_envs=2,
        seed_steps=20,
        hidden_dim=8,
        batch_size=4,
        epsilon=0.3,
        replay_capacity=60,
        critic_target_update_freq=3,
    )


@pytest.mark.parametrize(
    ("stop_at", "settings"),
    [(31, {}), (90, {"env": "Pendulum-v1", "num_envs": 3, "num_options": 4, "num_train_steps": 180})],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(stop_at, settings, make_trainer):
    whole, second = whole_and_resumed(make_trainer, stop_at, **settings)
    assert whole.learner.updates_done == (whole.run.agent_step - 20) // 4
    for ours, theirs in (
        (second.learner.updates.networks, whole.learner.updates.networks),
        (second.learner.updates.target, whole.learner.updates.target),
    ):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_no_step_leads_across_a_reset_and_each_episode_begins_with_a_new_option(make_trainer):
    trainer = make_trainer(num_envs=2, num_options=4, num_train_steps=200)
    seen, answers = [], []
    learn, receive = trainer.learner.updates.update_options, trainer.stepper.receive
    trainer.learner.updates.update_options = lambda *step: seen.append(step) or learn(*step)
    trainer.stepper.receive = lambda: answers.append(receive()) or answers[-1]
    choose, began = trainer.learner._choose_options, []
    trainer.learner._choose_options = lambda *at: began.append(trainer.learner.options.copy()) or choose(*at)
    assert trainer.train()
    learned = answers[-len(seen) :]
    ends = 0
    for (obs, _, _, _, alive, next_obs), answer, (after, *_) in zip(seen, learned, [*seen[1:], (None,)]):
        assert np.array_equal(next_obs.numpy(), answer.frame)
        assert alive.tolist() == (~answer.terminated).astype(float).tolist()
        for i, first in enumerate(answer.first_frame):
            if after is not None:
                expected = answer.frame[i] if first is None else first
                assert np.array_equal(after[i].numpy(), expected)
        # CartPole's law of motion by Euler steps of 0.02 s.
        assert np.allclose(next_obs[:, 0], obs[:, 0] + 0.02 * obs[:, 1], atol=1e-5)
    for answer, options in zip(answers, began[1:]):
        for i, first in enumerate(answer.first_frame):
            if first is not None:
                ends += 1
                assert options[i] == NO_OPTION
    assert ends > 2


def test_a_time_limit_bootstraps_and_an_end_does_not(make_trainer):
    """E1.22: Pendulum never terminates; its 200th step is as alive as the others."""
    trainer = make_trainer(env="Pendulum-v1", num_train_steps=260, seed_steps=150)
    alive, learn = [], trainer.learner.updates.update_options
    trainer.learner.updates.update_options = lambda *step: alive.append(step[4].item()) or learn(*step)
    assert trainer.train()
    assert len(alive) == 110
    assert set(alive) == {1.0}
    assert (trainer.learner.replay.sample(200, np.random.default_rng(0)).discount > 0).all()


def test_actions_are_clipped_on_their_way_to_the_environment_alone(make_trainer):
    trainer = make_trainer(env="Pendulum-v1", num_train_steps=60, seed_steps=0)
    with torch.no_grad():
        trainer.learner.updates.networks.log_std.fill_(1.0)
    sent, learned = [], []
    send, learn = trainer.stepper.send, trainer.learner.updates.update_options
    trainer.stepper.send = lambda actions: sent.append(actions.copy()) or send(actions)
    trainer.learner.updates.update_options = lambda *step: learned.append(step[2].numpy()) or learn(*step)
    assert trainer.train()
    assert max(abs(x).max() for x in learned) > 1
    assert all(np.array_equal(x.clip(-1, 1), y) for x, y in zip(learned, sent))


def test_epsilon_falls_exponentially(make_trainer):
    trainer = make_trainer(epsilon=0.1, epsilon_start=0.9, epsilon_decay_steps=50)
    assert trainer.learner.epsilon(0) == pytest.approx(0.9)
    assert trainer.learner.epsilon(100) == pytest.approx(0.1 + 0.8 * math.exp(-2))


def test_the_best_networks_are_kept_and_played(make_trainer):
    trainer = make_trainer()
    assert trainer.train()
    spec = EnvSpec((4,), "float32", 1, 1, 2)
    player = load_player(trainer.run.config, spec, torch.device("cpu"), trainer.learner.playable())
    obs = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    memory = [None, 0, 1, 0, 1] * 10
    ours, theirs = player.act_on(obs, memory), trainer.learner.player.act_on(obs, memory)
    assert torch.equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_options", 0),
        ("num_options", 10**12),
        ("critic_update_freq", 0),
        ("termination_reg", -1.0),
        ("entropy_weight", -0.1),
        ("epsilon_decay_steps", 0),
        ("actor_lr", 0.0),
        ("batch_size", 0),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(UserError, match=f"{name} is {value}"):
        make(OptionCriticSettings, **{name: value})


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(make_trainer):
    trainer = make_trainer()
    receive = trainer.stepper.receive
    trainer.stepper.receive = lambda: (lambda r: r._replace(reward=r.reward * np.nan))(receive())
    with pytest.raises(UserError, match="policy_loss was not finite at update 0"):
        trainer.train()
