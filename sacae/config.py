"""All settings of an agent's run: presets of task, observation and head; reading and writing YAML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from sacae import invocation, yaml_file
from sacae.declaration import CHANGEABLE_ON_RESUME, Declared, declared, in_words
from sacae.errors import UserError, flag_of
from sacae.groups import (
    OTHER_ACTION_REPEAT,
    AutoencoderConfig,
    CausalConfig,
    EncoderConfig,
    HeadSettings,
    ReplayConfig,
    TaskConfig,
    TrainConfig,
)
from sacae.heads import HEADS, find_head
from sacae.presets import PRESETS, named
from sacae.settings import Condition, S, Settings, check, plain, refuse_idle

ACTION_REPEAT = {
    "cartpole_swingup": 8,
    "reacher_easy": 4,
    "cheetah_run": 4,
    "ball_in_cup_catch": 4,
    "finger_spin": 2,
    "walker_walk": 2,
}
"""Action repeat of the PlaNet benchmark's six tasks, used by all published SAC-AE results; other tasks use 2."""

ATARI = "ALE/"
"""The prefix of the ids of Atari games."""

ATARI_PRESET = {"action_repeat": 4, "frame_stack": 4, "clip_reward": True}
"""Settings of Atari games: four grey frames, each the last of four game frames (Mnih et al. 2015)."""

CAMERA = {"quadruped": 2}
"""Camera by domain, if it is not 0: quadruped's camera 0 does not follow the body."""

AUGMENTED_PRESET = {"window": {"image_size": 100}, "translate": {"image_size": 108}}
"""Settings that `--augment` changes: frames have room for the window (Laskin et al. 2020)."""

STATE_PRESET = {
    "action_repeat": 1,
    "frame_stack": 1,
    "decoder": "none",
    "num_threads": 1,  # more threads do not speed up small networks and slow them down on a busy machine
    "overlap": False,  # a step takes less time than a message to another process
    "batch_size": 256,
}
"""Settings that `--obs state` changes, in addition to the preset of the head."""

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
"""Settings that every config.yaml contained while all heads shared one group of settings. Never change this list."""


@dataclass(frozen=True)
class Config(Settings):
    """All settings of an agent's run. `make` applies presets, `replace` changes settings by name."""

    FORMER: ClassVar[frozenset[str]] = FORMER_AGENT_SETTINGS

    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    agent: HeadSettings = field(default_factory=lambda: _of_head(HeadSettings.agent))
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def defaults_for(self, values: Mapping[str, Any]) -> Self:
        """See Settings. The head determines which settings there are."""
        return type(self)(agent=_of_head(_agent_of(values)))

    def unknown(self, name: str, value: Any) -> str:
        """See Settings. For a setting of other heads, the message names these heads."""
        others = [head for head, entry in HEADS.items() if name in declared(entry.settings)]
        if not others:
            return super().unknown(name, value)
        _, underscore, last_word = name.rpartition("_")
        similar = [n for n in declared(type(self.agent)) if underscore and n.endswith(underscore + last_word)]
        hint = f" (similar: {', '.join(similar)})" if similar else ""
        return (
            f"{name} is {in_words(value)}, but agent {self.agent.agent} does not have this setting{hint}; "
            f"leave {flag_of(name)} out, or choose --agent {' or '.join(others)}"
        )

    @property
    def variant(self) -> str:
        """See Settings."""
        causal = self.causal_entropy != "off"
        agent = "ace" if causal else self.agent.agent
        if "agent" in PRESETS.get(self.train.preset, {}):
            agent = f"{self.train.preset}-ace" if causal else self.train.preset
        if self.task.obs == "state":
            return f"{agent}-state"
        decoder = "state_decoder" if self.autoencoder.decoder == "state" else self.autoencoder.decoder
        return f"{agent}-{decoder}{'+state' if self.task.sees_state else ''}"

    def how_to_play(self, folder: Path) -> str:
        """See Settings. Only the script that registers a head of one's own knows it."""
        if find_head(self.agent.agent).settings.__module__.startswith("sacae."):
            return super().how_to_play(folder)
        command = invocation.command_of_script("eval")
        return f"{command} {folder}" if command else f'sacae.load_agent("{folder}")'

    @property
    def causal_entropy(self) -> str:
        """How the head weights entropies by causal effects; off for heads without this setting."""
        return getattr(self.agent, "causal_entropy", "off")

    @property
    def views(self) -> tuple[int, int, int]:
        """How many augmentations of each obs and next_obs the critic's loss sees, and a contrastive loss of obs."""
        replay = self.replay
        if replay.augment == "none":
            return 1, 1, 0
        return replay.critic_views, replay.target_views, int(self.autoencoder.contrastive)

    @property
    def keeps_state(self) -> bool:
        """See Settings. The decoder `state` predicts it; the agent may see it beside the images."""
        return self.autoencoder.decoder == "state" or self.task.sees_state

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
        """See Settings."""
        task, decoder, from_state = self.task, self.autoencoder.decoder, self.task.obs == "state"
        causal, reset = self.causal_entropy != "off", self.causal.soft_reset
        of_pixels = "none if obs is state: there is no image to encode, unless you give --obs pixels"
        of_env = f"rae, vae or none if env is {task.env}: only DeepMind Control tasks provide their physical state"
        of_images = "off if obs is pixels+state: it is fitted to the latent vector of images alone"
        of_preset = f"sac_ae if obs is state: {self.train.preset} is for pixels only"
        return (
            ("decoder", decoder == "none" or not from_state, of_pixels),
            ("decoder", decoder != "state" or not task.env, of_env),
            ("preset", self.train.preset == "sac_ae" or not from_state, of_preset),
            ("causal_entropy", not (causal and task.sees_state), of_images),
            ("camera_id", task.camera_id >= -1, "-1 (the free camera) or the number of a camera"),
            ("soft_reset", causal or "causal" not in reset, "off, reset or dormant_reset if causal_entropy is off"),
            ("soft_reset", not self.train.capture or reset == "off", "off if capture is on"),
            ("clip_reward", not task.clip_reward or task.sparse_reward is None, "off if sparse_reward is given"),
        )

    def conditions_of_new_runs(self) -> Sequence[Condition]:
        """See Settings."""
        decoder, capacity, batch_size = self.autoencoder.decoder, self.replay.replay_capacity, self.replay.batch_size
        frozen, contrasts = self.encoder.freeze_encoder, self.views[-1] > 0
        trains_encoder = self.agent.critic_gradient or decoder != "none" or contrasts or frozen
        pretrains = decoder != "none" and self.autoencoder.pretrain_updates > 0
        stored = capacity if capacity and capacity < self.num_agent_steps else math.inf
        never_fits = self.causal_entropy != "off" and self.causal.causal_samples > stored
        of_state = "fp32, tf32 or auto if obs is state: only encoder and decoder compute in bf16"
        of_pretraining = (
            "off if pretrain_updates is above 0, which would train the decoder alone; pretrain in a run of its own, "
            "and name it with --encoder-from"
        )
        return (
            ("precision", not self.is_bf16_from_state, of_state),
            ("freeze_encoder", not (pretrains and frozen), of_pretraining),
            ("contrastive", not (frozen and contrasts), "off if freeze_encoder is on: it trains the encoder alone"),
            ("causal_samples", not never_fits, "at most replay_capacity"),
            ("critic_gradient", trains_encoder, "on if decoder is none: nothing else trains the critic's encoder"),
            ("replay_capacity", capacity is None or capacity >= batch_size, f"at least batch_size ({batch_size})"),
        )

    @property
    def is_bf16_from_state(self) -> bool:
        """Whether bf16 is asked for where nothing computes in it."""
        return self.train.precision == "bf16" and not self.task.from_pixels

    @property
    def planned_capacity(self) -> int:
        """Transitions that the replay can store: replay_capacity, or else the whole run, at least a batch."""
        return self.replay.replay_capacity or max(self.num_agent_steps, self.replay.batch_size)


def _of_head(name: str) -> HeadSettings:
    """The default settings of a head. Raises UserError for an unknown name."""
    return find_head(name).settings(agent=name)


def every_setting() -> dict[str, Declared]:
    """The declarations of all settings that agents' runs can have, of all heads, by name."""
    of_heads = {name: one for entry in HEADS.values() for name, one in declared(entry.settings).items()}
    return of_heads | Config().declared()


def _agent_of(settings: Mapping[str, Any]) -> Any:
    """The agent that settings name, by themselves or by their preset; both must agree. Raises UserError."""
    of_preset = named(settings).get("agent")
    agent = settings.get("agent", of_preset or HeadSettings.agent)
    if of_preset and agent != of_preset:
        raise UserError(
            f"preset is {settings['preset']}, but agent is {agent}: this preset is of --agent {of_preset}; "
            "leave one of them out"
        )
    return agent


def overridden(config: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ from those of the run's preset, by name: what the run has and what the preset says."""
    values = config.flat()
    of_preset = named(values) | {"replay_capacity": values["replay_capacity"]}  # which the run's length may replace
    if "augment" in of_preset:
        of_preset = AUGMENTED_PRESET.get(values["augment"], {}) | of_preset
    return {name: (values[name], value) for name, value in of_preset.items() if values.get(name, value) != value}


def put_out_of_use(config: Config) -> dict[str, str]:
    """The settings of the run's preset that do not apply beside the others, by name, each with the reason in words."""
    values, idle = config.flat(), config.idle()
    return {name: idle[name].actual(values) for name in named(values) if name in idle}


def make(**settings: Any) -> Config:
    """The configuration of a run: defaults, then the presets of observation, task and head, then the given settings.

    Raises UserError if a setting is unknown, does not apply, is out of range or contradicts another one.
    """
    config = Config().defaults_for(settings).replace(**_preset(settings)).replace(**settings)
    check(config, given=settings)
    return config


def _preset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that depend on the task, the observation, the preset and the head."""
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
    from_state = settings.get("obs", preset.get("obs")) == "state"
    if from_state:
        preset |= STATE_PRESET
    of_preset = named(settings)
    preset |= AUGMENTED_PRESET.get(str((of_preset | dict(settings)).get("augment")), {})
    head = find_head(_agent_of(settings))
    preset |= head.settings.preset(from_state, preset | of_preset | dict(settings)) | of_preset
    return preset | _room_for_the_run(preset, settings)


def _room_for_the_run(preset: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Takes back a preset's replay_capacity that the run cannot fill: the replay would take the memory all the same."""
    together = {"num_train_steps": TrainConfig.num_train_steps, **preset, **settings}
    capacity = preset.get("replay_capacity")
    fills = capacity and capacity * together["action_repeat"] < together["num_train_steps"]
    return {} if fills or capacity is None else {"replay_capacity": None}


TASK = ("env", "domain", "task")
BASIS = (*TASK, "obs", "preset", "agent")
REFINED = ("std", "causal_entropy", "augment")
"""The settings on which defaults of others depend. The later ones may follow from the earlier ones themselves."""


def chosen_beside(settings: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, without those that its task, observation, preset or head brought if the given ones differ.

    settings: the given ones, whose own bring theirs.
    """
    if all(name not in settings or settings[name] == offered.get(name) for name in (*BASIS, *REFINED)):
        return dict(offered)
    replaced = _replaced(settings, offered)
    try:
        brought = make(**_some(offered, *BASIS, *REFINED)).flat()
        brought |= _some(make(**_some(offered, *BASIS)).flat(), *REFINED)
        brought["obs"] = make(**_some(offered, *TASK)).task.obs
    except UserError:  # a head of an earlier version, or of another script
        brought = {}
    kept = {*BASIS} - {"obs"}
    of_theirs = {name for name, value in offered.items() if name not in kept and brought.get(name, ...) == value}
    return {name: value for name, value in offered.items() if name not in of_theirs | replaced}


def _replaced(settings: Mapping[str, Any], offered: Mapping[str, Any]) -> set[str]:
    """What of a run's settings cannot stand beside the given ones."""
    replaced = {"decoder"} if settings.get("obs") == "state" else set()
    of_preset = named(offered).get("agent")
    if "agent" in named(settings) or (of_preset and "preset" in settings):
        replaced |= {"agent"}
    if "agent" in settings and of_preset not in (None, settings["agent"]):
        replaced |= {"preset"}
    return replaced


def _some(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def with_what_fits(settings: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and those of the offered settings that their run has and that apply to it.

    An offered preset for pixels gives a run from state those of its settings that apply.
    """
    while True:
        together = dict(offered) | dict(settings)
        defaults = Config().defaults_for(together)
        known = {name: value for name, value in together.items() if name in defaults.declared()}
        preset = _preset(known)
        config = defaults.replace(**preset).replace(**known)
        if not config.task.from_pixels and config.train.preset not in ("sac_ae", settings.get("preset")):
            of_preset = {name: preset[name] for name in named(known)}  # a replay_capacity has room for the run
            offered = of_preset | {name: value for name, value in offered.items() if name != "preset"}
            continue
        without_effect = {*config.idle()} | ({"precision"} if config.is_bf16_from_state else set())
        fitting = {n: v for n, v in offered.items() if n in known and n not in without_effect}
        if len(fitting) == len(offered):
            return together
        offered = fitting


def to_yaml(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings that apply, as mappings of group and name that YAML can represent."""
    return plain(settings.replace(work_dir=settings.work_dir))


def from_yaml(groups: Mapping[str, Mapping[str, Any]], like: S) -> S:
    """The settings that `to_yaml` of this or an older version wrote; missing ones take their defaults.

    like: settings of the same kind of run. Raises UserError for an unknown name, and as `check` does. Names that older
    versions wrote for all heads are ignored.
    """
    values = {str(name): value for group in groups.values() for name, value in group.items()}
    defaults = like.defaults_for(values)
    known = defaults.declared()
    kept = {n: v for n, v in values.items() if n in known or n not in defaults.FORMER}
    settings = defaults.replace(**{n: yaml_file.typed(known[n], v) if n in known else v for n, v in kept.items()})
    check(settings, new_run=False)
    return settings


def load(path: Path, like: S) -> S:
    """The settings in a run folder's config.yaml, as `from_yaml` reads them. Raises UserError if it is unreadable."""
    content = read(path)
    groups = content["settings"]
    _refuse_other_kind(path, content, like)
    try:
        return from_yaml(groups, like)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _refuse_other_kind(path: Path, content: Mapping[str, Any], like: Settings) -> None:
    """Raises UserError, naming the command to use, for a run that settings like these cannot describe."""
    groups, folder, name = content["settings"], path.parent, content.get("agent")
    if AGENT_GROUP in groups and AGENT_GROUP in like.groups():
        _refuse_unknown_head(path, groups[AGENT_GROUP].get("agent", HeadSettings.agent))
    elif AGENT_GROUP in groups:
        raise UserError(
            f"{folder} holds a run of agent {name}, which is no baseline: {invocation.command('eval')} {folder} plays "
            f"it, {invocation.command('train')} --resume --work-dir {folder} continues it"
        )
    # Baselines are told apart by name: one may have all settings of another.
    elif AGENT_GROUP in like.groups() or name not in (None, like.variant):
        raise UserError(
            f"{folder} holds a run of the baseline {name}: python -m baselines.eval {folder} plays it, "
            f"python -m baselines.train --algo {name} --resume --work-dir {folder} continues it"
        )


def _refuse_unknown_head(path: Path, agent: str) -> None:
    try:
        find_head(agent)
    except UserError as error:
        raise UserError(
            f"{path}: {error}; a head of your own is known only to the script that registers it, which is to run "
            "this command: python SCRIPT.py eval RUN_DIR"
        ) from None


AGENT_GROUP = "agent"
"""The group of settings that every run of an agent has, and no baseline."""


LEFT_OPEN: Mapping[str, Any] = {"precision": "auto", "discretisation": "auto", "replay_capacity": None, "capture": None}
"""Values that leave a choice to a new run, of settings that a resumed run may not change."""


def resumed(folder: Path, like: S, given: Mapping[str, Any]) -> S:
    """The settings of the run in a folder, with the given changes.

    like: settings of the same kind of run. A given value that leaves a choice to the run keeps what the run chose.
    Raises UserError for a change that a resumed run does not allow, and as `load` and `check` do.
    """
    given = {name: value for name, value in given.items() if name not in LEFT_OPEN or value != LEFT_OPEN[name]}
    if Path(given.get("work_dir") or folder).resolve() != folder.resolve():
        raise UserError(f"work_dir is {given['work_dir']}, but the run lies in {folder}; leave work_dir out")
    saved = load(folder / "config.yaml", like).replace(work_dir=folder)
    before, changeable = saved.flat(), saved.with_role(CHANGEABLE_ON_RESUME)
    changed = saved.replace(**given)
    refuse_idle(changed, given)
    for name, value in changed.flat().items():
        if before[name] != value and name not in (*changeable, "work_dir"):
            raise UserError(
                f"{name} is {in_words(value)}, but the run in {folder} has {in_words(before[name])}; "
                f"a resumed run may change only {', '.join(changeable)}; leave {flag_of(name)} out"
            )
    check(changed, new_run=False)
    return changed.replace(work_dir=folder)


NEEDED_GROUPS = ("task", "train")
"""Groups of settings that every run's config.yaml has, of whatever version."""


def read(path: Path) -> dict[str, Any]:
    """The content of a run folder's config.yaml, with the settings of `to_yaml` under "settings".

    Raises UserError if the file is missing or unreadable.
    """
    try:
        content = yaml_file.read(path, "a run's settings")
    except FileNotFoundError:
        problem = f"has no {path.name}" if path.parent.exists() else "does not exist"
        raise UserError(f"{path.parent} is not a run folder: it {problem}") from None
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
