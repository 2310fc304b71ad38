"""The presets of algorithms against their authors' defaults, one by one, each with the line that says it.

Lines are of the commits named here. Where paper and repository differ, the preset has the paper's value; the page of
the preset in docs/ names the other.
"""

import pytest

from sacae import config as configs
from sacae.agents.augmentation import PAD, SHARES
from sacae.errors import UserError
from sacae.groups import TrainConfig
from sacae.presets import PRESETS

DRQ = "denisyarats/drq dd040f1"
DRQV2 = "facebookresearch/drqv2 c0c650b"
RAD = "MishaLaskin/rad 18d079e"
CURL = "MishaLaskin/curl 8416d6e"

# A row: the setting, its value here, and the file and line of the authors' code.
OF_DRQ = [
    ("image_size", 84, "config.yaml:24"),
    ("frame_stack", 3, "config.yaml:26"),
    ("replay_capacity", 100_000, "config.yaml:13"),
    ("seed_steps", 1000, "config.yaml:12"),
    ("updates_per_step", 1.0, "config.yaml:11"),
    ("initial_updates", 0, "train.py:150-152"),
    ("num_eval_episodes", 10, "config.yaml:17"),
    ("batch_size", 512, "config.yaml:29, the paper's; :30 has 128"),
    ("critic_lr", 1e-3, "config.yaml:28, drq.py:195"),
    ("actor_lr", 1e-3, "config.yaml:28, drq.py:194"),
    ("alpha_lr", 1e-3, "config.yaml:28, drq.py:197"),
    ("critic_beta1", 0.9, "drq.py:195, Adam's default"),
    ("actor_beta1", 0.9, "drq.py:194, Adam's default"),
    ("alpha_beta1", 0.9, "drq.py:197, Adam's default"),
    ("discount", 0.99, "config.yaml:44"),
    ("n_step", 1, "drq.py:229"),
    ("init_temperature", 0.1, "config.yaml:45"),
    ("actor_update_freq", 2, "config.yaml:47"),
    ("critic_tau", 0.01, "config.yaml:48"),
    ("encoder_tau", 0.01, "drq.py:306, the whole critic"),
    ("critic_target_update_freq", 2, "config.yaml:49"),
    ("hidden_dim", 1024, "config.yaml:57"),
    ("std", "rescaled", "drq.py:101-104"),
    ("log_std_min", -10.0, "config.yaml:67"),
    ("log_std_max", 2.0, "config.yaml:67"),
    ("tanh_correction", "exact", "utils.py:154"),
    ("feature_dim", 50, "config.yaml:73"),
    ("num_layers", 4, "drq.py:18"),
    ("num_filters", 32, "drq.py:19"),
    ("latent_norm", True, "drq.py:33"),
    ("latent_tanh", True, "drq.py:58-59"),
    ("conv_init", "orthogonal", "utils.py:70"),
    ("tying", "convs", "drq.py:186"),
    ("actor_gradient", "after_convs", "drq.py:264"),
    ("decoder", "none", "drq.py has none"),
    ("augment", "shift", "replay_buffer.py:16-18"),
    ("critic_views", 2, "drq.py:244-251"),
    ("target_views", 2, "drq.py:223-241"),
]

OF_DRQV2 = [
    ("frame_stack", 3, "cfgs/config.yaml:7"),
    ("action_repeat", 2, "cfgs/config.yaml:8"),
    ("discount", 0.99, "cfgs/config.yaml:9"),
    ("seed_steps", 2000, "cfgs/config.yaml:43; the 4000 seed frames of :11 are 2000 agent steps"),
    ("initial_updates", 0, "train.py:180"),
    ("num_eval_episodes", 10, "cfgs/config.yaml:14"),
    ("replay_capacity", 1_000_000, "cfgs/config.yaml:18"),
    ("n_step", 3, "cfgs/config.yaml:20"),
    ("batch_size", 256, "cfgs/config.yaml:21"),
    ("critic_lr", 1e-4, "cfgs/config.yaml:31"),
    ("actor_lr", 1e-4, "cfgs/config.yaml:31"),
    ("feature_dim", 50, "cfgs/config.yaml:32"),
    ("critic_tau", 0.01, "cfgs/config.yaml:40"),
    ("encoder_tau", 0.01, "drqv2.py:259, the critic with its trunk"),
    ("updates_per_step", 0.5, "cfgs/config.yaml:41"),
    ("actor_update_freq", 1, "drqv2.py:256"),
    ("critic_target_update_freq", 1, "drqv2.py:259"),
    ("hidden_dim", 1024, "cfgs/config.yaml:44"),
    ("exploration_noise_start", 1.0, "cfgs/task/medium.yaml:2"),
    ("exploration_noise", 0.1, "cfgs/task/medium.yaml:2"),
    ("exploration_steps", 1_000_000, "cfgs/task/medium.yaml:2, 500,000 agent steps"),
    ("noise_clip", 0.3, "cfgs/config.yaml:47"),
    ("num_layers", 4, "drqv2.py:55-59"),
    ("num_filters", 32, "drqv2.py:55-59"),
    ("centre_pixels", True, "drqv2.py:64"),
    ("latent_norm", True, "drqv2.py:100-101"),
    ("latent_tanh", True, "drqv2.py:101"),
    ("conv_init", "orthogonal", "utils.py:59"),
    ("decoder", "none", "drqv2.py has none"),
    ("augment", "shift", "drqv2.py:153"),
    ("critic_views", 1, "drqv2.py:241"),
    ("target_views", 1, "drqv2.py:242"),
    ("critic_beta1", 0.9, "drqv2.py:150, Adam's default"),
    ("actor_beta1", 0.9, "drqv2.py:149, Adam's default"),
]

OF_RAD = [
    ("image_size", 100, "train.py:27"),
    ("frame_stack", 3, "train.py:31"),
    ("replay_capacity", 100_000, "train.py:33"),
    ("seed_steps", 1000, "train.py:36"),
    ("initial_updates", 0, "train.py:298"),
    ("updates_per_step", 1.0, "train.py:298"),
    ("batch_size", 128, "scripts/run.sh:8; train.py:38 has 32"),
    ("hidden_dim", 1024, "train.py:39"),
    ("num_eval_episodes", 10, "train.py:42"),
    ("critic_lr", 1e-3, "train.py:44"),
    ("critic_beta1", 0.9, "train.py:45"),
    ("critic_tau", 0.01, "train.py:46"),
    ("critic_target_update_freq", 2, "train.py:47"),
    ("actor_lr", 1e-3, "train.py:49"),
    ("actor_beta1", 0.9, "train.py:50"),
    ("log_std_min", -10.0, "train.py:51"),
    ("log_std_max", 2.0, "train.py:52"),
    ("actor_update_freq", 2, "train.py:53"),
    ("feature_dim", 50, "train.py:56"),
    ("encoder_tau", 0.05, "train.py:58"),
    ("num_layers", 4, "train.py:59"),
    ("num_filters", 32, "train.py:60"),
    ("discount", 0.99, "train.py:63"),
    ("init_temperature", 0.1, "train.py:64"),
    ("alpha_lr", 1e-4, "train.py:65"),
    ("alpha_beta1", 0.5, "train.py:66"),
    ("augment", "window", "train.py:76"),
    ("std", "rescaled", "curl_sac.py:81-82"),
    ("tanh_correction", "clipped", "curl_sac.py:29"),
    ("conv_init", "delta_orthogonal", "curl_sac.py:45"),
    ("latent_norm", True, "encoder.py:41"),
    ("latent_tanh", False, "curl_sac.py:58"),
    ("decoder", "none", "curl_sac.py has none"),
    ("contrastive", False, "curl_sac.py calls none"),
]

OF_CURL = [
    *((setting, value, line) for setting, value, line in OF_RAD if line.startswith("train.py:") and value != "window"),
    ("batch_size", 128, "scripts/run.sh:9; train.py:38 has 32"),
    ("augment", "window", "utils.py:136-138"),
    ("initial_updates", 0, "train.py:262"),
    ("updates_per_step", 1.0, "train.py:262"),
    ("std", "rescaled", "curl_sac.py:80"),
    ("tanh_correction", "clipped", "curl_sac.py:28"),
    ("conv_init", "delta_orthogonal", "curl_sac.py:44"),
    ("latent_norm", True, "encoder.py:35"),
    ("latent_tanh", False, "curl_sac.py:57"),
    ("decoder", "none", "curl_sac.py has none"),
    ("contrastive", True, "curl_sac.py:463-465"),
    ("contrastive_lr", 1e-3, "train.py:57, curl_sac.py:320-325"),
]

AUTHORS = {"drq": OF_DRQ, "drqv2": OF_DRQV2, "rad": OF_RAD, "curl": OF_CURL}
LONG = 100 * TrainConfig.num_train_steps
"""Environment steps of a run that fills every replay."""

ROWS = [(preset, *row) for preset, rows in AUTHORS.items() for row in rows]


@pytest.mark.parametrize(("preset", "setting", "value", "line"), ROWS, ids=lambda cell: str(cell))
def test_a_default_of_a_preset_is_its_authors(preset, setting, value, line):
    assert configs.make(preset=preset, num_train_steps=LONG).flat()[setting] == value, line


@pytest.mark.parametrize("preset", AUTHORS)
def test_everything_that_a_preset_sets_is_compared_with_its_authors(preset):
    assert {*PRESETS[preset]} - {"agent"} <= {setting for setting, _, _ in AUTHORS[preset]}


def test_every_preset_that_is_an_algorithm_is_compared():
    assert {name for name, values in PRESETS.items() if "agent" in values} == {*AUTHORS}


def test_sizes_that_are_no_settings_are_the_authors():
    assert PAD == 4  # denisyarats/drq config.yaml:25, facebookresearch/drqv2 drqv2.py:153
    assert SHARES["window"] * 100 == 84  # MishaLaskin/rad train.py:29
    assert SHARES["translate"] * 108 == 100  # the RAD paper's appendix


# What a preset says to other flags.


@pytest.mark.parametrize("preset", AUTHORS)
def test_runs_of_an_algorithm_have_its_name(preset):
    assert configs.make(preset=preset).variant == f"{preset}-none"
    assert configs.make(preset=preset, decoder="rae").variant == f"{preset}-rae"
    if configs.make(preset=preset).agent.agent == "sac":
        assert configs.make(preset=preset, causal_entropy="signed").variant == f"{preset}-ace-none"


def test_flags_override_a_preset_and_it_is_known_which():
    config = configs.make(preset="drq", decoder="rae", critic_views=3)
    assert config.replay.critic_views == 3
    assert configs.overridden(config) == {"decoder": ("rae", "none"), "critic_views": (3, 2)}
    assert configs.overridden(configs.make(preset="drqv2", action_repeat=4)) == {"action_repeat": (4, 2)}
    assert configs.overridden(configs.make(preset="curl", image_size=84)) == {"image_size": (84, 100)}
    assert configs.overridden(configs.make(preset="rad", augment="translate")) == {"augment": ("translate", "window")}
    assert configs.overridden(configs.make(batch_size=3)) == {}
    assert configs.overridden(configs.make(augment="window", image_size=84)) == {}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"preset": "curl", "augment": "none"}, ["contrastive"]),
        ({"preset": "drq", "augment": "none"}, ["critic_views", "target_views"]),
        ({"preset": "curl", "augment": "shift"}, []),
        *(({"preset": preset, "decoder": decoder}, []) for preset in AUTHORS for decoder in ("none", "rae")),
    ],
)
def test_it_is_known_what_of_a_preset_a_flag_puts_out_of_use(settings, names):
    config = configs.make(**settings)
    assert configs.put_out_of_use(config) == dict.fromkeys(names, f"augment is {config.replay.augment}")


@pytest.mark.parametrize(("preset", "agent"), [("drq", "td3"), ("drqv2", "sac"), ("curl", "dqn")])
def test_a_preset_of_another_agent_is_refused(preset, agent):
    with pytest.raises(UserError, match=f"preset is {preset}, but agent is {agent}: this preset is of --agent"):
        configs.make(preset=preset, agent=agent)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match=r"preset is drq2, but it must be one of .*; did you mean drqv2, drq\?$"):
        configs.make(preset="drq2")


@pytest.mark.parametrize("preset", AUTHORS)
def test_an_algorithm_from_pixels_is_refused_from_state(preset):
    with pytest.raises(UserError, match=f"preset is {preset}, but it must be sac_ae if obs is state"):
        configs.make(preset=preset, obs="state")


@pytest.mark.parametrize("preset", AUTHORS)
def test_a_preset_survives_its_yaml(preset):
    config = configs.make(preset=preset)
    assert configs.from_yaml(configs.to_yaml(config), configs.Config()) == config.replace(work_dir=config.work_dir)
