"""Image augmentation inside the update, on the device: uint8 observations in, uint8 observations out.

shift: Kostrikov et al. 2020 (DrQ, arXiv:2004.13649). crop, color: Laskin et al. 2020 (RAD, arXiv:2004.14990), the crop
scaled back to the image's size. Every frame of a stack is changed alike.
"""

import torch

from sacae.types import Batch

PAD = 4
"""Pixels by which `shift` moves an image at most; its border is repeated."""

WINDOW = 0.9
"""Height and width of the window of `crop`, as a share of the image's."""

JITTER = 0.4
"""`color` scales brightness, contrast and saturation by 1 plus or minus at most this, and turns the hue by at most half
of it, in radians."""

NUM_DRAWS = 4
"""Uniform random numbers that each image of a batch takes, whatever the augmentation."""


def augment(kind: str, obs: torch.Tensor, draws: torch.Tensor, channels: int) -> torch.Tensor:
    """Augmented observations.

    obs: uint8 (B, K * channels, H, W). draws: uniform in [0, 1), float32 (B, NUM_DRAWS). Returns the shape of obs.
    """
    if kind == "shift":
        return shift(obs, draws)
    if kind == "crop":
        room = obs.shape[-1] - _window(obs)
        return _crop(obs, (draws[:, :2] * (room + 1)).floor())
    return jitter(obs, draws, channels)


def draw_augmentation(batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """The draws for obs and for next_obs, on the generator's device: uniform in [0, 1), float32 (2, B, NUM_DRAWS)."""
    return torch.rand((2, batch_size, NUM_DRAWS), generator=generator, device=generator.device)


def augment_batch(kind: str, batch: Batch, draws: torch.Tensor, channels: int) -> Batch:
    """A batch with its images augmented, obs and next_obs by draws of their own. draws: as `draw_augmentation`."""
    of_obs, of_next_obs = draws
    return batch._replace(
        obs=augment(kind, batch.obs, of_obs, channels), next_obs=augment(kind, batch.next_obs, of_next_obs, channels)
    )


def shift(obs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Moves each image by up to PAD pixels in each direction, repeating its border. As `augment`."""
    batch_size, _, height, width = obs.shape
    offset = (draws[:, :2] * (2 * PAD + 1)).long() - PAD
    rows, columns = (
        (torch.arange(size, device=obs.device) + offset[:, axis : axis + 1]).clamp(0, size - 1)
        for axis, size in enumerate((height, width))
    )
    batch = torch.arange(batch_size, device=obs.device)[:, None, None]
    return obs[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


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
