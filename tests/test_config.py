"""Settings: presets, bounds, YAML, and one name for each."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sacae import config as configs
from sacae.errors import UserError
from sacae.heads import HEADS


@pytest.mark.parametrize("agent", HEADS)
def test_setting_names_are_unique_across_groups(agent):
    names = [f.name for group in configs.make(agent=agent).groups().values() for f in dataclasses.fields(group)]
    assert len(names) == len(set(names))


def test_defaults_are_the_papers():
    flat = configs.make().flat()
    paper = {
        "batch_size": 128, "hidden_dim": 1024, "discount": 0.99, "critic_lr": 1e-3, "critic_beta1": 0.9,
        "critic_tau": 0.01, "critic_target_update_freq": 2, "actor_lr": 1e-3, "actor_beta1": 0.9,
        "actor_update_freq": 2, "log_std_min": -10, "log_std_max": 2, "encoder_lr": 1e-3, "decoder_lr": 1e-3,
        "encoder_tau": 0.05, "decoder_update_freq": 1, "latent_penalty": 1e-6, "decoder_weight_decay": 1e-7,
        "init_temperature": 0.1, "alpha_lr": 1e-4, "alpha_beta1": 0.5, "feature_dim": 50, "num_layers": 4,
        "num_filters": 32, "frame_stack": 3, "image_size": 84, "seed_steps": 1000, "initial_updates": 1000,
        "num_eval_episodes": 10,
    }  # fmt: skip
    assert {name: flat[name] for name in paper} == paper


@pytest.mark.parametrize(
    ("domain", "task", "repeat"),
    [("cartpole", "swingup", 8), ("reacher", "easy", 4), ("cheetah", "run", 4), ("ball_in_cup", "catch", 4),
     ("finger", "spin", 2), ("walker", "walk", 2), ("humanoid", "walk", 2)],
)  # fmt: skip
def test_action_repeat_follows_the_task_and_can_be_overridden(domain, task, repeat):
    assert configs.make(domain=domain, task=task).task.action_repeat == repeat
    assert configs.make(domain=domain, task=task, action_repeat=5).task.action_repeat == 5


def test_quadruped_is_seen_by_the_camera_that_follows_it():
    assert configs.make(domain="quadruped", task="walk").task.camera_id == 2
    assert configs.make(domain="walker", task="walk").task.camera_id == 0


def test_state_implies_its_preset_which_can_be_overridden():
    config = configs.make(obs="state", hidden_dim=64)
    assert config.autoencoder.decoder == "none"
    assert config.variant == "sac-state"
    assert (config.agent.hidden_dim, config.replay.batch_size, config.task.action_repeat) == (64, 256, 1)
    assert (config.agent.critic_lr, config.agent.critic_tau, config.agent.actor_update_freq) == (3e-4, 0.005, 1)


@pytest.mark.parametrize(
    ("settings", "variant", "keeps_state"),
    [
        ({}, "sac-rae", False),
        ({"decoder": "vae", "agent": "dqn"}, "dqn-vae", False),
        ({"decoder": "none"}, "sac-none", False),
        ({"decoder": "state"}, "sac-state_decoder", True),
        ({"obs": "state"}, "sac-state", False),
    ],
)
def test_runs_that_see_or_decode_something_else_have_another_name(settings, variant, keeps_state):
    config = configs.make(**settings)
    assert (config.variant, config.work_dir) == (variant, Path("runs/cheetah_run", variant, "1"))
    assert config.keeps_state == keeps_state


@pytest.mark.parametrize("settings", [{"decoder": "rae"}, {"num_layers": 4}, {"feature_dim": 7}, {"image_size": 64}])
def test_pixel_settings_are_refused_with_state(settings):
    with pytest.raises(UserError, match="obs is state"):
        configs.make(obs="state", **settings)
    configs.make(obs="state", decoder="none")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("num_layers", 3, "one of 2, 4, 6"),
        ("image_size", 47, "from 48 to 128"),
        ("image_size", 129, "from 48 to 128"),
        ("batch_size", 0, "at least 1"),
        ("num_train_steps", -5, "at least 1"),
        ("replay_capacity", 0, "at least 1"),
        ("seed_steps", -1, "0 or more"),
        ("camera_id", -2, "-1 (the free camera)"),
        ("discount", 1.01, "from 0 to 1"),
        ("discount", float("nan"), "from 0 to 1"),
        ("critic_lr", 0.0, "above 0"),
        ("std", "square", "one of rescaled, softplus, clamped"),
        ("obs", "sound", "one of pixels, state"),
        ("target_bits", 9, "from 1 to 8"),
        ("log_std_min", 3.0, "below log_std_max"),
        ("updates_per_step", 0.0, "above 0"),
        ("update_every", 0, "at least 1"),
        ("learning_starts", -1, "0 or more"),
        ("init_temperature", 0.0, "above 0 if learn_temperature is on"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_value_and_bounds(name, value, allowed):
    with pytest.raises(UserError) as error:
        configs.make(**{name: value})
    text = str(error.value)
    assert text.startswith(f"{name} is {value}")
    assert allowed in text
    assert "--" + name.replace("_", "-") in text


def test_an_unknown_setting_names_the_closest():
    with pytest.raises(UserError, match="no setting 'batchsize'; did you mean batch_size"):
        configs.make(batchsize=4)


def test_every_numeric_setting_has_a_bound():
    numeric = {name: one for name, one in configs.every_setting().items() if {int, float} & {*one.kinds}}
    checked_otherwise = {"log_std_min", "log_std_max", "camera_id", "sparse_reward"}
    assert {name for name, one in numeric.items() if not one.bounds} == checked_otherwise


@pytest.mark.parametrize("agent", HEADS)
def test_the_settings_of_a_head_have_its_name_and_need_no_pytorch_and_their_defaults_are_allowed(agent):
    for seen in ("pixels", "state"):
        assert configs.make(agent=agent, obs=seen).agent.agent == agent


@pytest.mark.parametrize(
    ("settings", "refused", "near"),
    [
        ({"agent": "dqn", "actor_lr": 1.0}, "actor_lr is 1.0, but agent dqn does not have this", "similar: critic_lr"),
        ({"agent": "td3", "epsilon": 0.5}, "epsilon is 0.5, but agent td3 does not have this setting; leave", "dqn"),
        ({"agent": "sac", "dueling": True}, "dueling is on, but agent sac does not have this", "choose --agent dqn"),
        ({"agent": "sac_v", "alpha_lr": 1.0}, "alpha_lr is 1.0, but agent sac_v does not have this", "actor_lr"),
        ({"agent": "sac_v", "causal_entropy": "signed"}, "but agent sac_v does not have this", "choose --agent sac"),
        ({"exploration_steps": 9}, "exploration_steps is 9, but agent sac does not have", "--exploration-steps"),
    ],
)
def test_a_setting_of_another_head_is_unknown(settings, refused, near):
    with pytest.raises(UserError, match=refused) as error:
        configs.make(**settings)
    assert near in str(error.value)


def test_a_file_of_an_older_version_may_hold_settings_of_other_heads_and_no_unknown_ones():
    old = configs.to_yaml(configs.make(agent="dqn"))
    assert "actor_lr" not in old["agent"]
    old["agent"] |= {"actor_lr": 1e-3, "exploration_noise": 0.1}
    old["autoencoder"]["vae_beta"] = 1e-7
    new = configs.make(agent="dqn")
    assert configs.from_yaml(old, configs.Config()).applying() == new.replace(work_dir=new.work_dir).applying()
    old["agent"]["actor_learning_rate"] = 1e-3
    with pytest.raises(UserError, match="no setting 'actor_learning_rate'"):
        configs.from_yaml(old, configs.Config())


def test_offered_settings_are_taken_if_they_apply():
    offered = {"exploration_noise": 0.2, "feature_dim": 8, "batch_size": 4, "latent_penalty": 0.0}
    fits = configs.with_what_fits
    assert fits({"agent": "td3"}, offered) == {"agent": "td3", **offered}
    assert fits({"decoder": "none"}, offered) == {"decoder": "none", "feature_dim": 8, "batch_size": 4}
    assert fits({"obs": "state"}, offered) == {"obs": "state", "batch_size": 4}
    assert fits({"obs": "state"}, {"precision": "bf16", "seed": 2}) == {"obs": "state", "seed": 2}
    assert fits({"obs": "pixels"}, {"precision": "bf16"}) == {"obs": "pixels", "precision": "bf16"}


def test_an_offered_preset_for_pixels_gives_a_run_from_state_what_applies_to_it():
    fits = configs.with_what_fits
    of_laptop = {"hidden_dim": 256, "batch_size": 64, "render_quality": "fast", "precision": "fp32"}
    for state in ({"obs": "state"}, {"env": "Pendulum-v1"}):
        rendered = {"render_quality": "fast"} if "obs" in state else {}
        expected = of_laptop | {"num_train_steps": 100_000} | state
        expected = {name: value for name, value in expected.items() if name != "render_quality"} | rendered
        assert fits(state, {"preset": "laptop"}) == expected
        assert fits(state, {"preset": "laptop", "batch_size": 8}) == expected | {"batch_size": 8}
        configs.make(**expected)
    for preset in ("drq", "drqv2", "rad", "curl"):
        assert configs.make(**fits({"obs": "state"}, {"preset": preset})).train.preset == "sac_ae"
    short, long = ({"obs": "state", "num_train_steps": steps} for steps in (1000, 1_000_000))
    assert configs.make(**fits(short, {"preset": "drq"})).replay.replay_capacity is None, "no more than the run fills"
    assert configs.make(**fits(long, {"preset": "drq"})).replay.replay_capacity == 100_000
    assert fits({"obs": "pixels"}, {"preset": "laptop"}) == {"obs": "pixels", "preset": "laptop"}
    of_arm = {"obs": "state", "preset": "laptop"}
    assert fits(of_arm, {}) == of_arm  # which `make` refuses


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**31),
            "batch_size": st.integers(1, 4096),
            "discount": st.floats(0, 1),
            "num_layers": st.sampled_from([2, 4, 6]),
            "decoder": st.sampled_from(["rae", "none"]),
            "replay_capacity": st.none() | st.integers(10**5, 10**7),
            "save_video": st.booleans(),
            "work_dir": st.just(Path("somewhere/else")),
        },
    )
)
def test_settings_survive_yaml(settings):
    config = configs.make(**settings)
    text = yaml.safe_dump(configs.to_yaml(config))
    assert configs.from_yaml(yaml.safe_load(text), configs.Config()) == config.replace(work_dir=config.work_dir)


def test_a_folder_without_settings_is_not_a_run(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        configs.load(tmp_path / "config.yaml", configs.Config())
    (tmp_path / "config.yaml").write_text("settings: [1, 2")
    with pytest.raises(UserError, match="cannot be read"):
        configs.load(tmp_path / "config.yaml", configs.Config())


def test_agent_steps_cover_the_environment_steps():
    assert configs.make(num_train_steps=1001, action_repeat=4).num_agent_steps == 251


def test_a_gymnasium_environment_is_observed_from_state_and_an_atari_game_from_pixels():
    pendulum, pong = configs.make(env="Pendulum-v1"), configs.make(env="ALE/Pong-v5")
    assert (pendulum.task.obs, pendulum.task.action_repeat, pendulum.agent.hidden_dim) == ("state", 1, 256)
    assert (pong.task.obs, pong.task.action_repeat, pong.task.frame_stack) == ("pixels", 4, 4)
    assert pong.task_name == "ALE_Pong-v5"


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"env": "Pendulum-v1", "domain": "cheetah"}, "domain is cheetah, but env is Pendulum-v1"),
        ({"env": "Pendulum-v1", "decoder": "rae"}, "decoder is rae, but it must be none if obs is state"),
        ({"obs": "state", "decoder": "state"}, "decoder is state, but it must be none if obs is state: there is"),
        ({"env": "Pendulum-v1", "decoder": "state"}, "decoder is state, but it must be none if obs is state"),
        ({"env": "ALE/Pong-v5", "decoder": "state"}, "decoder is state, but .* if env is ALE/Pong-v5: only Deep"),
        ({"decoder": "none", "dynamics": True}, "dynamics is on, but decoder is none: this setting applies only if"),
        ({"obs": "state", "dynamics": True}, "dynamics is on, but decoder is none"),
        ({"dynamics": True, "dynamics_weight": -1.0}, "dynamics_weight is -1.0, but it must be 0 or more"),
        ({"encoder": "nature", "num_layers": 4}, "num_layers is 4, but encoder is nature"),
        ({"std": "softplus", "log_std_min": -5.0}, "log_std_min is -5.0, but std is softplus: .* has no bounds"),
        ({"decoder": "none", "target_bits": 3}, "target_bits is 3, but decoder is none"),
        ({"decoder": "state", "target_dither": False}, "target_dither is off, but decoder is state"),
        ({"vae_beta": 3.0}, "vae_beta is 3.0, but decoder is rae: this setting applies only if decoder is vae"),
        ({"decoder": "vae", "penalise_before_tanh": True}, "penalise_before_tanh is on, but decoder is vae"),
        ({"dynamics_weight": 2.0}, "dynamics_weight is 2.0, but dynamics is off: .*; leave --dynamics-weight out"),
        ({"dynamics_contrastive": 0.1}, "dynamics_contrastive is 0.1, but dynamics is off: .*; leave --dynamics-contr"),
        ({"dynamics": True, "dynamics_contrastive": -0.1}, "dynamics_contrastive is -0.1, but it must be 0 or more"),
        ({"dynamics": True, "dynamics_temperature": 1.0}, "but dynamics_contrastive is 0.0: .* only if dynamics_contr"),
        ({"dynamics_temperature": 1.0}, "dynamics_temperature is 1.0, but dynamics is off"),
        ({"causal_every": 5}, "causal_every is 5, but causal_entropy is off and soft_reset is off"),
        ({"reset_every": 5}, "reset_every is 5, but soft_reset is off"),
        ({"agent": "dqn", "soft_reset": "reset"}, "soft_reset is reset, but agent is dqn"),
        ({"agent": "dqn", "target_network": False, "critic_tau": 0.5}, "critic_tau is 0.5, but target_network is off"),
        ({"learn_temperature": False, "alpha_lr": 1.0}, "alpha_lr is 1.0, but learn_temperature is off"),
        ({"bins": 5}, "bins is 5, but agent is sac: this setting applies only if the algorithm chooses among"),
        ({"agent": "sac_v", "reward_scale": -5.0}, "reward_scale is -5.0, but it must be above 0"),
    ],
)
def test_a_given_setting_that_does_not_apply_is_refused(settings, refused):
    with pytest.raises(UserError, match=refused):
        configs.make(**settings)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"batch_size": 9, "replay_capacity": 8}, "replay_capacity is 8, but it must be at least batch_size .9."),
        ({"critic_gradient": False, "decoder": "none"}, "critic_gradient is off, but it must be on if decoder"),
        ({"pretrain_updates": 5, "freeze_encoder": True}, "freeze_encoder is on, but .* off if pretrain_updates is"),
        ({"preset": "curl", "freeze_encoder": True}, "contrastive is on, but .* off if freeze_encoder is on"),
        ({"obs": "state", "decoder": "none", "precision": "bf16"}, "precision is bf16, but .* auto if obs is state"),
        (
            {"causal_entropy": "absolute", "replay_capacity": 5000, "causal_samples": 6000},
            "causal_samples is 6000, but it must be at most replay_capacity",
        ),
        ({"actor_gradient": "after_latent"}, "actor_gradient is after_latent, but .* unless tying is all"),
        ({"actor_gradient": "after_latent", "tying": "none"}, "actor_gradient is after_latent, but .* tying is all"),
    ],
)
def test_a_new_run_is_refused_what_an_old_one_may_have(settings, refused):
    with pytest.raises(UserError, match=refused):
        configs.make(**settings)
    old = configs.Config().replace(**settings)
    assert configs.from_yaml(configs.to_yaml(old), configs.Config()).flat() == old.replace(work_dir=old.work_dir).flat()


def test_without_a_capacity_the_replay_holds_the_run_and_a_batch():
    assert configs.make(num_train_steps=8000, action_repeat=4).planned_capacity == 2000
    assert configs.make(num_train_steps=80, action_repeat=4, batch_size=32).planned_capacity == 32
    assert configs.make(replay_capacity=500).planned_capacity == 500


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({}, "clipped"),
        ({"std": "rescaled", "decoder": "none"}, "clipped"),
        ({"std": "softplus"}, "exact"),
        ({"causal_entropy": "signed"}, "exact"),
        ({"obs": "state"}, "exact"),
        ({"env": "Pendulum-v1"}, "exact"),
        ({"obs": "state", "std": "rescaled"}, "exact"),
        ({"agent": "sac_v"}, "exact"),
        ({"obs": "state", "tanh_correction": "clipped"}, "clipped"),
    ],
)
def test_the_tanh_correction_is_the_authors_in_their_preset_and_exact_elsewhere(settings, form):
    assert configs.make(**settings).agent.tanh_correction == form


def test_a_preset_is_a_named_set_of_settings_that_given_ones_override():
    laptop = configs.make(preset="laptop", batch_size=32)
    assert (laptop.task.image_size, laptop.replay.batch_size, laptop.train.preset) == (48, 32, "laptop")
    assert configs.to_yaml(laptop)["train"]["preset"] == "laptop"
    assert configs.make(preset="laptop", domain="walker", task="walk").task.action_repeat == 2


def test_the_papers_preset_is_the_default_and_changes_nothing():
    assert configs.make(preset="sac_ae") == configs.make() == configs.Config().replace(action_repeat=4)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"preset": "labtop"}, "preset is labtop, but it must be one of sac_ae, laptop"),
        ({"preset": "laptop", "obs": "state"}, "preset is laptop, but it must be sac_ae if obs is state: laptop"),
        ({"preset": "laptop", "env": "Pendulum-v1"}, "preset is laptop, but it must be sac_ae if obs is state"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused(settings, refused):
    with pytest.raises(UserError, match=refused):
        configs.make(**settings)


def test_a_file_of_an_older_version_keeps_what_it_was_made_with():
    old = configs.to_yaml(configs.make(obs="state"))
    del old["agent"]["tanh_correction"], old["train"]["gates"], old["train"]["update_every"]
    old["train"]["updates_per_step"] = 2
    kept = configs.from_yaml(old, configs.Config())
    assert (kept.agent.tanh_correction, kept.train.gates, kept.train.update_every) == ("clipped", "updates", 1)
    assert repr(kept.train.updates_per_step) == "2.0"


def test_an_algorithm_has_a_preset_of_its_own_that_given_settings_override():
    assert configs.make(agent="dqn").agent.critic_tau == 1.0
    assert configs.make(agent="dqn", critic_tau=0.01).agent.critic_tau == 0.01
    assert configs.make(agent="sac_v").agent.std == "clamped"
    assert configs.make(agent="sac_v", std="softplus").agent.std == "softplus"
    assert configs.make(agent="td3", obs="state").agent.actor_update_freq == 2


@pytest.mark.parametrize("agent", ["td3", "ddpg"])
def test_a_deterministic_policy_starts_slowly_from_pixels_alone(agent):
    pixels, state = configs.make(agent=agent), configs.make(agent=agent, obs="state")
    assert (pixels.agent.actor_lr, pixels.train.initial_updates) == (1e-4, 1)
    assert (state.agent.actor_lr, state.train.initial_updates) == (3e-4, 1000)
    assert configs.make(agent=agent, actor_lr=1e-3).agent.actor_lr == 1e-3


def test_a_resumed_run_keeps_what_it_chose_where_the_choice_is_left_to_it_again(tmp_path):
    saved = configs.make(
        precision="fp32", replay_capacity=5_000, capture=False, agent="dqn", discretisation="joint", work_dir=tmp_path
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"settings": configs.to_yaml(saved)}))
    given = {"precision": "auto", "replay_capacity": None, "capture": None, "discretisation": "auto", "seed": 1}
    assert configs.resumed(tmp_path, configs.Config(), given) == saved
    with pytest.raises(UserError, match=r"precision is bf16, but the run in .* has fp32"):
        configs.resumed(tmp_path, configs.Config(), {"precision": "bf16"})


def test_a_resumed_run_stays_where_it_is(tmp_path):
    saved = configs.make(work_dir=tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"settings": configs.to_yaml(saved)}))
    assert configs.resumed(tmp_path, configs.Config(), {"work_dir": tmp_path}) == saved
    with pytest.raises(UserError, match=r"work_dir is .*elsewhere, but the run lies in .*; leave work_dir out"):
        configs.resumed(tmp_path, configs.Config(), {"work_dir": tmp_path / "elsewhere"})


@pytest.mark.parametrize("agent", ["sac", "sac_v"])
def test_a_rescaled_std_has_the_bounds_between_which_it_starts_well(agent):
    settings = configs.make(agent=agent, obs="state", std="rescaled").agent
    assert (settings.log_std_min, settings.log_std_max) == (-10.0, 2.0)
    assert configs.make(agent=agent, obs="state").agent.log_std_min == -20.0


def test_what_only_trains_an_encoder_is_refused_for_a_frozen_one():
    for name, value in {"latent_penalty": 1.0, "critic_gradient": False, "encoder_lr": 0.1}.items():
        with pytest.raises(UserError, match=rf"{name} is .*, but .*freeze_encoder is on"):
            configs.make(freeze_encoder=True, **{name: value})
    configs.make(freeze_encoder=True, preset="curl", augment="none")  # has no contrastive loss then
    configs.make(freeze_encoder=True, decoder="vae", encoder_lr=0.1)  # trains the width of the latent's distribution
    configs.make(freeze_encoder=True, agent="td3", encoder_tau=0.1)  # moves the target actor's projection
    with pytest.raises(UserError, match="discretisation is factored, but agent is sac"):
        configs.make(discretisation="factored")
