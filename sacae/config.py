"""Every setting of the package, with its meaning and its default; the task and observation presets; YAML in and out.

The command line is generated from these dataclasses, and the sentence under a field is its help text. Field names are
unique across the groups, so that a setting is known by its name alone on the command line, in sweeps and in `make`.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import yaml

from sacae.errors import UserError

ACTION_REPEAT = {
    "cartpole_swingup": 8,
    "reacher_easy": 4,
    "cheetah_run": 4,
    "ball_in_cup_catch": 4,
    "finger_spin": 2,
    "walker_walk": 2,
}
"""Action repeat of the PlaNet benchmark's six tasks, which every published SAC-AE number uses; other tasks take 2."""

OTHER_ACTION_REPEAT = 2

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
    "hidden_dim": 256,
    "batch_size": 256,
    "critic_lr": 3e-4,
    "actor_lr": 3e-4,
    "alpha_lr": 3e-4,
    "alpha_beta1": 0.9,
    "critic_tau": 0.005,
    "encoder_tau": 0.005,
    "actor_update_freq": 1,
    "critic_target_update_freq": 1,
    "std": "clamped",  # starts near 1, as stable-baselines3's and Spinning Up's do; rescaled starts at 0.02
    "log_std_min": -20.0,
}
"""What `--obs state` changes: the usual settings of SAC from state vectors, as in stable-baselines3."""

AGENT_PRESET: dict[str, dict[str, Any]] = {
    "sac_v": {"std": "clamped", "log_std_min": -20.0},
    "td3": {"actor_update_freq": 2, "critic_target_update_freq": 2},
    "dqn": {"critic_tau": 1.0, "encoder_tau": 1.0, "critic_target_update_freq": 1000},
}
"""What `--agent` changes: SAC with a value network makes its standard deviation as its authors do, TD3's delay holds
from state too, and DQN copies its target network instead of averaging."""

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

SLOW_START = {"actor_lr": 1e-4, "initial_updates": 1}
PIXEL_AGENT_PRESET: dict[str, dict[str, Any]] = {"td3": SLOW_START, "ddpg": SLOW_START}
"""What `--agent` changes where pixels are seen. A deterministic policy has no entropy that keeps it off the ends of
tanh: at 1e-3, a burst of updates on random actions drives its actions to -1 and 1, and no gradient leads back."""


@dataclass(frozen=True)
class NamedTask:
    """Which task is to be solved: what every algorithm must know."""

    env: str | None = None
    """Gymnasium environment to use instead of a DeepMind Control task, such as Pendulum-v1 or ALE/Pong-v5. The agent
    sees its state; of an Atari game it sees pixels."""
    domain: str = "cheetah"
    """Domain of the DeepMind Control suite, such as cheetah, walker, cartpole."""
    task: str = "run"
    """Task of that domain, such as run, walk, swingup."""
    action_repeat: int = OTHER_ACTION_REPEAT
    """Environment steps for which each action is repeated; the default depends on the task."""


@dataclass(frozen=True)
class TaskConfig(NamedTask):
    """The task, and what the agent sees of it."""

    obs: Literal["pixels", "state"] = "pixels"
    """What the agent sees. state implies the state preset: no decoder, smaller networks, action repeat 1."""
    image_size: int = 84
    """Height and width of a frame, 48 to 128."""
    frame_stack: int = 3
    """Number of consecutive frames in one observation."""
    discretisation: Literal["auto", "none", "factored", "joint"] = "auto"
    """How an algorithm with discrete actions acts on a continuous task. factored: it chooses a bin in each action
    dimension. joint: it chooses one cell of the grid over all dimensions. auto: factored if needed, else none."""
    bins: int = 3
    """Bins of each action dimension, evenly spaced from -1 to 1, 2 or more."""
    clip_reward: bool = False
    """Learn from the sign of each agent step's reward, as is usual for Atari games. CSV files and evaluations report
    the unchanged rewards."""
    sparse_reward: float | None = None
    """Learn from a reward of 1 if an agent step's reward is at least this value, else from 0. CSV files and evaluations
    report the unchanged rewards. None: learn from the unchanged rewards."""
    camera_id: int = 0
    """Number of the MuJoCo camera that renders, -1 for the free camera; the default depends on the domain."""
    render_quality: Literal["exact", "fast"] = "exact"
    """exact: render as dm_control does. fast: render with a smaller shadow map, because shadows take most of the time
    of software rendering; pixels change by 0.01 to 0.2 of 255 on average, depending on the task."""


@dataclass(frozen=True)
class EncoderConfig:
    """The convolutional encoder that critic and actor share."""

    encoder: Literal["sac_ae", "nature"] = "sac_ae"
    """sac_ae: num_layers convolutions of 3x3, the first with stride 2. nature: 32 of 8x8 with stride 4, 64 of 4x4 with
    stride 2, 64 of 3x3 (Mnih et al. 2015)."""
    num_layers: Literal[2, 4, 6] = 4
    """Convolutions of the sac_ae encoder."""
    num_filters: int = 32
    """Channels of each convolution of the sac_ae encoder."""
    feature_dim: int = 50
    """Length of the latent vector."""
    encoder_tau: float = 0.05
    """Weight of the online encoder in each moving-average update of the target encoder."""
    conv_init: Literal["delta_orthogonal", "default"] = "delta_orthogonal"
    """Initialisation of convolutions. delta_orthogonal: orthogonal at the centre tap, zero elsewhere. default:
    PyTorch's."""
    latent_norm: bool = True
    """Apply LayerNorm to the latent vector."""
    latent_tanh: bool = True
    """Apply tanh to the latent vector."""
    encoder_from: Path | None = None
    """Run folder whose last checkpoint initialises the critic's encoder and the decoder, for example of another task;
    None: random initialisation."""
    freeze_encoder: bool = False
    """Keep the critic's encoder fixed: neither the critic's nor the reconstruction's gradient trains it."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The reconstruction objective, which trains the encoder in addition to the critic's loss."""

    decoder: Literal["rae", "vae", "state", "none"] = "rae"
    """rae: the paper's regularised autoencoder. vae: a variational autoencoder. state: predict the state vector instead
    of the pixels. none: no reconstruction."""
    encoder_lr: float = 1e-3
    """Learning rate of the encoder for the reconstruction loss."""
    decoder_lr: float = 1e-3
    """Learning rate of the decoder."""
    decoder_update_freq: int = 1
    """Reconstruct at every n-th update, or agent step if --gates is agent_steps."""
    latent_penalty: float = 1e-6
    """Weight of the latent's squared length in the reconstruction loss."""
    vae_beta: float = 1e-7
    """Weight of the variational autoencoder's KL divergence, summed over the latent, relative to the mean squared
    error."""
    decoder_weight_decay: float = 1e-7
    """Adam weight decay (L2) of the decoder."""
    target_bits: int = 5
    """Bits per colour channel of the reconstruction target, 1 to 8."""
    target_dither: bool = True
    """Add uniform noise of one quantisation step to the reconstruction target; without it targets are rounded down."""
    penalise_before_tanh: bool = False
    """With --decoder rae or state, apply the latent penalty before tanh, where it can still shrink the latent."""
    dynamics: bool = False
    """In addition to the reconstruction, predict the latent of the next observation from the latent and the action."""
    dynamics_weight: float = 1.0
    """Weight of the mean squared error of the latent prediction that --dynamics makes."""
    pretrain_updates: int = 0
    """Updates of the autoencoder alone, on frames of the random policy, before any other update."""


@dataclass(frozen=True)
class AgentConfig:
    """The reinforcement learning algorithm."""

    agent: str = "sac"
    """Reinforcement learning algorithm on the shared encoder: sac, sac_v, td3, ddpg, discrete_sac, dqn."""
    hidden_dim: int = 1024
    """Width of the two hidden layers of actor and critic."""
    discount: float = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    critic_lr: float = 1e-3
    """Learning rate of the critic, encoder included."""
    critic_beta1: float = 0.9
    """Adam beta1 of the critic."""
    critic_gradient: bool = True
    """Train the encoder with the gradient of the critic's loss."""
    actor_gradient: Literal["after_convs", "after_latent", "through"] = "after_convs"
    """Where the actor's gradient stops: after_convs: behind the shared convolutions. after_latent: behind the actor's
    latent. through: nowhere."""
    tying: Literal["convs", "all", "none"] = "convs"
    """Part of the critic's encoder that the actor shares: convs, all or none. With none the actor has convolutions of
    its own, which its gradient trains."""
    critic_tau: float = 0.01
    """Weight of the online Q functions in each moving-average update of their targets; for sac_v, of V."""
    critic_target_update_freq: int = 2
    """Update the targets at every n-th update, or agent step if --gates is agent_steps."""
    actor_lr: float = 1e-3
    """Learning rate of the actor."""
    actor_beta1: float = 0.9
    """Adam beta1 of the actor."""
    actor_update_freq: int = 2
    """Update actor and temperature at every n-th update, or agent step if --gates is agent_steps."""
    std: Literal["rescaled", "softplus", "clamped"] = "rescaled"
    """sac, sac_v: form of the policy's standard deviation. rescaled: tanh scales its logarithm into the bounds.
    softplus: no bounds, at least 1e-4. clamped: its logarithm is clamped to the bounds."""
    log_std_min: float = -10.0
    """Lower bound of the policy's log standard deviation."""
    log_std_max: float = 2.0
    """Upper bound of the policy's log standard deviation."""
    tanh_correction: Literal["clipped", "exact"] = "clipped"
    """sac, sac_v: how the log-probability of an action a = tanh(u) accounts for tanh. clipped: log(max(1 - a^2, 0) +
    1e-6), as the SAC-AE authors' code does; it has no gradient where tanh saturates. exact: 2 (log 2 - u -
    softplus(-2u)). The default is clipped for sac from pixels with std rescaled, exact everywhere else."""
    causal_entropy: Literal["off", "absolute", "signed"] = "off"
    """sac: weight each action dimension's entropy by its causal effect on the reward (ACE, Ji et al. 2024), which is
    fitted during training. absolute: by the size of the effect. signed: by the effect itself, as in the authors'
    code."""
    reward_scale: float = 1.0
    """sac_v: factor of the rewards. The temperature is 1, so a larger factor makes entropy matter less."""
    init_temperature: float = 0.1
    """Initial entropy temperature alpha; 0 together with --no-learn-temperature removes the entropy term."""
    learn_temperature: bool = True
    """Learn the temperature so that the entropy approaches a target, or keep it fixed. The target is minus the number
    of action dimensions for sac, and set by --target-entropy-factor for discrete_sac."""
    alpha_lr: float = 1e-4
    """Learning rate of the temperature."""
    alpha_beta1: float = 0.5
    """Adam beta1 of the temperature."""
    target_entropy_factor: float = 0.98
    """discrete_sac: target entropy as a fraction of the uniform policy's entropy."""
    exploration_noise: float = 0.1
    """td3, ddpg: standard deviation of the noise on training actions after the first --exploration-steps."""
    exploration_noise_start: float = 1.0
    """td3, ddpg: initial standard deviation of the noise on training actions, from which it decreases linearly."""
    epsilon: float = 0.05
    """dqn: fraction of random training actions after the first --exploration-steps."""
    epsilon_start: float = 1.0
    """dqn: initial fraction of random training actions, from which it decreases linearly."""
    exploration_steps: int = 50_000
    """td3, ddpg, dqn: environment steps over which exploration noise or epsilon decreases."""
    target_noise: float = 0.2
    """td3: standard deviation of the noise on the target policy's actions (target policy smoothing)."""
    target_noise_clip: float = 0.5
    """td3: bound on the noise on the target policy's actions."""
    target_network: bool = True
    """dqn: compute targets with a target network (2015), or with the online network (2013)."""
    double_q: bool = True
    """dqn: the online network chooses the target's action and the target network evaluates it (Double DQN)."""
    dueling: bool = False
    """dqn: separate streams for the state's value and the actions' advantages (Dueling DQN)."""
    td_loss: Literal["huber", "mse"] = "huber"
    """dqn: loss of the temporal difference error; huber is linear beyond 1."""
    max_grad_norm: float = 0.0
    """Bound on gradient norms, applied separately to each Q or value function, the shared encoder, the actor and the
    temperature; 0: no bound."""


@dataclass(frozen=True)
class ReplayConfig:
    """The replay, and how batches are drawn from it."""

    replay_capacity: int | None = None
    """Maximum number of transitions in the replay, at least --batch-size; None: all of the run."""
    replay_device: Literal["auto", "device", "host"] = "auto"
    """Where the replay stores frames: on the training device, in host memory, or (auto) on the device if they fit."""
    batch_size: int = 128
    """Number of transitions in each update."""
    augment: Literal["none", "shift", "crop", "color"] = "none"
    """Random augmentation of the images of each update. shift: by up to 4 pixels, repeating the border. crop: a window
    of 0.9 of the image's size, scaled back; the policy acts on the central window. color: brightness, contrast,
    saturation and hue."""
    n_step: int = 1
    """Number of rewards summed before the critic's target bootstraps; SAC's sums leave out the entropies in between."""


@dataclass(frozen=True)
class CausalConfig:
    """Schedule of the fits for --causal-entropy, and soft resets of policy and critic."""

    causal_every: int = 10_000
    """Environment steps between two fits of the causal effects for --causal-entropy."""
    causal_samples: int = 10_000
    """Number of most recent transitions used in a fit of the causal effects; the first fit waits until that many are
    stored."""
    causal_delay: int = 1000
    """Agent steps between the start of a causal fit and the use of its weights; the fit runs in parallel with
    training."""
    soft_reset: Literal["off", "reset", "causal_reset", "dormant_reset", "causal_dormant_reset"] = "off"
    """sac: move policy and critic towards newly initialised parameters every --reset-every updates. How far they move
    depends on the policy's dormancy or, with causal_, on the difference of the entropy weights. With dormant_, only the
    policy's dormant neurons move."""
    reset_every: int = 100_000
    """Updates between two soft resets."""
    dormancy_threshold: float = 0.05
    """A neuron is dormant if its gradient norm is below this fraction of its layer's mean."""


@dataclass(frozen=True)
class RunConfig:
    """Length of the run, evaluations, checkpoints, device and run folder."""

    seed: int = 1
    """Random seed of the whole run."""
    num_train_steps: int = 500_000
    """Length of the run in environment steps (agent steps times action repeat)."""
    num_envs: int = 1
    """Number of training environments that step in parallel; the steps of all of them count."""
    eval_every: int = 10_000
    """Environment steps between two evaluations; there is also one before the first step and one after the last."""
    num_eval_episodes: int = 10
    """Episodes per evaluation, played without exploration."""
    num_eval_envs: int = 1
    """Evaluation episodes that run side by side; more than one can change the last digits of the actions through
    rounding."""
    save_video: bool = True
    """Record the first episode of each evaluation."""
    checkpoint_every: int = 10_000
    """Environment steps between two checkpoints; there is also one at the end and on Ctrl-C."""
    device: str = "auto"
    """Device to compute on: auto, cpu, cuda or cuda:N; auto is the first GPU, or the CPU where there is none."""
    num_threads: int = 0
    """Number of CPU threads for PyTorch; 0: PyTorch's default, one per core."""
    work_dir: Path | None = None
    """Run folder; None: runs/<task>/<agent>-<rae, vae, state_decoder, none or state>/<seed>."""


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Length of the run, schedule of updates, evaluations, checkpoints, device and run folder."""

    preset: Literal["sac_ae", "laptop"] = "sac_ae"
    """Named set of settings; flags that are given override it. sac_ae: the paper's. laptop: small images and networks
    for two CPU cores, from pixels only."""
    overlap: bool = True
    """Step each environment in a process of its own while the agent updates; results are the same to the last bit."""
    seed_steps: int = 1000
    """Agent steps with random actions at the start of the run."""
    learning_starts: int | None = None
    """Agent steps before the first update; None: --seed-steps. Learning also waits until the replay holds --batch-size
    transitions."""
    initial_updates: int = 1000
    """Updates made at once when learning starts, in addition to those of --updates-per-step."""
    updates_per_step: float = 1.0
    """Updates per agent step of each environment (the replay ratio); 0.25 makes one update every four steps."""
    update_every: int = 1
    """Agent steps between two blocks of updates: 50 with --updates-per-step 1 makes 50 updates every 50 steps."""
    gates: Literal["updates", "agent_steps"] = "updates"
    """What --actor-update-freq, --critic-target-update-freq and --decoder-update-freq count. updates: every update.
    agent_steps: agent steps of each environment since learning started, as in the SAC-AE authors' code; the count is 0
    during the initial updates, so actor and targets are updated at each of them."""
    save_replay: bool = True
    """Save the replay in checkpoints; without it a resumed run starts with an empty replay."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Precision of the networks: fp32, tf32 (GPU only), bf16 (parameters, values and losses stay float32), or auto:
    bf16 from pixels on a GPU of compute capability 8.0 or higher or a CPU with AMX_BF16 or AVX512_BF16, else fp32."""
    compile: bool = False
    """Compile the losses with torch.compile: slower to start, faster afterwards."""
    capture: bool = False
    """Replay updates as captured CUDA graphs (GPU only). Off by default, since it has not been run on a GPU yet."""


@dataclass(frozen=True)
class Settings:
    """The settings of a run, in groups; immutable. Each kind of run adds its own groups to these two."""

    task: NamedTask = field(default_factory=NamedTask)
    train: RunConfig = field(default_factory=RunConfig)

    def replace(self, **settings: Any) -> Self:
        """A copy with the named settings changed. Raises UserError for a name that is not a setting."""
        groups: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            groups.setdefault(self._group_of(name), {})[name] = value
        kinds = self.groups()
        changed = {
            group: dataclasses.replace(getattr(self, group), **_with_floats(kinds[group], values))
            for group, values in groups.items()
        }
        return dataclasses.replace(self, **changed)

    def _group_of(self, name: str) -> str:
        names = self.setting_names()
        if name not in names:
            raise UserError(f"there is no setting {name!r}{did_you_mean(name, names)}")
        return names[name]

    @classmethod
    def groups(cls) -> dict[str, type]:
        """The dataclass of each group of settings, by the group's name."""
        return {f.name: f.default_factory for f in dataclasses.fields(cls)}

    @classmethod
    def setting_names(cls) -> dict[str, str]:
        """Every setting's name, and the group it belongs to."""
        return {f.name: group for group, kind in cls.groups().items() for f in dataclasses.fields(kind)}

    def flat(self) -> dict[str, Any]:
        """Every setting by its name."""
        return {name: value for group in dataclasses.asdict(self).values() for name, value in group.items()}

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

    PLAY_COMMAND: ClassVar[str] = "python eval.py"
    """The command that plays a run folder of these settings back."""

    def full_run(self) -> "Settings":
        """The default settings on this task."""
        return type(self)()

    def cheaper_than(self, _full: "Settings") -> str:
        """What makes an update of a full run slower than one of this run, as the end of a sentence; "" if nothing."""
        return ""

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """What must hold beside choices and ranges: (setting, whether it does, what is allowed)."""
        return ()

    def conditions_of_new_runs(self) -> Sequence[tuple[str, bool, str]]:
        """As `conditions`, of what older versions allowed: their runs can still be resumed, played and reported."""
        return ()

    @property
    def work_dir(self) -> Path:
        """The run folder."""
        return self.train.work_dir or Path("runs", self.task_name, self.variant, str(self.train.seed))

    @property
    def num_agent_steps(self) -> int:
        """Agent steps in the whole run, over all environments."""
        return -(-self.train.num_train_steps // self.task.action_repeat)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Config(Settings):
    """All settings of a run of an agent. `make` fills in presets, `replace` changes settings by name."""

    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def variant(self) -> str:
        """The run's name beside other runs of the task, such as sac-rae or sac-state."""
        agent = self.agent.agent if self.agent.causal_entropy == "off" else "ace"
        if self.task.obs == "state":
            return f"{agent}-state"
        return f"{agent}-{'state_decoder' if self.keeps_state else self.autoencoder.decoder}"

    @property
    def keeps_state(self) -> bool:
        """Whether the physical state is kept beside each frame: where the decoder is to say it."""
        return self.autoencoder.decoder == "state"

    def full_run(self) -> "Config":
        """See Settings."""
        task = self.task
        named = {"env": task.env} if task.env else {"domain": task.domain, "task": task.task}
        return make(**named, obs=task.obs, preset=self.train.preset)

    def cheaper_than(self, full: Settings) -> str:
        """See Settings."""
        batch_size, usual = self.replay.batch_size, full.replay.batch_size
        return f", longer with the default batch size of {usual} (here {batch_size})" if batch_size < usual else ""

    def conditions(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings."""
        task, decoder = self.task, self.autoencoder.decoder
        samples, capacity = self.causal.causal_samples, self.replay.replay_capacity
        remembered = capacity if capacity and capacity < self.num_agent_steps else math.inf
        is_sac, causal, reset = self.agent.agent == "sac", self.agent.causal_entropy != "off", self.causal.soft_reset
        return (
            ("camera_id", task.camera_id >= -1, "-1 (the free camera) or the number of a camera"),
            ("augment", self.replay.augment == "none" or task.obs == "pixels", "none where obs is state"),
            ("pretrain_updates", not self.autoencoder.pretrain_updates or decoder != "none", "0 where decoder is none"),
            ("dynamics", not self.autoencoder.dynamics or decoder != "none", "off where decoder is none"),
            ("causal_entropy", is_sac or not causal, "off unless agent is sac"),
            ("soft_reset", is_sac or reset == "off", "off unless agent is sac"),
            ("soft_reset", causal or "causal" not in reset, "off, reset or dormant_reset where causal_entropy is off"),
            ("soft_reset", not self.train.capture or reset == "off", "off where updates are captured"),
            ("causal_samples", not causal or samples <= remembered, "at most replay_capacity"),
            ("clip_reward", not task.clip_reward or task.sparse_reward is None, "off where sparse_reward is given"),
            ("bins", task.bins >= 2, "2 or more"),
            ("image_size", 48 <= task.image_size <= 128, "from 48 to 128"),
            ("target_bits", 1 <= self.autoencoder.target_bits <= 8, "from 1 to 8"),
            ("log_std_min", self.agent.log_std_min < self.agent.log_std_max, "below log_std_max"),
            (
                "init_temperature",
                self.agent.init_temperature > 0 or not self.agent.learn_temperature,
                "above 0 where learn_temperature is on",
            ),
        )

    def conditions_of_new_runs(self) -> Sequence[tuple[str, bool, str]]:
        """See Settings. Most of these settings would leave parameters that nothing trains."""
        agent, decoder, capacity = self.agent, self.autoencoder.decoder, self.replay.replay_capacity
        trains_encoder = agent.critic_gradient or decoder != "none" or self.encoder.freeze_encoder
        return (
            ("critic_gradient", trains_encoder, "on where decoder is none: nothing else trains the critic's encoder"),
            (
                "actor_gradient",
                agent.actor_gradient != "after_latent" or agent.tying == "all" or self.task.obs == "state",
                "after_convs or through unless tying is all: nothing else trains the actor's own layers",
            ),
            ("batch_size", capacity is None or self.replay.batch_size <= capacity, "at most replay_capacity"),
            (
                "penalise_before_tanh",
                decoder in ("rae", "state") or not self.autoencoder.penalise_before_tanh,
                "off unless decoder is rae or state",
            ),
        )

    @property
    def planned_capacity(self) -> int:
        """Transitions the replay holds: replay_capacity, or else every one of the run, and at least a batch."""
        return self.replay.replay_capacity or max(self.num_agent_steps, self.replay.batch_size)


def _with_floats(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, whole numbers of settings that are fractions as such: 2 and 2.0 are one setting, and one text."""
    fractions = {f.name for f in dataclasses.fields(kind) if f.type is float}
    return {name: float(v) if name in fractions and type(v) is int else v for name, v in values.items()}


def did_you_mean(word: str, known: Any) -> str:
    """'; did you mean a, b?' with the closest known words, or '' when none is close."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else ""


def make(**settings: Any) -> Config:
    """The configuration of a run: defaults, then the presets of its observation and task, then the given settings.

    Raises UserError where a setting is unknown, out of range, or at odds with another.
    """
    _refuse_contradictions(settings)
    config = Config().replace(**(_preset(settings) | settings))
    check(config)
    return config


def _preset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that depend on other settings: those of the task, the observation and the algorithm."""
    env = settings.get("env")
    if env:
        atari = env.startswith(ATARI)
        preset = {"obs": "pixels" if atari else "state", "action_repeat": 1} | (ATARI_PRESET if atari else {})
    else:
        defaults = TaskConfig()
        domain, task = settings.get("domain", defaults.domain), settings.get("task", defaults.task)
        action_repeat = ACTION_REPEAT.get(f"{domain}_{task}", OTHER_ACTION_REPEAT)
        preset = {"action_repeat": action_repeat, "camera_id": CAMERA.get(domain, 0)}
    preset |= PRESETS.get(settings.get("preset", "sac_ae"), {})
    agent = settings.get("agent", AgentConfig().agent)
    from_state = settings.get("obs", preset.get("obs")) == "state"
    preset |= STATE_PRESET if from_state else PIXEL_AGENT_PRESET.get(agent, {})
    preset |= AGENT_PRESET.get(agent, {})
    if agent != "sac" or (preset | settings).get("std", "rescaled") != "rescaled" or _weighs_entropy(settings):
        preset["tanh_correction"] = "exact"
    return preset


def _weighs_entropy(settings: Mapping[str, Any]) -> bool:
    return settings.get("causal_entropy", "off") != "off"


def _refuse_contradictions(settings: Mapping[str, Any]) -> None:
    """Raises UserError for a setting that was given and has no meaning beside another."""

    def refuse(name: str, because: str) -> None:
        raise UserError(f"{name} is {settings[name]} but {because}; leave --{name.replace('_', '-')} out")

    env = settings.get("env")
    for name in ("domain", "task"):
        if env and name in settings:
            refuse(name, f"env is {env}: a Gymnasium environment has none")
    for name in ("num_layers", "num_filters"):
        if settings.get("encoder") == "nature" and name in settings:
            refuse(name, "encoder is nature, whose three layers are fixed")
    for name in ("log_std_min", "log_std_max"):
        if settings.get("std") == "softplus" and name in settings:
            refuse(name, "std is softplus, which has no bounds")
    from_state = (settings.get("obs") or (env and _preset(settings)["obs"])) == "state"
    if from_state and settings.get("preset", "sac_ae") != "sac_ae":
        refuse("preset", "obs is state: that preset is for pixels")
    if env and settings.get("decoder") == "state":
        refuse("decoder", f"env is {env}: only tasks of DeepMind Control tell their state beside the pixels")
    if not from_state:
        return
    if settings.get("decoder", "none") != "none":
        refuse("decoder", "obs is state: there is no image to encode")
    if "num_layers" in settings:
        refuse("num_layers", "obs is state: a state encoder has no layers")


# fmt: off
AT_LEAST_ONE = (
    "frame_stack", "action_repeat", "num_filters", "feature_dim", "decoder_update_freq", "hidden_dim",
    "critic_target_update_freq", "actor_update_freq", "replay_capacity", "batch_size", "n_step", "num_train_steps",
    "num_envs", "update_every", "eval_every", "num_eval_episodes", "num_eval_envs", "checkpoint_every",
    "causal_every", "causal_samples", "reset_every",
)
AT_LEAST_ZERO = (
    "latent_penalty", "vae_beta", "decoder_weight_decay", "seed", "num_threads", "seed_steps", "initial_updates",
    "exploration_noise", "exploration_noise_start", "exploration_steps", "target_noise", "target_noise_clip",
    "max_grad_norm", "pretrain_updates", "dynamics_weight", "causal_delay", "dormancy_threshold", "learning_starts",
    "init_temperature",
)
ABOVE_ZERO = (
    "encoder_lr", "decoder_lr", "critic_lr", "actor_lr", "alpha_lr", "reward_scale", "updates_per_step",
)
ZERO_TO_ONE = (
    "discount", "encoder_tau", "critic_tau", "critic_beta1", "actor_beta1", "alpha_beta1", "target_entropy_factor",
    "epsilon", "epsilon_start",
)
# fmt: on


def check(settings: Settings, new_run: bool = True) -> None:
    """Raises UserError, naming the setting, its value and what is allowed, for the first setting out of range.

    new_run: whether they are to begin a run, rather than of one that exists, which older versions may have begun.
    """
    _check_choices(settings)
    _check_ranges(settings)
    for name, holds, allowed in (*settings.conditions(), *(settings.conditions_of_new_runs() if new_run else ())):
        _require(settings, name, holds, allowed)


def _require(settings: Settings, name: str, holds: bool, allowed: str) -> None:
    if not holds:
        flag = "--" + name.replace("_", "-")
        raise UserError(f"{name} is {settings.flat()[name]}, but it must be {allowed}; change {flag}")


def _check_choices(settings: Settings) -> None:
    values = settings.flat()
    for kind in settings.groups().values():
        for f in dataclasses.fields(kind):
            choices = get_args(f.type)
            if choices and not any(isinstance(c, type) for c in choices):
                _require(settings, f.name, values[f.name] in choices, "one of " + ", ".join(map(str, choices)))


def _check_ranges(settings: Settings) -> None:
    values = settings.flat()
    for names, within, allowed in (
        (AT_LEAST_ONE, lambda value: value is None or value >= 1, "at least 1"),
        (AT_LEAST_ZERO, lambda value: value is None or value >= 0, "0 or more"),
        (ABOVE_ZERO, lambda value: value > 0, "above 0"),
        (ZERO_TO_ONE, lambda value: 0 <= value <= 1, "from 0 to 1"),
    ):
        for name in names:
            if name in values:  # each kind of run has some of them
                _require(settings, name, within(values[name]), allowed)


def to_yaml(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings as plain mappings of group and name, ready for YAML."""
    plain = dataclasses.asdict(settings)
    plain["train"]["work_dir"] = settings.work_dir
    return {
        group: {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        for group, values in plain.items()
    }


def from_yaml(groups: Mapping[str, Mapping[str, Any]], kind: type[S] = Config) -> S:
    """The settings that `to_yaml` wrote; what it lacks takes its default. Raises UserError as `make` does."""
    values = {
        name: tuple(value) if isinstance(value, list) else value  # YAML knows no tuples
        for group in groups.values()
        for name, value in group.items()
    }
    for name in ("work_dir", "encoder_from"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    settings = kind().replace(**values)
    check(settings, new_run=False)
    return settings


def load(path: Path, kind: type[S] = Config) -> S:
    """The settings of a run folder's config.yaml. Raises UserError where there is none or it cannot be read."""
    return from_yaml(read(path)["settings"], kind)


def read(path: Path) -> dict[str, Any]:
    """What a run folder's config.yaml holds, "settings" as `to_yaml` made them among it.

    Raises UserError where there is none or it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text())
        return content | {"settings": {group: dict(values) for group, values in content["settings"].items()}}
    except FileNotFoundError:
        raise UserError(f"{path.parent} is not a run folder: it has no {path.name}") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as a run's settings: {error!r}") from None
