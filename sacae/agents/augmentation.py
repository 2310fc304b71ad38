"""Image augmentation inside the update, on the device: uint8 observations in, uint8 observations out.

shift: Kostrikov et al. 2020 (DrQ, arXiv:2004.13649). window, translate, color: Laskin et al. 2020 (RAD,
arXiv:2004.14990); crop is RAD's window, scaled back to the image's size. Every frame of a stack is changed alike.
"""

import dataclasses
from typing import TypeVar

import torch
from torch.nn import functional as F

from sacae.config import Config
from sacae.groups import ReplayConfig
from sacae.types import Batch, EnvSpec, Noise

PAD = 4
"""Pixels by which `shift` moves an image at most; its border is repeated."""

WINDOW = 0.9
"""Height and width of the window of `crop`, as a share of the image's."""

JITTER = 0.4
"""`color` scales brightness, contrast and saturation by 1 plus or minus at most this, and turns the hue by at most half
of it, in radians."""

NUM_DRAWS = 4
"""Uniform random numbers that each image of a batch takes, whatever the augmentation."""


SHARES = {"window": 84 / 100, "translate": 100 / 108}
"""Height and width of the window where `window_size` is None, as a share of the image's."""


def window_size(replay: ReplayConfig, image_size: int) -> int:
    """Height and width of the window of `window` and `translate`."""
    return replay.window_size or round(SHARES[replay.augment] * image_size)


def encoded_spec(spec: EnvSpec, config: Config) -> EnvSpec:
    """The specification of what the encoder sees: smaller images with `--augment window`, else the environment's."""
    if config.replay.augment != "window":
        return spec
    channels, height, _ = spec.frame_shape
    return dataclasses.replace(spec, frame_shape=(channels, *2 * [window_size(config.replay, height)]))


def what_acting_sees(replay: ReplayConfig) -> tuple[str, int | None]:
    """Equal for settings with which acting sees the same of an image."""
    return (replay.augment, replay.window_size) if replay.augment in ("crop", "window", "translate") else ("none", None)


class Augmentation:
    """What `--augment` makes of the images of an update, and what acting sees in their place.

    encoded_spec: as spec, of what it returns. critic_views, target_views: how many views of each obs and of each
    next_obs an update sees.
    """

    def __init__(self, spec: EnvSpec, config: Config) -> None:
        replay, self._channels = config.replay, spec.frame_shape[0]
        self.kind, self.encoded_spec = replay.augment, encoded_spec(spec, config)
        self._window = window_size(replay, spec.frame_shape[-1]) if self.kind in SHARES else 0
        self.critic_views, self.target_views, self._positives = config.views
        self._clean = config.autoencoder.decoder in ("rae", "vae") and replay.target_image == "clean"

    def draw(self, batch_size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The draws for every view, by fields of Noise, on the generator's device."""
        if self.kind == "none":
            return {}
        shape = self.critic_views + self.target_views + self._positives, batch_size, NUM_DRAWS
        return {"augmentation": torch.rand(shape, generator=generator, device=generator.device)}

    def __call__(self, batch: Batch, noise: Noise) -> Batch:
        """The batch with its images augmented: the views of obs and those of next_obs, each one after another."""
        if noise.augmentation is None:
            return batch
        of_obs, of_next_obs, of_positive = noise.augmentation.split(
            [self.critic_views, self.target_views, self._positives]
        )
        if self.kind == "translate":  # obs and next_obs of a transition lie at one place
            of_next_obs = torch.stack([of_obs[k % self.critic_views] for k in range(self.target_views)])
        return batch._replace(
            obs=self._views(batch.obs, of_obs),
            next_obs=self._views(batch.next_obs, of_next_obs),
            positive=self._views(batch.obs, of_positive) if self._positives else None,
            clean=self.seen(batch.obs) if self._clean else None,
            state=repeated(batch.state, self.critic_views),
            next_state=repeated(batch.next_state, self.target_views),
        )

    @property
    def has_views(self) -> bool:
        """Whether there are several views of obs or next_obs."""
        return max(self.critic_views, self.target_views) > 1

    def first_view(self, batch: Batch, batch_size: int) -> Batch:
        """An augmented batch with the first view alone of what has several."""
        obs, next_obs = batch.obs[:batch_size], batch.next_obs[:batch_size]
        state, next_state = (x if x is None else x[:batch_size] for x in (batch.state, batch.next_state))
        return batch._replace(obs=obs, next_obs=next_obs, state=state, next_state=next_state)

    def _views(self, obs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """(B, ...), (views, B, NUM_DRAWS) -> (views * B, ...)."""
        return augment(self.kind, obs, draws.flatten(0, 1), self._channels, self._window)

    def seen(self, obs: torch.Tensor) -> torch.Tensor:
        """Observations as acting sees them: the window in the middle where `--augment` cuts one, else unchanged."""
        if self.kind == "crop":
            return centre_crop(obs)
        if self.kind not in SHARES:
            return obs
        # Without the gather of the random places, which is slower and cannot be exported.
        first = (obs.shape[-1] - self._window) // 2
        last = first + self._window
        middle = obs[..., first:last, first:last]
        return middle if self.kind == "window" else F.pad(middle, [first, obs.shape[-1] - last] * 2)


T = TypeVar("T", torch.Tensor, torch.Tensor | None)


def repeated(rows: T, views: int) -> T:
    """What belongs to each observation, (B, D), once for each of its views: (views * B, D). None stays None."""
    return rows if rows is None or views == 1 else rows.repeat(views, 1)


def augment(kind: str, obs: torch.Tensor, draws: torch.Tensor, channels: int, size: int = 0) -> torch.Tensor:
    """Augmented observations.

    obs: uint8 (B, K * channels, H, W). draws: uniform in [0, 1), float32 (B, NUM_DRAWS), or for several views of each
    observation (views * B, NUM_DRAWS). size: of the window of `window` and `translate`. Returns an image for each row
    of draws, of the window's size for `window`, else of the image's.
    """
    if kind == "shift":
        return shift(obs, draws)
    if kind in SHARES:
        corner = (draws[:, :2] * (obs.shape[-1] - size + 1)).long()
        return window(obs, corner, size) if kind == "window" else translate(obs, corner, size)
    obs = obs.repeat(len(draws) // len(obs), 1, 1, 1)
    if kind == "crop":
        room = obs.shape[-1] - _window(obs)
        return _crop(obs, (draws[:, :2] * (room + 1)).floor())
    return jitter(obs, draws, channels)


def window(obs: torch.Tensor, corner: torch.Tensor, size: int) -> torch.Tensor:
    """The window of that size whose upper left corner lies at (y, x), int64 (n, 2), of each image. As `_gather`."""
    return _gather(obs, *(corner[:, axis, None] + torch.arange(size, device=obs.device) for axis in (0, 1)))


def translate(obs: torch.Tensor, corner: torch.Tensor, size: int) -> torch.Tensor:
    """The central window of each image, its upper left corner moved to (y, x) of a black image of the image's size.

    corner: int64 (n, 2). As `_gather`.
    """
    margin = (obs.shape[-1] - size) // 2
    inside = [torch.arange(obs.shape[-1], device=obs.device) - corner[:, axis, None] for axis in (0, 1)]
    rows, columns = ((place >= 0) & (place < size) for place in inside)
    images = _gather(obs, *(margin + place.clamp(0, size - 1) for place in inside))
    return images * (rows[:, None, :, None] & columns[:, None, None, :])


def shift(obs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Moves each image by up to PAD pixels in each direction, repeating its border. As `augment`.

    This is the window of the image's size at a random place of the image with PAD more pixels of its border around it,
    every place as likely as another, without making that larger image.
    """
    offset = (draws[:, :2] * (2 * PAD + 1)).long() - PAD
    rows, columns = (
        (torch.arange(size, device=obs.device) + offset[:, axis : axis + 1]).clamp(0, size - 1)
        for axis, size in enumerate(obs.shape[-2:])
    )
    return _gather(obs, rows, columns)


def _gather(obs: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The given rows (n, h) and columns (n, w) of images (B, C, H, W), n a multiple of B: (n, C, h, w)."""
    image = torch.arange(len(rows), device=obs.device).remainder(len(obs))[:, None, None]
    return obs[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def centre_crop(obs: torch.Tensor) -> torch.Tensor:
    """What `crop` shows where nothing is random: the window in the middle, scaled back to the image's size."""
    corner = torch.full((len(obs), 2), (obs.shape[-1] - _window(obs)) / 2, device=obs.device)
    return _crop(obs, corner)


def _window(obs: torch.Tensor) -> int:
    return round(WINDOW * obs.shape[-1])


def _crop(obs: torch.Tensor, corner: torch.Tensor) -> torch.Tensor:
    """The window whose upper left corner lies at (y, x), (B, 2) in pixels, scaled back to the image's size."""
    from kornia.geometry.transform import crop_and_resize

    far = _window(obs) - 1
    y, x = corner.unbind(1)
    corners = torch.stack([torch.stack([x + dx, y + dy], 1) for dx, dy in ((0, 0), (far, 0), (far, far), (0, far))], 1)
    height, width = obs.shape[-2:]
    return _to_bytes(crop_and_resize(obs.float(), corners, (height, width)) / 255)


def jitter(obs: torch.Tensor, draws: torch.Tensor, channels: int) -> torch.Tensor:
    """Scales brightness and contrast, and of coloured frames saturation, and turns their hue. As `augment`.

    Contrast is scaled about the mean of the whole stack, so that it changes no brightness and frames stay comparable.
    """
    from kornia import enhance

    amount = JITTER * (2 * draws - 1)
    images = enhance.adjust_brightness_accumulative(obs / 255, 1 + amount[:, 0])
    # kornia's contrast about a mean takes each frame's own, and before 0.9 of grey frames the whole batch's.
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (mean + (1 + amount[:, 1, None, None, None]) * (images - mean)).clamp(0, 1)
    if channels == 3:
        images = images.reshape(-1, channels, *obs.shape[-2:])
        amount = amount.repeat_interleave(obs.shape[1] // channels, 0)
        images = enhance.adjust_saturation(images, 1 + amount[:, 2])
        images = enhance.adjust_hue(images, amount[:, 3] / 2)
    return _to_bytes(images).reshape(obs.shape)


def _to_bytes(images: torch.Tensor) -> torch.Tensor:
    return (255 * images).round().clamp(0, 255).to(torch.uint8)
