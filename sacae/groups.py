"""The groups of settings: task, encoder, autoencoder, agent, replay, causal, train.

The command line is generated from these dataclasses; the sentence under a field is its help text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from sacae.declaration import (
    CHANGEABLE_ON_RESUME,
    NO_ARM,
    NOT_COMPARED,
    Above,
    AtLeast,
    InExperiments,
    Must,
    OneOf,
    OnlyWhere,
    Within,
)
from sacae.heads import HEADS
from sacae.keywords import Keywords
from sacae.limits import LARGEST_SEED, MOST_EPISODES, MOST_PROCESSES

OTHER_ACTION_REPEAT = 2
"""Default action repeat of DeepMind Control tasks, except those in `config.ACTION_REPEAT`."""

FROM_PIXELS = OnlyWhere(obs=("pixels", "pixels+state"))
TRAINS_ENCODER = OnlyWhere(freeze_encoder=False)
WITH_ENV = OnlyWhere("env is given", env=lambda name: name is not None)
DECODES = OnlyWhere(decoder=("rae", "vae", "state"))
HAS_TARGET = OnlyWhere("target_network is on", target_network=(True, None))
AUGMENTS = OnlyWhere("augment is not none", augment=lambda kind: kind not in (None, "none"))
CONTRASTS_DYNAMICS = OnlyWhere("dynamics_contrastive is above 0", dynamics_contrastive=lambda weight: bool(weight))
HAS_VIEWS = OnlyWhere("the agent is not sac_v, whose V learns from one view", agent=lambda name: name != "sac_v")
WEIGHS_ENTROPY = OnlyWhere(causal_entropy=("absolute", "signed"))
RESETS = OnlyWhere(soft_reset=("reset", "causal_reset", "dormant_reset", "causal_dormant_reset"))
WEIGHS_OR_RESETS = OnlyWhere(
    "causal_entropy or soft_reset is on",
    causal_entropy=("absolute", "signed"),
    soft_reset=lambda kind: kind not in (None, "off"),
)
ACTS_BY_CHOICES = OnlyWhere(
    "the algorithm chooses among discrete actions",
    agent=lambda name: name in HEADS and HEADS[name].settings.DISCRETE_ACTIONS,
)


@dataclass(frozen=True)
class NamedTask:
    """The task, for all kinds of runs."""

    env: Annotated[str | None, NO_ARM, InExperiments("--tasks")] = None
    """Gymnasium environment to use instead of a DeepMind Control task, such as Pendulum-v1 or ALE/Pong-v5. The agent
    observes its state, or pixels if it is an Atari game."""
    domain: Annotated[str, OnlyWhere(env=None), NO_ARM, InExperiments("--tasks")] = "cheetah"
    """Domain of the DeepMind Control suite, such as cheetah, walker, cartpole."""
    task: Annotated[str, OnlyWhere(env=None), NO_ARM, InExperiments("--tasks")] = "run"
    """Task of that domain, such as run, walk, swingup."""
    action_repeat: Annotated[int, AtLeast(1)] = OTHER_ACTION_REPEAT
    """Environment steps for which each action is repeated; the default depends on the task."""


@dataclass(frozen=True)
class TaskConfig(NamedTask):
    """The task, and how the agent observes it."""

    obs: Literal["pixels", "state", "pixels+state"] = "pixels"
    """What the agent observes. state implies the state preset: no decoder, smaller networks, action repeat 1.
    pixels+state: images, and beside their latent vector the state, or the vectors in a dictionary with one image."""
    image_size: Annotated[int, Within(48, 128), FROM_PIXELS] = 84
    """Height and width of a frame, 48 to 128."""
    frame_stack: Annotated[int, AtLeast(1)] = 3
    """Number of consecutive frames in one observation."""
    discretisation: Annotated[Literal["auto", "none", "factored", "joint"], ACTS_BY_CHOICES] = "auto"
    """How an algorithm with discrete actions acts on a continuous task. factored: it chooses a bin in each action
    dimension. joint: it chooses one cell of the grid over all dimensions. auto: factored if needed, else none."""
    bins: Annotated[int, AtLeast(2), ACTS_BY_CHOICES, OnlyWhere(discretisation=("auto", "factored", "joint"))] = 3
    """Bins of each action dimension, evenly spaced from -1 to 1, 2 or more."""
    clip_reward: bool = False
    """Learn from the sign of each agent step's reward, as is usual for Atari games. CSV files and evaluations report
    the unchanged rewards."""
    sparse_reward: float | None = None
    """Learn from a reward of 1 if an agent step's reward is at least this value, else from 0. CSV files and evaluations
    report the unchanged rewards. None: learn from the unchanged rewards."""
    env_kwargs: Annotated[tuple[str, ...], WITH_ENV, Keywords("env_kwargs")] = ()
    """Arguments of the Gymnasium environment, such as gravity=1.6 max_episode_steps=100. Values are YAML scalars."""
    task_kwargs: Annotated[tuple[str, ...], OnlyWhere(env=None), Keywords("task_kwargs")] = ()
    """Arguments of the DeepMind Control task, such as time_limit=5. Values are YAML scalars."""
    camera_id: Annotated[int, OnlyWhere(env=None)] = 0
    """Number of the MuJoCo camera that renders, -1 for the free camera; the default depends on the domain."""
    render_quality: Annotated[Literal["exact", "fast"], OnlyWhere(env=None)] = "exact"
    """exact: render as dm_control does. fast: render with a smaller shadow map, because shadows take most of the time
    of software rendering; pixels change by 0.01 to 0.2 of 255 on average, depending on the task."""

    @property
    def from_pixels(self) -> bool:
        """Whether the agent observes images."""
        return self.obs != "state"

    @property
    def sees_state(self) -> bool:
        """Whether it observes the state beside them."""
        return self.obs == "pixels+state"


@dataclass(frozen=True)
class EncoderConfig:
    """The convolutional encoder that critic and actor share."""

    encoder: Annotated[Literal["sac_ae", "nature"], FROM_PIXELS] = "sac_ae"
    """sac_ae: num_layers convolutions of 3x3, the first with stride 2. nature: 32 of 8x8 with stride 4, 64 of 4x4 with
    stride 2, 64 of 3x3 (Mnih et al. 2015)."""
    num_layers: Annotated[Literal[2, 4, 6], FROM_PIXELS, OnlyWhere(encoder="sac_ae")] = 4
    """Convolutions of the sac_ae encoder."""
    num_filters: Annotated[int, AtLeast(1), FROM_PIXELS, OnlyWhere(encoder="sac_ae")] = 32
    """Channels of each convolution of the sac_ae encoder."""
    feature_dim: Annotated[int, AtLeast(1), FROM_PIXELS] = 50
    """Length of the latent vector."""
    encoder_tau: Annotated[float, Within(0, 1), FROM_PIXELS, HAS_TARGET] = 0.05
    """Weight of the online encoder in each moving-average update of the target encoder."""
    conv_init: Annotated[Literal["delta_orthogonal", "orthogonal", "default"], FROM_PIXELS] = "delta_orthogonal"
    """Initialisation of convolutions. delta_orthogonal: orthogonal at the centre tap, zero elsewhere. orthogonal: the
    whole kernel. default: PyTorch's."""
    centre_pixels: Annotated[bool, FROM_PIXELS] = False
    """Scale pixels to [-0.5, 0.5] instead of [0, 1]."""
    latent_norm: Annotated[bool, FROM_PIXELS] = True
    """Apply LayerNorm to the latent vector."""
    latent_tanh: Annotated[bool, FROM_PIXELS] = True
    """Apply tanh to the latent vector."""
    encoder_from: Annotated[Path | None, FROM_PIXELS] = None
    """Run folder whose last checkpoint initialises the critic's encoder and the decoder, for example of another task;
    None: random initialisation."""
    freeze_encoder: Annotated[bool, FROM_PIXELS] = False
    """Do not train the critic's encoder (convolutions and projection): no loss updates it."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The reconstruction objective, which trains the encoder in addition to the critic's loss."""

    decoder: Literal["rae", "vae", "state", "none"] = "rae"
    """rae: the paper's regularised autoencoder. vae: a variational autoencoder. state: predict the state vector instead
    of the pixels. none: no reconstruction."""
    encoder_lr: Annotated[float, Above(0), DECODES, OnlyWhere(freeze_encoder=False, decoder="vae")] = 1e-3
    """Learning rate of the encoder for the reconstruction loss."""
    decoder_lr: Annotated[float, Above(0), DECODES] = 1e-3
    """Learning rate of the decoder."""
    decoder_update_freq: Annotated[int, AtLeast(1), DECODES] = 1
    """Update encoder and decoder on the reconstruction loss, and on the loss of --contrastive beside it, at every n-th
    update, or agent step if --gates is agent_steps. Without a decoder --contrastive learns at every update."""
    latent_penalty: Annotated[float, AtLeast(0), OnlyWhere(decoder=("rae", "state")), TRAINS_ENCODER] = 1e-6
    """Weight of half the squared length of the latent vector in the reconstruction loss."""
    vae_beta: Annotated[float, AtLeast(0), OnlyWhere(decoder="vae")] = 1e-7
    """Weight of the KL divergence in the VAE loss. The KL divergence is summed over the latent's dimensions; the
    squared error is averaged over all pixels."""
    decoder_weight_decay: Annotated[float, AtLeast(0), DECODES] = 1e-7
    """Adam weight decay (L2) of the decoder."""
    target_bits: Annotated[int, Within(1, 8), OnlyWhere(decoder=("rae", "vae"))] = 5
    """Bits per colour channel of the reconstruction target, 1 to 8."""
    target_dither: Annotated[bool, OnlyWhere(decoder=("rae", "vae"))] = True
    """Add uniform noise of one quantisation step to the reconstruction target; without it targets are rounded down."""
    penalise_before_tanh: Annotated[
        bool, OnlyWhere(decoder=("rae", "state")), OnlyWhere(latent_tanh=True), TRAINS_ENCODER
    ] = False
    """Apply the latent penalty to the latent vector before tanh instead of after it. After tanh no entry exceeds 1, and
    the gradient vanishes if tanh saturates."""
    dynamics: Annotated[bool, DECODES] = False
    """In addition to the reconstruction, predict the latent of the next observation from the latent and the action."""
    dynamics_weight: Annotated[float, AtLeast(0), DECODES, OnlyWhere(dynamics=True)] = 1.0
    """Weight of the mean squared error of the latent prediction of --dynamics."""
    dynamics_contrastive: Annotated[float, AtLeast(0), DECODES, OnlyWhere(dynamics=True)] = 0.0
    """Weight of a second loss of --dynamics: find the predicted latent among the batch's next latents (InfoNCE on their
    cosines), as in DR.Q, whose weight is 0.1; 0: without it."""
    dynamics_temperature: Annotated[float, Above(0), DECODES, OnlyWhere(dynamics=True), CONTRASTS_DYNAMICS] = 0.1
    """Temperature by which the cosines of --dynamics-contrastive are divided."""
    contrastive: Annotated[bool, AUGMENTS] = False
    """Train the encoder to tell by its latent which two augmentations are of one observation (InfoNCE, as in CURL), in
    addition to the decoder or without one; the second one's latent is the target encoder's."""
    contrastive_lr: Annotated[float, Above(0), AUGMENTS, OnlyWhere(contrastive=True)] = 1e-3
    """Learning rate of the contrastive loss, for the encoder and for the matrix between the latents."""
    pretrain_updates: Annotated[int, AtLeast(0), DECODES] = 0
    """Updates of the autoencoder alone, with the loss of --contrastive if that is on, when learning starts, before
    --initial-updates. They use the frames in the replay, which the random policy collected."""


@dataclass(frozen=True)
class HeadSettings:
    """The reinforcement learning algorithm."""

    DISCRETE_ACTIONS: ClassVar[bool] = False
    """Whether the algorithm chooses among discrete actions; a continuous task is then made discrete."""

    FEATURES_BEFORE_CRITIC: ClassVar[bool] = False
    """Whether the policy's loss gets the features from before the critic's step: obs is encoded once in an update."""

    PRESET: ClassVar[Mapping[str, Any]] = {}
    """Settings of any group whose defaults this head changes."""

    PRESET_FROM_PIXELS: ClassVar[Mapping[str, Any]] = {}
    """The defaults that it changes if obs is pixels."""

    PRESET_FROM_STATE: ClassVar[Mapping[str, Any]] = {
        "hidden_dim": 256,
        "critic_lr": 3e-4,
        "critic_tau": 0.005,
        "critic_target_update_freq": 1,
    }
    """The defaults that it changes if obs is state: the usual settings for state vectors, as in stable-baselines3."""

    agent: Annotated[str, OneOf(HEADS)] = "sac"
    """Reinforcement learning algorithm on the shared encoder."""
    hidden_dim: Annotated[int, AtLeast(1)] = 1024
    """Width of the two hidden layers of actor and critic."""
    discount: Annotated[float, Within(0, 1)] = 0.99
    """Discount factor gamma per agent step, 0 to 1."""
    critic_lr: Annotated[float, Above(0)] = 1e-3
    """Learning rate of the critic, encoder included."""
    critic_beta1: Annotated[float, Within(0, 1, below=True)] = 0.9
    """Adam beta1 of the critic."""
    critic_gradient: Annotated[bool, FROM_PIXELS, TRAINS_ENCODER] = True
    """Train the encoder with the gradient of the critic's loss."""
    critic_tau: Annotated[float, Within(0, 1), HAS_TARGET] = 0.01
    """Weight of the online network in each moving-average update of a target network: of the Q functions, of V for
    sac_v, also of the actor for td3 and ddpg. Encoders use --encoder-tau."""
    critic_target_update_freq: Annotated[int, AtLeast(1), HAS_TARGET] = 2
    """Update the targets at every n-th update, or agent step if --gates is agent_steps."""
    max_grad_norm: Annotated[float, AtLeast(0)] = 0.0
    """Bound on gradient norms, applied separately to each Q or value function, the shared encoder, the actor and the
    temperature; 0: no bound."""

    @classmethod
    def preset(cls, from_state: bool, given: Mapping[str, Any]) -> dict[str, Any]:
        """The presets of this class and its bases; a derived class overrides its bases. given: the user's settings."""
        of_observation = "PRESET_FROM_STATE" if from_state else "PRESET_FROM_PIXELS"
        classes = [vars(kind) for kind in reversed(cls.__mro__)]
        presets = [of.get(name, {}) for name in (of_observation, "PRESET") for of in classes]
        return {name: value for preset in presets for name, value in preset.items()}


@dataclass(frozen=True)
class ReplayConfig:
    """The replay, and how batches are sampled from it."""

    replay_capacity: Annotated[int | None, AtLeast(1)] = None
    """Maximum number of transitions in the replay, at least --batch-size; None: room for every transition of the
    run."""
    replay_device: Annotated[Literal["auto", "device", "host"], CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = "auto"
    """Where the replay stores frames: on the training device, in host memory, or (auto) on the device if they fit."""
    batch_size: Annotated[int, AtLeast(1)] = 128
    """Number of transitions in each update."""
    augment: Annotated[Literal["none", "shift", "crop", "color", "window", "translate"], FROM_PIXELS] = "none"
    """Random augmentation of the images of each update. shift: by up to 4 pixels, repeating the border. crop: a window
    of 0.9 of the image's size, scaled back. color: brightness, contrast, saturation and hue. window: a window of
    --window-size, not scaled. translate: the central --window-size at a random place of a black image. With crop,
    window and translate the policy acts on the window in the middle. The default of --image-size is 100 for window and
    108 for translate."""
    window_size: Annotated[
        int | None,
        Within(40, 128),
        OnlyWhere(augment=("window", "translate")),
        Must("at most image_size", lambda s: s["window_size"] is None or s["window_size"] <= s["image_size"]),
    ] = None
    """Height and width of the window of --augment window and translate; None: 84 for images of 100, and 100 for images
    of 108, in proportion."""
    target_image: Annotated[Literal["augmented", "clean"], AUGMENTS, OnlyWhere(decoder=("rae", "vae"))] = "augmented"
    """What the decoder reconstructs of an augmented image. augmented: what the encoder saw. clean: what the policy
    would act on."""
    critic_views: Annotated[int, AtLeast(1), AUGMENTS, HAS_VIEWS] = 1
    """Augmentations of each observation in the critic's loss, M of DrQ, whose errors are added; the actor and the
    decoder see the first."""
    target_views: Annotated[int, AtLeast(1), AUGMENTS, HAS_VIEWS] = 1
    """Augmentations of each next observation, K of DrQ, over which the critic's target is averaged."""
    n_step: Annotated[int, AtLeast(1)] = 1
    """Number of rewards summed before the critic's target bootstraps; SAC's sums leave out the entropies in between."""


@dataclass(frozen=True)
class CausalConfig:
    """Schedule of the fits for --causal-entropy, and soft resets of policy and critic."""

    causal_every: Annotated[int, AtLeast(1), WEIGHS_OR_RESETS] = 10_000
    """Environment steps between two fits of the causal effects (--causal-entropy), and between two measurements of the
    policy's dormancy (also with --soft-reset)."""
    causal_samples: Annotated[int, AtLeast(1), WEIGHS_ENTROPY] = 10_000
    """Number of most recent transitions used in a fit of the causal effects; the first fit waits until that many are
    stored."""
    causal_delay: Annotated[int, AtLeast(0), WEIGHS_ENTROPY] = 1000
    """Agent steps between the start of a causal fit and the use of its weights; the fit runs in parallel with
    training."""
    soft_reset: Annotated[
        Literal["off", "reset", "causal_reset", "dormant_reset", "causal_dormant_reset"], OnlyWhere(agent="sac")
    ] = "off"
    """Move policy and critic towards newly initialised parameters every --reset-every updates. How far they move
    depends on the policy's dormancy or, with causal_, on the difference of the entropy weights. With dormant_, only the
    policy's dormant neurons move."""
    reset_every: Annotated[int, AtLeast(1), RESETS] = 100_000
    """Updates between two soft resets."""
    dormancy_threshold: Annotated[float, AtLeast(0), WEIGHS_OR_RESETS] = 0.05
    """A neuron is dormant if its gradient norm is at most this fraction of its layer's mean."""


@dataclass(frozen=True)
class RunConfig:
    """Length of the run, evaluations, checkpoints, device and run folder."""

    seed: Annotated[int, Within(0, LARGEST_SEED), NO_ARM, InExperiments("--seeds")] = 1
    """Random seed of the whole run."""
    num_train_steps: Annotated[int, AtLeast(1), CHANGEABLE_ON_RESUME, NO_ARM] = 500_000
    """Length of the run in environment steps (agent steps times action repeat)."""
    num_envs: Annotated[int, Within(1, MOST_PROCESSES)] = 1
    """Number of training environments that step in parallel; the steps of all of them count."""
    eval_every: Annotated[int, AtLeast(1), CHANGEABLE_ON_RESUME, NO_ARM] = 10_000
    """Environment steps between two evaluations; there is also one before the first step and one after the last."""
    num_eval_episodes: Annotated[int, Within(1, MOST_EPISODES), CHANGEABLE_ON_RESUME, NO_ARM] = 10
    """Episodes per evaluation, played without exploration."""
    num_eval_envs: Annotated[int, Within(1, MOST_PROCESSES), CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = 1
    """Evaluation episodes that run side by side; more than one can change the last digits of the actions through
    rounding."""
    max_env_errors: Annotated[int, AtLeast(0), CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = 10
    """Errors of a training environment in a row that cut off its episode and no more. One more ends the run; an episode
    that ends by itself starts the count anew."""
    save_video: Annotated[bool, CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = True
    """Record the first episode of each evaluation."""
    checkpoint_every: Annotated[int, AtLeast(1), CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = 10_000
    """Environment steps between two checkpoints; there is also one at the end and on Ctrl-C."""
    logger: Annotated[Literal["none", "wandb", "mlflow"], CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = "none"
    """Experiment tracker beside the CSV files and TensorBoard: Weights & Biases or MLflow, each with the extra of its
    name. Their own environment variables set them up, such as WANDB_MODE=offline and MLFLOW_TRACKING_URI."""
    keep_checkpoints: Annotated[int, AtLeast(0), CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = 0
    """Number of newest checkpoints whose networks are kept, to be played, loaded or exported with their step."""
    keep_every: Annotated[int | None, AtLeast(1), CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = None
    """Also keep, for good, the networks of the first checkpoint at or after each multiple of this many environment
    steps; None: of none."""
    device: Annotated[str, CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = "auto"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps (Apple; not tested); auto is the first CUDA GPU, or the CPU
    if there is none."""
    num_threads: Annotated[int, Within(0, MOST_PROCESSES), CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = 0
    """Number of CPU threads for PyTorch; 0: PyTorch's default, one per core."""
    deterministic: Annotated[bool, CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = False
    """Use only algorithms that give the same bits each time (slower on a GPU); a resumed run then equals one that was
    never stopped. On a CPU it does with or without this flag."""
    work_dir: Annotated[Path | None, NOT_COMPARED, NO_ARM, InExperiments("--work-dir")] = None
    """Run folder; None: runs/<task>/<agent>-<rae, vae, state_decoder, none or state>/<seed>."""


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Length of the run, schedule of updates, evaluations, checkpoints, device and run folder."""

    preset: Annotated[Literal["sac_ae", "laptop", "drq", "drqv2", "rad", "curl"], NOT_COMPARED, NO_ARM] = "sac_ae"
    """Named set of settings; flags that are given override it. sac_ae: the paper's. laptop: small images and networks
    for two CPU cores. drq, drqv2, rad, curl: the algorithm of that name and its authors' settings. All but sac_ae are
    for pixels only."""
    overlap: Annotated[bool, CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = True
    """Step each environment in a separate process while the agent updates; results are the same to the last bit."""
    seed_steps: Annotated[int, AtLeast(0)] = 1000
    """Agent steps with random actions at the start of the run."""
    learning_starts: Annotated[int | None, AtLeast(0)] = None
    """Agent steps before the first update; None: --seed-steps. Learning also waits until the replay holds --batch-size
    transitions."""
    initial_updates: Annotated[int, AtLeast(0)] = 1000
    """Updates made at once when learning starts, in addition to those of --updates-per-step."""
    updates_per_step: Annotated[float, Above(0)] = 1.0
    """Updates per agent step of each environment (the replay ratio); 0.25 makes one update every four steps."""
    update_every: Annotated[int, AtLeast(1)] = 1
    """Agent steps between two blocks of updates: 50 with --updates-per-step 1 makes 50 updates every 50 steps."""
    gates: Literal["updates", "agent_steps"] = "updates"
    """What --actor-update-freq, --critic-target-update-freq and --decoder-update-freq count. updates: every update.
    agent_steps: agent steps of each environment since learning started, as in the SAC-AE authors' code; the count is 0
    during the initial updates, so actor and targets are updated at each of them."""
    save_replay: Annotated[bool, CHANGEABLE_ON_RESUME, NOT_COMPARED, NO_ARM] = True
    """Save the replay in checkpoints; a run that is resumed from one without it starts with an empty replay."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Precision of the networks: fp32, tf32 (GPU only), bf16 (parameters, values and losses stay float32), or auto:
    bf16 from pixels on a GPU of compute capability 8.0 or higher or a CPU with AMX_BF16 or AVX512_BF16, else fp32."""
    compile: bool = False
    """Compile the losses with torch.compile: slower to start; then about a tenth faster on a GPU where updates are not
    captured, and no faster on the CPU that was measured."""
    capture: Annotated[bool | None, NO_ARM] = None
    """Run each update as a captured CUDA graph (GPU only): faster, because the CPU starts a whole update at once, not
    each operation. --capture, --no-capture, or None: on a CUDA device where no setting forbids it and a test at the
    start agrees with uncaptured updates."""
