"""The settings of a run, put together: presets of task, observation and head, YAML in and out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from sacae import yaml_file
from sacae.errors import UserError, did_you_mean, flag_of
from sacae.groups import (
    OTHER_ACTION_REPEAT,
    AutoencoderConfig,
    CausalConfig,
    EncoderConfig,
    HeadSettings,
    NamedTask,
    ReplayConfig,
    RunConfig,
    TaskConfig,
    TrainConfig,
)
from sacae.heads import HEADS, find_head
from sacae.settings import Condition, Declared, Grouped, S, check, declared, plain

ACTION_REPEAT = {
    "cartpole_swingup": 8,
    "reacher_easy": 4,
    "cheetah_run": 4,
    "ball_in_cup_catch": 4,
    "finger_spin": 2,
    "walker_walk": 2,
}
"""Action repeat of the PlaNet benchmark's six tasks, which every published SAC-AE number uses; other tasks take 2."""

ATARI = "ALE/"
"""How the names of Atari games begin."""

ATARI_PRESET = {"action_repeat": 4, "frame_stack": 4, "clip_reward": True}
"""What an Atari game changes: four grey frames, each the last of four game frames (Mnih et al. 2015)."""

CAMERA = {"quadruped": 2}
"""Camera by domain where it is not 0: quadruped's camera 0 does not follow the body."""

STATE_PRESET = {
    "action_repeat": 1,
    "frame_stack": 1,
    "decoder": "none",
    "num_threads": 1,  # small networks gain nothing from more, and lose much where something else runs
    "overlap": False,  # a step takes less time than a message to another process
    "batch_size": 256,
}
"""What `--obs state` changes beside the settings of the head, which has presets of its own."""

PRESETS: dict[str, dict[str, Any]] = {
    "sac_ae": {},
    "laptop": {
        "image_size": 48,
        "num_filters": 16,
        "hidden_dim": 256,
        "batch_size": 64,
        "render_quality": "fast",
        "precision": "fp32",  # the same arithmetic on every machine
        "num_train_steps": 100_000,
    },
}
"""What `--preset` changes; flags that are given win over it. results/laptop says how laptop's values were chosen."""

# fmt: off
FORMER_AGENT_SETTINGS = frozenset({
    "agent", "hidden_dim", "discount", "critic_lr", "critic_beta1", "critic_gradient", "actor_gradient", "tying",
    "critic_tau", "critic_target_update_freq", "actor_lr", "actor_beta1", "actor_update_freq", "std", "log_std_min",
    "log_std_max", "tanh_correction", "causal_entropy", "reward_scale", "init_temperature", "learn_temperature",
    "alpha_lr", "alpha_beta1", "target_entropy_factor", "exploration_noise", "exploration_noise_start", "epsilon",
    "epsilon_start", "exploration_steps", "target_noise", "target_noise_clip", "target_network", "double_q", "dueling",
    "td_loss", "max_grad_norm",
})
# fmt: on
"""What a config.yaml held of every head while all had one group of settings. Never to be changed."""


@dataclass(frozen=True)
class Settings(Grouped):
    """The settings of a run. Each kind of run adds its own groups to these two."""

    task: NamedTask = field(default_factory=NamedTask)
    train: RunConfig = field(default_factory=RunConfig)

    PLAY_COMMAND: ClassVar[str] = "python eval.py"
    """The command that plays a run folder of these settings back."""

    @property
    def task_name(self) -> str:
        """The task's name in files and tables, such as cheetah_run, Pendulum-v1, ALE_Pong-v5."""
        if self.task.env:
            return self.task.env.replace("/", "_").replace(":", "_")
        return f"{self.task.domain}_{self.task.task}"

    @property
    def variant(self) -> str:
        """The run's name beside other runs of the task, such as sac-rae or sac-state."""
        raise NotImplementedError

    @property
    def keeps_state(self) -> bool:
        """Whether the physical state is kept beside each frame."""
        return False

    def full_run(self) -> Self:
        """The default settings on this task."""
        return type(self)()

    def cheaper_than(self, _full: Self) -> str:
        """What makes an update of a full run slower than one of this run, as the end of a sentence; "" if nothing."""
        return ""

    @property
    def work_dir(self) -> Path:
        """The run folder."""
        return self.train.work_dir or Path("runs", self.task_name, self.variant, str(self.train.seed))

    @property
    def num_agent_steps(self) -> int:
        """Agent steps in the whole run, over all environments."""
        return -(-self.train.num_train_steps // self.task.action_repeat)


@dataclass(frozen=True)
class Config(Settings):
    """All settings of a run of an agent. `make` fills in presets, `replace` changes settings by name."""

    FORMER: ClassVar[frozenset[str]] = FORMER_AGENT_SETTINGS

    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    agent: HeadSettings = field(default_factory=lambda: _of_head(HeadSettings.agent))
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def blank(cls, values: Mapping[str, Any]) -> Self:
        """See Grouped. The head decides which settings there are."""
        return cls(agent=_of_head(values.get("agent", HeadSettings.agent)))

    def unknown(self, name: str, value: Any) -> str:
        """See Grouped. A setting of another head is named as such."""
        others = [head for head, entry in HEADS.items() if name in declared(entry.settings)]
        if not others:
            return super().unknown(name, value)
        near = did_you_mean(name, self.declared()).replace("?", "? ")
        return (
            f"{name} is {value} but agent is {self.agent.agent}, which has no such setting{near or '; '}"
            f"leave {flag_of(name)} out, or use --agent {' or '.join(others)}"
        )

    @property
    def variant(self) -> str:
        """The run's name beside other runs of the task, such as sac-rae or sac-state."""
        agent = self.agent.agent if self.causal_entropy == "off" else "ace"
        if self.task.obs == "state":
            return f"{agent}-state"
        return f"{agent}-{'state_decoder' if self.keeps_state else self.autoencoder.decoder}"

    @property
    def causal_entropy(self) -> str:
        """How the head weighs entropies by causes; off for a head that does not."""
        return getattr(self.agent, "causal_entropy", "off")

    @property
    def keeps_state(self) -> bool:
        """Whether the physical state is kept beside each frame: where the decoder is to say it."""
        return self.autoencoder.decoder == "state"

    def full_run(self) -> "Config":
        """See Settings."""
        task = self.task
        named = {"env": task.env} if task.env else {"domain": task.domain, "task": task.task}
        return make(**named, obs=task.obs, preset=self.train.preset)

    def cheaper_than(self, full: Self) -> str:
        """See Settings."""
        batch_size, usual = self.replay.batch_size, full.replay.batch_size
        return f", longer with the default batch size of {usual} (here {batch_size})" if batch_size < usual else ""

    def conditions(self) -> Sequence[Condition]:
        """See Grouped."""
        task, decoder, from_state = self.task, self.autoencoder.decoder, self.task.obs == "state"
        samples, capacity = self.causal.causal_samples, self.replay.replay_capacity
        remembered = capacity if capacity and capacity < self.num_agent_steps else math.inf
        causal, reset = self.causal_entropy != "off", self.causal.soft_reset
        not_none = "none where obs is state: there is no image to encode"
        of_env = f"rae, vae or none where env is {task.env}: only tasks of DeepMind Control tell their state"
        of_preset = "sac_ae where obs is state: that preset is for pixels"
        return (
            ("decoder", decoder == "none" or not from_state, not_none),
            ("decoder", decoder != "state" or not task.env, of_env),
            ("preset", self.train.preset == "sac_ae" or not from_state, of_preset),
            ("camera_id", task.camera_id >= -1, "-1 (the free camera) or the number of a camera"),
            ("soft_reset", causal or "causal" not in reset, "off, reset or dormant_reset where causal_entropy is off"),
            ("soft_reset", not self.train.capture or reset == "off", "off where updates are captured"),
            ("causal_samples", not causal or samples <= remembered, "at most replay_capacity"),
            ("clip_reward", not task.clip_reward or task.sparse_reward is None, "off where sparse_reward is given"),
        )

    def conditions_of_new_runs(self) -> Sequence[Condition]:
        """See Grouped."""
        decoder, capacity = self.autoencoder.decoder, self.replay.replay_capacity
        trains_encoder = self.agent.critic_gradient or decoder != "none" or self.encoder.freeze_encoder
        return (
            ("critic_gradient", trains_encoder, "on where decoder is none: nothing else trains the critic's encoder"),
            ("batch_size", capacity is None or self.replay.batch_size <= capacity, "at most replay_capacity"),
        )

    @property
    def planned_capacity(self) -> int:
        """Transitions the replay holds: replay_capacity, or else every one of the run, and at least a batch."""
        return self.replay.replay_capacity or max(self.num_agent_steps, self.replay.batch_size)


def _of_head(name: str) -> HeadSettings:
    """The defaults of a head's settings. Raises UserError for an unknown name."""
    return find_head(name).settings(agent=name)


def every_setting() -> dict[str, Declared]:
    """What is declared of every setting that an agent's run may have, whatever its head."""
    of_heads = {name: one for entry in HEADS.values() for name, one in declared(entry.settings).items()}
    return of_heads | Config().declared()


def make(**settings: Any) -> Config:
    """The configuration of a run: defaults, then the presets of observation, task and head, then the given settings.

    Raises UserError where a setting is unknown or another head's, has no meaning beside another, is out of range, or
    at odds with another.
    """
    config = Config.blank(settings).replace(**_preset(settings)).replace(**settings)
    check(config, given=settings)
    return config


def with_given(defaults: S, /, **settings: Any) -> S:
    """The settings of a new run of any kind, defaults but for those that a user gave. Raises UserError as `make`."""
    made = defaults.replace(**settings)
    check(made, given=settings)
    return made


def _preset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that depend on other settings: those of the task, the observation and the algorithm."""
    env = settings.get("env")
    if env:
        atari = env.startswith(ATARI)
        preset: dict[str, Any] = {"obs": "pixels" if atari else "state", "action_repeat": 1} | (
            ATARI_PRESET if atari else {}
        )
    else:
        defaults = TaskConfig()
        domain, task = settings.get("domain", defaults.domain), settings.get("task", defaults.task)
        action_repeat = ACTION_REPEAT.get(f"{domain}_{task}", OTHER_ACTION_REPEAT)
        preset = {"action_repeat": action_repeat, "camera_id": CAMERA.get(domain, 0)}
    preset |= PRESETS.get(settings.get("preset", "sac_ae"), {})
    from_state = settings.get("obs", preset.get("obs")) == "state"
    if from_state:
        preset |= STATE_PRESET
    head = find_head(settings.get("agent", HeadSettings.agent))
    return preset | head.settings.preset(from_state, preset | dict(settings))


def with_what_fits(settings: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and of those that are offered the ones that their run has and in which they have a meaning."""
    while True:
        together = dict(offered) | dict(settings)
        blank = Config.blank(together)
        known = {name: value for name, value in together.items() if name in blank.declared()}
        idle = blank.replace(**_preset(known)).replace(**known).idle()
        fitting = {n: v for n, v in offered.items() if n in known and n not in idle}
        if len(fitting) == len(offered):
            return together
        offered = fitting


def to_yaml(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings that have a meaning as plain mappings of group and name, ready for YAML."""
    return plain(settings.replace(work_dir=settings.work_dir))


def from_yaml(groups: Mapping[str, Mapping[str, Any]], kind: type[S]) -> S:
    """The settings that `to_yaml` wrote, or an older version; what is lacking takes its default.

    Raises UserError for an unknown name, and as `check` does. Names that an older version wrote of other heads are left
    out.
    """
    values = {str(name): value for group in groups.values() for name, value in group.items()}
    blank = kind.blank(values)
    known = blank.declared()
    kept = {n: v for n, v in values.items() if n in known or n not in kind.FORMER}
    settings = blank.replace(**{n: yaml_file.typed(known[n], v) if n in known else v for n, v in kept.items()})
    check(settings, new_run=False)
    return settings


def load(path: Path, kind: type[S]) -> S:
    """The settings of a run folder's config.yaml. Raises UserError where there is none or it cannot be read."""
    try:
        return from_yaml(read(path)["settings"], kind)
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


NEEDED_GROUPS = ("task", "train")
"""Groups of settings that every run's config.yaml holds, of whatever version."""


def read(path: Path) -> dict[str, Any]:
    """What a run folder's config.yaml holds, "settings" as `to_yaml` made them among it.

    Raises UserError where there is none or it cannot be read.
    """
    try:
        content = yaml_file.read(path, "a run's settings")
    except FileNotFoundError:
        raise UserError(f"{path.parent} is not a run folder: it has no {path.name}") from None
    groups = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(groups, dict) or not all(isinstance(values, dict) for values in groups.values()):
        raise UserError(
            f"{path} cannot be read as a run's settings: it must hold settings in groups, as a run writes them; "
            "restore it"
        )
    for group in NEEDED_GROUPS:
        if group not in groups:
            raise UserError(f"{path} has no settings of {group}: a part of it is missing; restore it")
    return dict(content)
