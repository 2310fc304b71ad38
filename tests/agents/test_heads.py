"""The heads: what their papers prove of them, what they have in common, and what may move in which step."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from sacae import config as configs
from sacae import envs
from sacae.agents import HEADS, make_agent, make_update
from sacae.agents.critic import chosen_value
from sacae.agents.dqn import GREEDY
from sacae.agents.drqv2 import bounded
from sacae.networks import EnsembleMLP
from sacae.types import EnvSpec
from tests.agents.conftest import (
    assert_goes_on_after_loading,
    batch_for,
    critic_loss,
    noise_for,
    of_head,
    update_only,
)

CONTINUOUS = [name for name, head in HEADS.items() if not head.settings.DISCRETE_ACTIONS]
DISCRETE = [name for name, head in HEADS.items() if head.settings.DISCRETE_ACTIONS]
WITH_ACTOR = [*CONTINUOUS, "discrete_sac"]


@pytest.fixture
def make_head_agent(small_settings):
    def make(agent, from_pixels=True, num_actions=3, **settings):
        torch.manual_seed(0)
        discrete = HEADS[agent].settings.DISCRETE_ACTIONS
        frame = ((3, 48, 48), "uint8", 3) if from_pixels else ((7,), "float32", 1)
        spec = EnvSpec(*frame, action_dim=2, num_actions=num_actions if discrete else None)
        given = small_settings if from_pixels else {"obs": "state", "batch_size": 5, "hidden_dim": 16}
        return make_agent(spec, configs.make(agent=agent, **(given | settings)))

    return make


def prepared(agent, batch):
    return batch._replace(obs=agent.encoder.prepare(batch.obs), next_obs=agent.encoder.prepare(batch.next_obs))


# What all heads have in common.


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("decoder", ["rae", "vae", "none", "state"])
def test_every_head_learns_with_every_decoder_and_from_state(name, decoder, make_head_agent):
    state = decoder == "state"
    agent = make_head_agent(
        name, not state, **of_head(name, actor_update_freq=1), **({} if state else {"decoder": decoder})
    )
    batch = batch_for(agent)
    before = copy.deepcopy(agent.state_dict())
    metrics = agent.update(batch, noise_for(agent))
    assert set(metrics) == set(agent.metric_names)
    assert all(torch.isfinite(value) for value in metrics.values())
    stepped = {p for o in agent.optimizers.values() for p in o.param_groups[0]["params"]}
    after = dict(agent.named_parameters())
    still = [n for n, p in after.items() if p in stepped and torch.equal(before[n], p)]
    assert not [n for n in still if n.endswith("weight")], "parameters of an optimiser that received no gradient"


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("settings", [*({"num_layers": n, "num_filters": 4} for n in (2, 4, 6)), {"encoder": "nature"}])
def test_every_head_runs_on_every_encoder(name, settings, make_head_agent, small_settings):
    for name_of_default in ("num_layers", "num_filters"):
        small_settings.pop(name_of_default)
    agent = make_head_agent(name, **settings)
    metrics = agent.update(batch_for(agent), noise_for(agent))
    assert torch.isfinite(metrics["reconstruction_loss"])


@pytest.mark.parametrize("name", HEADS)
def test_one_critic_step_changes_the_shared_convolutions(name, make_head_agent):
    agent = make_head_agent(name)
    before = [p.clone() for p in agent.encoder.convs.parameters()]
    update_only(agent, "critic", batch_for(agent), noise_for(agent))
    assert not any(torch.equal(a, b) for a, b in zip(before, agent.encoder.convs.parameters(), strict=True))
    if name in WITH_ACTOR:
        assert agent.head.actor.encoder.convs is agent.encoder.convs


@pytest.mark.parametrize("name", WITH_ACTOR)
def test_a_policys_loss_computes_no_gradient_for_value_functions(name, make_head_agent):
    agent = make_head_agent(name)
    images = agent.encoder.prepare(batch_for(agent).obs)
    features = agent.encoder.features(images).detach()
    loss, _ = agent.head.policy_loss(features, features, noise_for(agent))
    q = [p for module in agent.head.critic.modules() if isinstance(module, EnsembleMLP) for p in module.parameters()]
    assert q
    assert all(gradient is None for gradient in torch.autograd.grad(loss, q, allow_unused=True))


@pytest.mark.parametrize("name", WITH_ACTOR)
def test_one_actor_step_leaves_critic_and_convolutions_bit_identical(name, make_head_agent):
    agent = make_head_agent(name)
    critic, projection = copy.deepcopy((agent.head.critic.state_dict(), agent.head.actor.encoder.projection))
    update_only(agent, "policy", batch_for(agent), noise_for(agent))
    assert all(torch.equal(value, critic[key]) for key, value in agent.head.critic.state_dict().items())
    assert not torch.equal(projection[0].weight, agent.head.actor.encoder.projection[0].weight)


@pytest.mark.parametrize("name", HEADS)
def test_learning_goes_on_bit_identically_after_saving_and_loading(name, make_head_agent):
    agent, other = make_head_agent(name), make_head_agent(name)
    assert_goes_on_after_loading(agent, other, batch_for(agent))


@pytest.mark.parametrize("name", HEADS)
def test_actions_are_of_the_kind_the_environment_takes_and_explore_only_with_noise(name, make_head_agent):
    agent = make_head_agent(name)
    obs = batch_for(agent).obs
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(agent.head.exploration_noise(rng, 5, env_step=0))
    action, best = agent.act(obs, noise), agent.act(obs)
    assert action.shape == best.shape == (5, 2)
    assert str(action.dtype) == f"torch.{agent.spec.action_dtype}"
    assert torch.equal(best, agent.act(obs))
    assert not torch.equal(best, action)
    low, high = (0, 2) if HEADS[name].settings.DISCRETE_ACTIONS else (-1, 1)
    assert low <= action.min()
    assert action.max() <= high


@pytest.mark.parametrize("name", ["td3", "ddpg", "dqn", "drqv2"])
def test_exploration_falls_linearly_in_environment_steps(name, make_head_agent):
    agent = make_head_agent(name, **of_head(name, exploration_steps=1000, epsilon=0.1, exploration_noise=0.1))

    def amount(env_step):
        noise = agent.head.exploration_noise(np.random.default_rng(0), 4000, env_step)
        return (noise != GREEDY).mean() if name == "dqn" else noise.std()

    assert [amount(step) for step in (0, 500, 1000, 10**6)] == pytest.approx([1.0, 0.55, 0.1, 0.1], abs=0.02)


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_the_target_actor_sits_on_the_target_convolutions_and_follows(name, make_head_agent):
    agent = make_head_agent(name, actor_update_freq=1, critic_target_update_freq=1, encoder_tau=0.5, critic_tau=0.25)
    head = agent.head
    assert head.actor_target.encoder.convs is head.critic_target.encoder.convs
    before = copy.deepcopy(head.actor_target)
    convs = copy.deepcopy(head.critic_target.encoder.convs)
    update_only(agent, "critic", batch_for(agent), noise_for(agent))
    with torch.no_grad():
        for p in head.actor.parameters():
            p.add_(0.1)
    update_only(agent, "targets", batch_for(agent), noise_for(agent))

    def between(old, new, tau):
        return old + tau * (new - old)

    for module, tau in (("trunk", 0.25), ("encoder.projection", 0.5)):
        triples = (m.get_submodule(module).parameters() for m in (before, head.actor, head.actor_target))
        for old, new, moved in zip(*triples, strict=True):
            torch.testing.assert_close(moved, between(old, new, tau))
    # Shared with the critic's target, they have moved once and not twice.
    for old, new, moved in zip(
        convs.parameters(), agent.encoder.convs.parameters(), head.actor_target.encoder.convs.parameters(), strict=True
    ):
        torch.testing.assert_close(moved, between(old, new, 0.5))


@pytest.mark.parametrize("name", HEADS)
def test_bf16_losses_of_every_head_are_float32_and_close(name, make_head_agent):
    plain, low = (
        make_head_agent(name, **of_head(name, actor_update_freq=1)),
        make_head_agent(name, precision="bf16", **of_head(name, actor_update_freq=1)),
    )
    ours, theirs = (agent.update(batch_for(agent), noise_for(agent)) for agent in (plain, low))
    assert {value.dtype for value in theirs.values()} == {torch.float32}
    for metric in ("critic_loss", "reconstruction_loss"):
        assert theirs[metric].item() == pytest.approx(ours[metric].item(), rel=0.1, abs=0.02)


NORMS = {
    "sac": {"critic.encoder", "q 0", "q 1", "actor", "log_alpha"},
    "sac_v": {"critic.encoder", "q 0", "q 1", "value", "actor"},
    "td3": {"critic.encoder", "q 0", "q 1", "actor"},
    "ddpg": {"critic.encoder", "q 0", "actor"},
    "discrete_sac": {"critic.encoder", "q 0", "q 1", "actor", "log_alpha"},
    "dqn": {"critic.encoder", "critic"},
    "drqv2": {"critic.encoder", "q 0", "q 1", "actor"},
}
"""What has a gradient norm of its own in each head."""


def part_of(name, parameter):
    """What a parameter of a head belongs to, as NORMS names it, and its gradient there; of each Q by itself."""
    if name.startswith("critic.q.weights") or name.startswith("critic.q.biases"):
        return [(f"q {i}", parameter.grad[i]) for i in range(len(parameter))]
    found = "critic.encoder" if name.startswith("critic.encoder") else name.partition(".")[0]
    return [(found, parameter.grad)]


@pytest.mark.parametrize("name", HEADS)
def test_each_part_has_a_gradient_norm_of_its_own_that_is_bounded(name, make_head_agent, monkeypatch):
    agent = make_head_agent(
        name, decoder="none", max_grad_norm=1e-5, **of_head(name, actor_update_freq=1, dueling=True)
    )
    norms = {}

    def note(optimizer, *_):
        gradients = {}
        stepped = {*optimizer.param_groups[0]["params"]}
        for parameter_name, parameter in agent.head.named_parameters():
            if parameter in stepped:
                for part, gradient in part_of(parameter_name, parameter):
                    gradients.setdefault(part, []).append(gradient)
        norms.update({part: torch.nn.utils.get_total_norm(tensors).item() for part, tensors in gradients.items()})

    for optimizer in agent.optimizers.values():
        optimizer.register_step_pre_hook(note)
    agent.update(batch_for(agent), noise_for(agent))
    assert norms.keys() == NORMS[name]
    # Each is scaled to the bound by itself; the clipping adds 1e-6 to a norm before it divides by it.
    assert all(0.5e-5 < norm <= 1.001e-5 for norm in norms.values()), norms


def test_a_checkpoint_of_another_head_is_refused_with_both_names(make_head_agent):
    with pytest.raises(configs.UserError, match="checkpoint is of td3-rae, but the settings say ddpg-rae"):
        make_head_agent("ddpg").load_learning_state(make_head_agent("td3").learning_state())


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_the_compiled_update_of_every_head_computes_the_same(name, make_head_agent):
    plain, compiled = (
        make_head_agent(name, **of_head(name, actor_update_freq=1), compile=flag) for flag in (False, True)
    )
    for agent in (plain, compiled):
        update = make_update(agent, torch.Generator().manual_seed(0))
        for _ in range(2):
            update(batch_for(agent))
    for (key, ours), theirs in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3, msg=key)


# SAC's standard deviation.

STDS = {
    "rescaled": lambda x: torch.exp(-3 + 4 * (torch.tanh(x) + 1) / 2),
    "softplus": lambda x: torch.log(1 + x.exp()) + 1e-4,
    "clamped": lambda x: torch.exp(torch.minimum(torch.maximum(x, torch.tensor(-3.0)), torch.tensor(1.0))),
}


@pytest.fixture
def make_policy(make_head_agent):
    """A policy whose network answers one action dimension with these numbers, instead of a standard deviation."""

    def make(answers, **settings):
        policy = make_head_agent("sac", from_pixels=False, **settings).head.actor
        with torch.no_grad():
            policy.trunk[-1].weight.zero_()
            policy.trunk[-1].bias[2:] = torch.tensor(answers)
        return policy

    return make


@pytest.mark.parametrize("std", STDS)
def test_actions_and_log_probabilities_are_those_of_torchs_squashed_normal(std, make_head_agent):
    bounds = {} if std == "softplus" else {"log_std_min": -3.0, "log_std_max": 1.0}
    policy = make_head_agent("sac", from_pixels=False, std=std, **bounds).head.actor
    features, noise = torch.randn(200, 7), torch.randn(200, 2)
    with torch.no_grad():
        policy.trunk[-1].weight[2:] *= 20  # Answers on both sides of the bounds.
        mean, answer = policy.trunk(features).double().chunk(2, -1)
        action, log_prob, log_std = policy.sample(features, noise)
    assert answer.min() < -3
    assert answer.max() > 1
    torch.testing.assert_close(log_std.exp().double(), STDS[std](answer), rtol=1e-4, atol=1e-6)
    normal = Independent(Normal(mean, STDS[std](answer)), 1)
    before_tanh = mean + STDS[std](answer) * noise.double()
    torch.testing.assert_close(action.double(), before_tanh.tanh(), rtol=1e-4, atol=1e-5)
    inside = (before_tanh.abs() < 3).all(-1)  # Beyond, the 1e-6 of the correction and float32 show.
    assert inside.sum() > 50
    theirs = TransformedDistribution(normal, TanhTransform(cache_size=1)).log_prob(before_tanh.tanh())
    torch.testing.assert_close(log_prob.squeeze(1).double()[inside], theirs[inside], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("std", "expected"),
    [("rescaled", (-10, 2)), ("softplus", (math.log(1e-4), math.log(40.0001))), ("clamped", (-10, 2))],
)
def test_the_standard_deviation_stays_finite_for_every_answer(std, expected, make_policy):
    bounds = {} if std == "softplus" else {"log_std_min": -10.0}
    log_std = make_policy([-40.0, 40.0], std=std, **bounds)(torch.randn(1, 7))[1]
    assert log_std[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_only_a_clamped_standard_deviation_has_no_gradient_beyond_its_bounds(make_policy):
    for std, bounds in {"rescaled": {"log_std_min": -3.0}, "softplus": {}, "clamped": {"log_std_min": -3.0}}.items():
        policy = make_policy([-4.0, 3.0], std=std, **bounds)
        policy(torch.randn(1, 7))[1].sum().backward()
        assert (policy.trunk[-1].bias.grad[2:] != 0).tolist() == [std != "clamped"] * 2


@pytest.mark.parametrize("agent", ["sac", "sac_v"])
@pytest.mark.parametrize(
    "task", [{"env": "Pendulum-v1"}, {"env": "Hopper-v5"}, {"domain": "cheetah", "task": "run", "obs": "state"}]
)
def test_from_state_a_new_policys_standard_deviation_is_near_1(task, agent):
    config = configs.make(agent=agent, **task)
    env = envs.from_config(config.task, 1)
    torch.manual_seed(0)
    policy = make_agent(envs.spec_of(envs.EnvInfo.of(env), config.task.frame_stack), config).head.actor
    states = [env.reset(seed=seed)[0] for seed in range(50)]
    with torch.no_grad():
        log_std = policy(torch.from_numpy(np.stack(states)))[1]
    assert 0.5 < log_std.exp().mean() < 1.2


# SAC with a value network.


@pytest.fixture
def worked_sac_v(make_head_agent, monkeypatch):
    """The head with a reward scale of 5, a batch with a true end, and what its networks are made to answer."""
    agent = make_head_agent("sac_v", reward_scale=5.0)
    head, batch = agent.head, prepared(agent, batch_for(agent))
    batch.discount[2] = 0.0
    answers = {name: torch.randn(5, 1) for name in ("v", "next_v", "log_prob")}
    answers |= {name: torch.randn(2, 5, 1) for name in ("q", "q_of_sample")}
    sampled = torch.rand(5, 2) * 2 - 1
    monkeypatch.setattr(head.actor, "sample", lambda *_: (sampled, answers["log_prob"], torch.zeros(5, 2)))
    monkeypatch.setattr(head.value, "forward", lambda *_: answers["v"])
    monkeypatch.setattr(head.value_target, "forward", lambda *_: answers["next_v"])
    q = {id(sampled): answers["q_of_sample"], id(batch.action): answers["q"]}
    monkeypatch.setattr(head.critic, "forward", lambda _, action, frozen=False: q[id(action)])
    return agent, batch, {name: value.squeeze(-1).tolist() for name, value in answers.items()}


def test_v_is_drawn_to_the_lesser_q_of_a_sampled_action_minus_its_log_probability(worked_sac_v):
    agent, batch, its = worked_sac_v
    _, metrics = critic_loss(agent, batch, noise_for(agent))
    expected = 0.0
    for b in range(5):
        target = min(its["q_of_sample"][0][b], its["q_of_sample"][1][b]) - its["log_prob"][b]
        expected += (its["v"][b] - target) ** 2 / 5
    assert metrics["value_loss"].item() == pytest.approx(expected)


def test_both_qs_are_drawn_to_the_scaled_reward_plus_the_target_networks_value(worked_sac_v):
    agent, batch, its = worked_sac_v
    loss, metrics = critic_loss(agent, batch, noise_for(agent))
    expected = 0.0
    for b in range(5):
        target = 5 * batch.reward[b].item() + (0 if b == 2 else 0.99) * its["next_v"][b]
        expected += sum((its["q"][k][b] - target) ** 2 / 5 for k in range(2))
    assert metrics["critic_loss"].item() == pytest.approx(expected)
    torch.testing.assert_close(loss, metrics["critic_loss"] + metrics["value_loss"])
    torch.testing.assert_close(metrics["batch_reward"], batch.reward.mean())


def test_the_policy_descends_its_log_probability_minus_the_lesser_q(worked_sac_v):
    agent, batch, its = worked_sac_v
    features = agent.encoder.features(batch.obs).detach()
    loss, _ = agent.head.policy_loss(features, features, noise_for(agent))
    lesser = [min(pair) for pair in zip(*its["q_of_sample"])]
    assert loss.item() == pytest.approx(sum(its["log_prob"][b] - lesser[b] for b in range(5)) / 5)


def test_neither_loss_reaches_the_others_target(make_head_agent):
    agent = make_head_agent("sac_v", from_pixels=False)
    head, batch = agent.head, batch_for(agent)

    def gradients(loss, network):
        return torch.autograd.grad(loss, [*network.parameters()], allow_unused=True, retain_graph=True)

    _, metrics = critic_loss(agent, batch, noise_for(agent))
    for metric, untouched in {"value_loss": (head.critic, head.actor), "critic_loss": (head.value, head.actor)}.items():
        for network in untouched:
            assert set(gradients(metrics[metric], network)) == {None}


def test_v_sees_what_the_critic_sees_and_its_target_has_an_encoder_of_its_own(make_head_agent):
    agent = make_head_agent("sac_v", critic_target_update_freq=1, encoder_tau=0.5, critic_tau=0.25)
    head = agent.head
    assert head.value.encoder is agent.encoder
    assert not {*head.value_target.parameters()} & {*head.critic.parameters(), *head.value.parameters()}
    assert [name for name, _ in head.named_children() if "target" in name] == ["value_target"]
    before = copy.deepcopy(head.value_target)
    update_only(agent, "critic", batch_for(agent), noise_for(agent))
    update_only(agent, "targets", batch_for(agent), noise_for(agent))
    for part, tau in (("v", 0.25), ("encoder", 0.5)):
        triples = (m.get_submodule(part).parameters() for m in (before, head.value, head.value_target))
        for old, new, moved in zip(*triples, strict=True):
            torch.testing.assert_close(moved, old + tau * (new - old))


# Entropy in n-step returns.


@pytest.mark.parametrize("name", ["sac", "discrete_sac"])
def test_the_only_entropy_in_a_target_is_the_bootstrapped_values_and_discounted_with_it(
    name, make_head_agent, monkeypatch
):
    agent = make_head_agent(name)
    batch, targets = prepared(agent, batch_for(agent)), []
    monkeypatch.setattr(f"sacae.agents.{name}.bellman_error", lambda q, target, batch: targets.append(target))

    def entropy_in_target(discount):
        for temperature in (0.0, 1.0):
            agent.head.log_alpha.data.fill_(math.log(temperature) if temperature else -math.inf)
            critic_loss(agent, batch._replace(discount=torch.full((5, 1), discount)), noise_for(agent))
        without, with_entropy = targets[-2:]
        return with_entropy - without

    assert (entropy_in_target(1.0) != 0).all()
    torch.testing.assert_close(entropy_in_target(0.99**3), 0.99**3 * entropy_in_target(1.0), rtol=1e-4, atol=1e-6)
    assert (entropy_in_target(0.0) == 0).all()


# SAC beside TD3.


@pytest.fixture
def sac_and_td3(make_head_agent):
    """Both with the same critics, and a temperature of 0."""
    sac, td3 = make_head_agent("sac", learn_temperature=False, init_temperature=0.0), make_head_agent("td3")
    td3.head.critic, td3.head.critic_target = sac.head.critic, sac.head.critic_target
    with torch.no_grad():  # a target that differs from what learns
        for p in sac.head.critic_target.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    return sac, td3


def test_without_entropy_sacs_critic_loss_is_td3s_for_equal_next_actions(sac_and_td3, monkeypatch):
    sac, td3 = sac_and_td3
    batch = prepared(sac, batch_for(sac))
    next_action = torch.rand(5, 2) * 2 - 1
    monkeypatch.setattr(sac.head.actor, "sample", lambda *_: (next_action, torch.randn(5, 1), None))
    monkeypatch.setattr(td3.head, "smoothed_target_action", lambda *_: next_action)
    ours, theirs = (critic_loss(agent, batch, noise_for(agent))[0] for agent in (sac, td3))
    torch.testing.assert_close(ours, theirs)
    next_q = sac.head.critic_target(sac.head.critic_target.encoder.features(batch.next_obs), next_action)
    target = (batch.reward + 0.99 * torch.minimum(*next_q)).detach()
    q1, q2 = sac.head.critic(sac.encoder.features(batch.obs), batch.action)
    torch.testing.assert_close(ours, (q1 - target).square().mean() + (q2 - target).square().mean())


def test_without_entropy_sacs_actor_loss_is_minus_the_lesser_q_and_td3s_is_minus_the_first(sac_and_td3, monkeypatch):
    sac, td3 = sac_and_td3
    features = sac.encoder.features(sac.encoder.prepare(batch_for(sac).obs)).detach()
    action = torch.rand(5, 2) * 2 - 1
    monkeypatch.setattr(sac.head.actor, "sample", lambda *_: (action, torch.randn(5, 1), torch.zeros(5, 2)))
    monkeypatch.setattr(td3.head.actor, "forward", lambda *_: action)
    q = sac.head.critic(features, action)
    torch.testing.assert_close(sac.head.policy_loss(features, features, noise_for(sac))[0], -torch.minimum(*q).mean())
    torch.testing.assert_close(td3.head.policy_loss(features, features, noise_for(td3))[0], -q[0].mean())


def test_td3_smooths_with_clipped_noise_and_stays_in_range(make_head_agent):
    td3 = make_head_agent("td3", target_noise=0.2, target_noise_clip=0.5)
    features = td3.encoder.features(td3.encoder.prepare(batch_for(td3).obs)).detach()
    plain = td3.head.actor_target(features)
    shift = td3.head.smoothed_target_action(features, torch.full((5, 2), 1.0)) - plain
    clipped = td3.head.smoothed_target_action(features, torch.full((5, 2), -100.0))
    torch.testing.assert_close(shift, torch.full((5, 2), 0.2).minimum(1 - plain))
    torch.testing.assert_close(clipped, (plain - 0.5).clamp(-1, 1))


def test_the_policy_of_td3_waits_for_every_second_update_also_from_state(make_head_agent):
    agent = make_head_agent("td3", from_pixels=False)
    seen = ["actor_loss" in agent.update(batch_for(agent), noise_for(agent, k)) for k in range(6)]
    assert seen == [False, True] * 3


# DrQ-v2.


def test_drqv2_samples_with_clipped_noise_of_a_scheduled_deviation_that_is_a_tensor(make_head_agent):
    agent = make_head_agent("drqv2", exploration_steps=1000, noise_clip=0.3)
    head = agent.head
    features = agent.encoder.features(agent.encoder.prepare(batch_for(agent).obs)).detach()
    mean, noise = head.actor(features), torch.full((5, 2), 2.0)
    std = head.std
    for env_step, shift in ((0, 0.3), (900, 0.3), (1000, 0.2), (10**6, 0.2)):
        agent.follow_schedule(env_step)
        assert head.std is std
        torch.testing.assert_close(head.sample(features, noise)[1], (mean + shift).clamp(max=1 - 1e-6))
    assert std.item() == pytest.approx(0.1)


def test_without_noise_the_policy_of_drqv2_learns_and_its_metrics_are_numbers(make_head_agent):
    agent = make_head_agent("drqv2", exploration_noise_start=0.0, exploration_noise=0.0)
    metrics = agent.update(batch_for(agent), noise_for(agent))
    assert all(torch.isfinite(value) for value in metrics.values())
    agent.check_finite()


def test_actions_of_drqv2_beyond_the_bounds_keep_their_gradient():
    action = torch.tensor([[-3.0, 0.5, 1.5]], requires_grad=True)
    bounds = bounded(action)
    bounds.sum().backward()
    assert bounds.tolist() == [[pytest.approx(-1 + 1e-6), 0.5, pytest.approx(1 - 1e-6)]]
    assert torch.equal(action.grad, torch.ones(1, 3))


def test_the_target_of_drqv2_has_a_projection_and_no_convolutions_of_its_own(make_head_agent):
    agent = make_head_agent("drqv2", encoder_tau=0.5, critic_tau=0.5)
    critic, target = agent.head.critic, agent.head.critic_target
    assert target.encoder.convs is critic.encoder.convs
    assert critic.encoder.convs[0].weight.requires_grad
    before = target.encoder.projection[0].weight.clone()
    update_only(agent, "critic", batch_for(agent), noise_for(agent))
    moved = critic.encoder.projection[0].weight.clone()
    update_only(agent, "targets", batch_for(agent), noise_for(agent))
    torch.testing.assert_close(target.encoder.projection[0].weight, (before + moved) / 2)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (("cartpole", "swingup"), {"exploration_steps": 200_000, "n_step": 3, "batch_size": 256, "critic_lr": 1e-4}),
        (("cheetah", "run"), {"exploration_steps": 1_000_000, "action_repeat": 2, "updates_per_step": 0.5}),
        (("walker", "walk"), {"exploration_steps": 200_000, "n_step": 1, "batch_size": 512}),
        (("walker", "run"), {"exploration_steps": 1_000_000, "n_step": 1, "batch_size": 512}),
        (("humanoid", "walk"), {"exploration_steps": 4_000_000, "critic_lr": 8e-5, "feature_dim": 100}),
    ],
)  # fmt: skip
def test_the_preset_of_drqv2_follows_the_authors_exceptions_by_task(task, expected):
    flat = configs.make(preset="drqv2", domain=task[0], task=task[1]).flat()
    assert {name: flat[name] for name in expected} == expected
    assert configs.make(preset="drqv2", domain=task[0], task=task[1], n_step=2).replay.n_step == 2


def test_a_preset_keeps_no_more_transitions_than_its_run_has():
    long = {"num_train_steps": 3_000_000}
    assert configs.make(preset="drqv2", **long).replay.replay_capacity == 1_000_000
    assert configs.make(preset="drqv2").replay.replay_capacity is None
    assert configs.make(preset="drqv2", domain="quadruped").replay.replay_capacity == 100_000
    assert configs.make(preset="drq", replay_capacity=200_000).replay.replay_capacity == 200_000


# DQN.


def test_double_dqn_with_equal_networks_is_dqn_2015_and_2013(make_head_agent):
    agents = [make_head_agent("dqn", **s) for s in ({}, {"double_q": False}, {"target_network": False})]
    losses = [critic_loss(agent, prepared(agent, batch_for(agent)), noise_for(agent))[0] for agent in agents]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_double_dqn_values_the_online_networks_choice_by_the_target_network(make_head_agent, monkeypatch):
    agent = make_head_agent("dqn", td_loss="mse")
    head, batch = agent.head, prepared(agent, batch_for(agent))
    online, target = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    monkeypatch.setattr(head.critic, "forward", lambda *_: online)
    monkeypatch.setattr(head.critic_target, "forward", lambda *_: target)
    rows = range(5)
    for double, judge in ((True, online), (False, target)):
        head.double_q = double
        next_q = torch.tensor([[sum(target[b, i, judge[b, i].argmax()] for i in range(2)) / 2] for b in rows])
        q = torch.tensor([[sum(online[b, i, batch.action[b, i]] for i in range(2)) / 2] for b in rows])
        expected = (q - batch.reward - 0.99 * next_q).square().mean()
        torch.testing.assert_close(critic_loss(agent, batch, noise_for(agent))[0], expected)


def test_the_target_network_is_copied_every_n_updates(make_head_agent):
    agent = make_head_agent("dqn", critic_target_update_freq=3)
    same = []
    for k in range(6):
        agent.update(batch_for(agent), noise_for(agent, k))
        pairs = zip(agent.head.critic.q.parameters(), agent.head.critic_target.q.parameters(), strict=True)
        same.append(all(torch.equal(a, b) for a, b in pairs))
    assert same == [False, False, True, False, False, True]


def test_without_a_target_network_none_is_kept(make_head_agent):
    agent = make_head_agent("dqn", target_network=False)
    assert not any("target" in name for name in agent.state_dict())
    agent.update(batch_for(agent), noise_for(agent))


def test_a_dueling_value_does_not_change_when_a_constant_is_added_to_the_advantages(make_head_agent):
    network = make_head_agent("dqn", dueling=True).head.critic
    features = torch.randn(4, math.prod(network.encoder.conv_shape))
    before = network(features)
    with torch.no_grad():
        network.q[-1].bias += 3.0
    torch.testing.assert_close(network(features), before)
    torch.testing.assert_close(before.mean(-1), network.value(network.encoder.project(features)).expand(4, 2))


def test_huber_is_linear_for_large_errors_and_mse_is_not(make_head_agent):
    losses = {}
    for td_loss in ("huber", "mse"):
        agent = make_head_agent("dqn", td_loss=td_loss)
        batch = prepared(agent, batch_for(agent))
        losses[td_loss] = [
            critic_loss(agent, batch._replace(reward=torch.full((5, 1), r)), noise_for(agent))[0].item()
            for r in (100.0, 200.0)
        ]
    assert losses["huber"][1] / losses["huber"][0] == pytest.approx(2, rel=0.05)
    assert losses["mse"][1] / losses["mse"][0] == pytest.approx(4, rel=0.05)


# Discrete SAC.


@pytest.mark.parametrize(("certainty", "rises"), [(20.0, True), (0.0, False)])
def test_the_temperature_rises_below_the_target_entropy_and_falls_above(certainty, rises, make_head_agent):
    # The unweighted mean of log pi is at most -log n for every policy: a loss of it would let alpha fall in both cases.
    agent = make_head_agent("discrete_sac", actor_update_freq=1)
    last = agent.head.actor.trunk[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.view(2, 3)[:] = torch.tensor([certainty, 0.0, 0.0])
    before = agent.head.log_alpha.item()
    agent.update(batch_for(agent), noise_for(agent))
    assert (agent.head.log_alpha.item() > before) == rises


def test_the_soft_value_takes_the_lesser_q_before_the_mean_over_dimensions(make_head_agent, monkeypatch):
    agent = make_head_agent("discrete_sac", init_temperature=0.3)
    head, batch = agent.head, prepared(agent, batch_for(agent))
    log_pi = torch.randn(5, 2, 3).log_softmax(-1)
    q, next_q = torch.randn(2, 5, 2, 3), torch.randn(2, 5, 2, 3)
    monkeypatch.setattr(head.actor, "forward", lambda *_: log_pi)
    monkeypatch.setattr(head.critic, "forward", lambda *_: q)
    monkeypatch.setattr(head.critic_target, "forward", lambda *_: next_q)
    expected = 0.0
    for b in range(5):
        value = 0.0
        for i in range(2):
            for a in range(3):
                lesser = min(next_q[0, b, i, a], next_q[1, b, i, a])
                value += log_pi[b, i, a].exp() * (lesser - 0.3 * log_pi[b, i, a]) / 2
        target = batch.reward[b, 0] + 0.99 * value
        for k in range(2):
            predicted = sum(q[k, b, i, batch.action[b, i]] for i in range(2)) / 2
            expected += (predicted - target) ** 2 / 5
    torch.testing.assert_close(critic_loss(agent, batch, noise_for(agent))[0], expected)


def test_gumbel_noise_samples_from_the_policy(make_head_agent):
    agent = make_head_agent("discrete_sac")
    obs = batch_for(agent).obs[:1]
    with torch.no_grad():
        pi = agent.head.actor(agent.encoder.features(agent.encoder.prepare(obs)))[0].exp()
    noise = torch.from_numpy(agent.head.exploration_noise(np.random.default_rng(0), 20_000, 0))
    features = agent.encoder.features(agent.encoder.prepare(obs)).expand(20_000, -1)
    counts = torch.stack([(agent.head.act(features, noise) == a).float().mean(0) for a in range(3)], dim=-1)
    torch.testing.assert_close(counts, pi, atol=0.015, rtol=0)


def test_with_one_dimension_the_chosen_value_is_the_value_of_the_choice():
    q, action = torch.randn(6, 1, 4), torch.randint(0, 4, (6, 1))
    assert torch.equal(chosen_value(q, action), q[:, 0].gather(1, action))
