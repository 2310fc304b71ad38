"""Augmentation: what each kind does to an image, and where it happens."""

import math
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sacae import config as configs
from sacae.agents import HEADS, make_agent
from sacae.agents.augmentation import JITTER, PAD, augment, centre_crop, encoded_spec, jitter, shift
from sacae.agents.contrastive import info_nce
from sacae.errors import UserError
from sacae.training.views import feature_maps, look
from sacae.types import Batch, EnvSpec
from tests.agents.conftest import noise_for, update_only

KINDS = ("shift", "crop", "color")


@pytest.fixture
def obs():
    return torch.randint(0, 256, (6, 9, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def draws():
    return torch.rand(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_augmented_batch_has_shape_and_dtype_of_the_images_and_differs(kind, obs, draws):
    changed = augment(kind, obs, draws, 3)
    assert changed.shape == obs.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, obs)
    assert torch.equal(changed, augment(kind, obs, draws, 3))


def test_a_shift_is_a_crop_of_the_image_with_its_border_repeated(obs, draws):
    padded = F.pad(obs.float(), [PAD] * 4, mode="replicate")
    for image, one, (y, x) in zip(padded, shift(obs, draws), (draws[:, :2] * (2 * PAD + 1)).long().tolist()):
        assert torch.equal(one.float(), image[:, y : y + 48, x : x + 48])


def test_shifts_reach_every_offset():
    obs = torch.arange(48, dtype=torch.uint8).repeat(1, 1, 48, 1).expand(4000, 3, 48, 48)
    draws = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0))
    assert set(shift(obs, draws)[:, 0, 0, 24].tolist()) == set(range(24 - PAD, 24 + PAD + 1))


def test_crops_stay_inside_and_the_centre_one_is_in_the_middle(obs):
    ramp = torch.arange(48, dtype=torch.uint8).mul(5).repeat(2, 9, 48, 1)
    first, last = (augment("crop", ramp, torch.full((2, 4), u), 3) for u in (0.0, 0.999))
    assert (first[0, 0, 0, 0], first[0, 0, 0, -1]) == (0, 42 * 5)
    assert (last[0, 0, 0, 0], last[0, 0, 0, -1]) == (5 * 5, 47 * 5)
    centre = centre_crop(ramp)[0, 0, 0].float()
    torch.testing.assert_close(centre, 235 - centre.flip(0), atol=1, rtol=0)
    assert torch.equal(centre_crop(obs), centre_crop(obs))


def test_colours_change_alike_in_every_frame_of_a_stack_and_not_at_all_in_the_middle(obs, draws):
    stack = obs[:, :3].repeat(1, 3, 1, 1)
    changed = jitter(stack, draws, 3)
    for k in (1, 2):
        assert torch.equal(changed[:, :3], changed[:, 3 * k : 3 * k + 3])
    same = jitter(obs, torch.full((6, 4), 0.5), 3)
    assert (same.int() - obs.int()).abs().max() <= 1


def only(which, draw):
    """Draws that change one of brightness, contrast, saturation and hue, and leave the others."""
    draws = torch.full((6, 4), 0.5)
    draws[:, which] = draw
    return draws


BRIGHTNESS, CONTRAST = 0, 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("draw", "factor"), [(0.0, 1 - JITTER), (1.0, 1 + JITTER)])
def test_brightness_multiplies_the_mean_and_contrast_leaves_it_and_multiplies_the_spread(obs, draw, factor, channels):
    obs = 64 + obs // 4  # 64 to 127, so that nothing is clamped
    for which, mean, spread in ((BRIGHTNESS, factor, factor), (CONTRAST, 1, factor)):
        changed = jitter(obs, only(which, draw), channels).float().flatten(1)
        torch.testing.assert_close(changed.mean(1), mean * obs.float().flatten(1).mean(1), rtol=0, atol=0.2)
        torch.testing.assert_close(changed.std(1), spread * obs.float().flatten(1).std(1), rtol=0.01, atol=0)


@pytest.mark.parametrize(("frames", "channels"), [(9, 1), (3, 3)])
@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_equal_pixels_of_a_stack_stay_equal_whatever_else_is_in_their_frames(obs, draw, frames, channels):
    stack = obs.reshape(6, frames, channels, 48, 48) // torch.arange(1, frames + 1)[:, None, None, None]  # ever darker
    stack[..., :8, :8] = 100
    for which in (BRIGHTNESS, CONTRAST):
        corner = jitter(stack.flatten(1, 2).byte(), only(which, draw), channels)[..., :8, :8].flatten(1)
        assert torch.equal(corner, corner[:, :1].expand_as(corner))
        assert (corner[:, 0] != 100).all()


def test_an_image_of_a_batch_does_not_change_with_the_others(obs, draws):
    for channels in (1, 3):
        assert torch.equal(jitter(obs, draws, channels)[:1], jitter(obs[:1], draws[:1], channels))


def test_grey_frames_can_be_jittered(draws):
    obs = torch.randint(0, 256, (6, 4, 48, 48), dtype=torch.uint8)
    assert jitter(obs, draws, 1).shape == obs.shape


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_learns_on_augmented_images_and_acts_without_randomness(kind, make_small_agent, batch, monkeypatch):
    agent = make_small_agent(augment=kind, actor_update_freq=1)
    noise = noise_for(agent)
    assert noise.augmentation.shape == (2, 5, 4)
    seen = []
    target = agent.reconstruction.target
    monkeypatch.setattr(agent.reconstruction, "target", lambda obs, noise: seen.append(obs) or target(obs, noise))
    metrics = agent.update(batch, noise)
    assert torch.equal(seen[0], augment(kind, batch.obs, noise.augmentation[0], 3))
    assert all(torch.isfinite(value) for value in metrics.values())
    assert torch.equal(agent.act(batch.obs), agent.act(batch.obs))
    looked_at = centre_crop(batch.obs) if kind == "crop" else batch.obs
    plain = make_small_agent()
    plain.load_state_dict(agent.state_dict())
    torch.testing.assert_close(agent.act(batch.obs), plain.act(looked_at))
    torch.testing.assert_close(agent.latent(batch.obs), plain.latent(looked_at))
    for ours, theirs in zip(feature_maps(agent, batch.obs), feature_maps(plain, looked_at), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_augmentation_of_state_vectors_is_refused():
    with pytest.raises(UserError, match="augment is shift, but obs is state"):
        configs.make(obs="state", augment="shift")


# Several views of an observation (DrQ).


def loss_of(agent, batch, noise):
    """The critic's loss in one update of the critic alone, which changes nothing else of it."""
    return update_only(agent, "critic", batch, noise)["critic_loss"]


@pytest.mark.parametrize("agent", ["sac", "td3", "ddpg"])
def test_the_critics_loss_adds_views_of_obs_and_its_target_averages_views_of_next_obs(agent, make_small_agent, batch):
    settings = {"agent": agent, "augment": "shift", "decoder": "none", "critic_lr": 1e-9}
    one, several = make_small_agent(**settings), make_small_agent(**settings, critic_views=3, target_views=2)
    noise = noise_for(several)
    assert noise.augmentation.shape == (5, 5, 4)
    next_noise = [None] * 2 if agent == "ddpg" else noise.next_action.chunk(2)
    targets, summed = [], 0.0
    for k in range(2):  # the target of each view of next_obs, read off a critic that answers 0
        seen = noise._replace(augmentation=noise.augmentation[[0, 3 + k]], next_action=next_noise[k])
        targets.append(target_of(one, one.augmentation(batch, seen), seen))
    mean = sum(targets) / 2
    for k in range(3):
        q = one.head.critic(one.encoder.features(one.encoder.prepare(
            augment("shift", batch.obs, noise.augmentation[k], 3))), batch.action)  # fmt: skip
        summed += (q - mean).square().mean((1, 2)).sum()
    torch.testing.assert_close(loss_of(several, batch, noise), summed.detach())


def target_of(agent, batch, noise):
    """The target (B, 1) of an agent's critic loss."""
    seen = []
    module = sys.modules[type(agent.head).__module__]
    original = module.bellman_error
    module.bellman_error = lambda q, target, batch: seen.append(target) or original(q, target, batch)
    try:
        prepared = batch._replace(obs=agent.encoder.prepare(batch.obs), next_obs=agent.encoder.prepare(batch.next_obs))
        agent.head.critic_loss(agent.encoder.features(prepared.obs), prepared, noise)
    finally:
        module.bellman_error = original
    return seen[0]


@pytest.mark.parametrize("name", [name for name in HEADS if name != "sac_v"])
def test_every_head_but_sac_v_learns_from_several_views(name, small_settings):
    discrete = HEADS[name].settings.DISCRETE_ACTIONS
    spec = EnvSpec((3, 48, 48), "uint8", 3, 2, num_actions=3 if discrete else None)
    views = {"critic_views": 2, "target_views": 3}
    agent = make_agent(spec, configs.make(**small_settings, agent=name, augment="shift", **views))
    generator = torch.Generator().manual_seed(0)
    obs, next_obs = torch.randint(0, 256, (2, 5, 9, 48, 48), dtype=torch.uint8, generator=generator)
    action = torch.randint(3, (5, 2)) if discrete else torch.rand(5, 2)
    batch = Batch(obs, action, torch.rand(5, 1), torch.full((5, 1), 0.99), next_obs)
    for _ in range(2):
        metrics = agent.update(batch, agent.draw_noise(generator))
    assert set(metrics) == set(agent.metric_names)
    agent.check_finite()


def test_views_are_refused_without_augmentation_and_for_a_head_that_has_none():
    with pytest.raises(UserError, match="critic_views is 2, but augment is none"):
        configs.make(critic_views=2)
    with pytest.raises(UserError, match="target_views is 2, but agent is sac_v"):
        configs.make(agent="sac_v", augment="shift", target_views=2)


def test_the_actor_sees_the_first_view_of_obs(make_small_agent, batch, monkeypatch):
    agent = make_small_agent(augment="shift", critic_views=2, decoder="none")
    seen, noise = [], noise_for(agent)
    policy_loss = agent.head.policy_loss
    monkeypatch.setattr(agent, "_policy_loss", lambda own, *rest: seen.append(own) or policy_loss(own, *rest))
    update_only(agent, "policy", batch, noise)
    first = shift(batch.obs, noise.augmentation[0])
    torch.testing.assert_close(seen[0], agent.encoder.features(agent.encoder.prepare(first)).detach(), atol=0.1, rtol=1)
    assert len(seen[0]) == 5


def test_a_random_shift_is_distributed_as_kornias_random_crop_after_replicate_padding():
    """The windows' corners are uniform over the same 9 x 9 places, independent in both directions (chi-squared)."""
    from kornia.augmentation import RandomCrop

    count, places = 8100, (2 * PAD + 1) ** 2
    rows = torch.arange(48)[:, None] * torch.ones(48)
    obs = torch.stack([rows, rows.T, rows]).byte().expand(count, 3, 48, 48)
    torch.manual_seed(0)
    padded = F.pad(obs[:1].float(), [PAD] * 4, mode="replicate").expand(count, 3, 48 + 2 * PAD, 48 + 2 * PAD)
    theirs = RandomCrop((48, 48))(padded).round()
    ours = augment("shift", obs, torch.rand(count, 4, generator=torch.Generator().manual_seed(1)), 3)
    for images in (ours, theirs):
        y, x = (images[:, axis, 24, 24].long() - 24 + PAD for axis in (0, 1))
        counted = torch.bincount(y * (2 * PAD + 1) + x, minlength=places)
        assert len(counted) == places
        expected = count / places
        chi_squared = ((counted - expected).square() / expected).sum()
        assert chi_squared < 125  # 80 degrees of freedom: exceeded once in a thousand times


# Windows, cut out of larger frames, and moved within black ones (RAD, CURL).


def corners(draws, room):
    return (draws[:, :2] * (room + 1)).long().tolist()


def test_a_window_is_cut_out_unscaled_at_every_place_of_the_frame(obs, draws):
    for image, one, (y, x) in zip(obs, augment("window", obs, draws, 3, 40), corners(draws, 8)):
        assert torch.equal(one, image[:, y : y + 40, x : x + 40])
    ramp = torch.arange(48, dtype=torch.uint8).repeat(1, 1, 48, 1).expand(2000, 3, 48, 48)
    many = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0))
    assert set(augment("window", ramp, many, 3, 40)[:, 0, 0, 0].tolist()) == set(range(9))


def test_a_translated_image_is_the_frames_middle_in_a_black_one(obs, draws):
    for image, one, (y, x) in zip(obs, augment("translate", obs, draws, 3, 40), corners(draws, 8)):
        expected = torch.zeros_like(image)
        expected[:, y : y + 40, x : x + 40] = image[:, 4:44, 4:44]
        assert torch.equal(one, expected)


@pytest.mark.parametrize("kind", ["shift", "window", "translate"])
def test_obs_and_next_obs_lie_at_places_of_their_own_except_when_translated(kind, make_small_agent, batch):
    agent = make_small_agent(augment=kind, decoder="none", target_views=2)
    same = batch._replace(next_obs=batch.obs)
    augmented = agent.augmentation(same, noise_for(agent))
    first, second = augmented.next_obs.chunk(2)
    assert torch.equal(augmented.obs, first) == (kind == "translate")
    assert torch.equal(augmented.obs, second) == (kind == "translate")


@pytest.mark.parametrize(("kind", "image_size", "encoded"), [("window", 48, 40), ("translate", 48, 48)])
def test_acting_sees_the_window_in_the_middle(kind, image_size, encoded, make_small_agent, batch):
    agent = make_small_agent(augment=kind, window_size=40, image_size=image_size)
    middle = batch.obs[..., 4:44, 4:44]
    expected = middle if kind == "window" else F.pad(middle, [4] * 4)
    assert torch.equal(agent.seen(batch.obs), expected)
    assert agent.encoded_spec.frame_shape == (3, encoded, encoded)
    assert agent.act(batch.obs).shape == (5, 2)
    assert agent.decoder(agent.latent(batch.obs)).shape == (5, 9, encoded, encoded)
    assert feature_maps(agent, batch.obs)[0].shape[-1] == (encoded - 3) // 2 + 1
    view = look(agent, [*batch.obs.numpy()], seed=0)
    assert view.obs.shape[1:] == view.target.shape[1:] == view.reconstruction.shape[1:] == (9, encoded, encoded)


@pytest.mark.parametrize("kind", [*KINDS, "window", "translate"])
def test_the_decoder_reconstructs_what_the_encoder_saw_or_what_acting_would_see(kind, make_small_agent, batch):
    for target_image in ("augmented", "clean"):
        agent = make_small_agent(augment=kind, target_image=target_image)
        noise, seen = noise_for(agent), []
        target = agent.reconstruction.target
        agent.reconstruction.target = lambda obs, noise, seen=seen, target=target: (
            seen.append(obs) or target(obs, noise)
        )
        agent.update(batch, noise)
        augmented = agent.augmentation(batch, noise).obs
        assert torch.equal(seen[0], agent.seen(batch.obs) if target_image == "clean" else augmented)


@pytest.mark.parametrize(
    ("settings", "image_size", "encoded"),
    [
        ({"augment": "window"}, 100, 84),
        ({"augment": "translate"}, 108, 108),
        ({"augment": "window", "preset": "laptop"}, 48, 40),
        ({"augment": "window", "window_size": 64}, 100, 64),
        ({"preset": "rad"}, 100, 84),
        ({"preset": "curl"}, 100, 84),
        ({"preset": "rad", "augment": "translate"}, 108, 108),
    ],
)
def test_frames_are_rendered_with_room_for_the_window(settings, image_size, encoded):
    config = configs.make(**settings)
    assert config.task.image_size == image_size
    spec = EnvSpec((3, image_size, image_size), "uint8", 3, 2)
    assert encoded_spec(spec, config).frame_shape[1:] == (encoded, encoded)


def test_a_window_larger_than_the_frame_is_refused():
    with pytest.raises(UserError, match="window_size is 101, but it must be at most image_size"):
        configs.make(augment="window", window_size=101)


# The contrastive objective (CURL).


def test_infonce_is_the_cross_entropy_of_finding_the_other_window_of_ones_own_observation():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = -sum(math.log(logits[i, i].exp() / logits[i].exp().sum()) for i in range(4)) / 4
    assert info_nce(logits).item() == pytest.approx(expected)


@pytest.mark.parametrize("decoder", ["none", "rae", "vae", "state"])
def test_contrast_follows_reconstruction_and_reaches_encoder_and_matrix_but_not_the_target(
    decoder, make_small_agent, batch
):
    agent = make_small_agent(augment="window", decoder=decoder, contrastive=True)
    assert [type(o).__name__ for o in agent.objectives] == ["Reconstruction"] * (decoder != "none") + ["Contrastive"]
    noise = noise_for(agent)
    assert noise.augmentation.shape == (3, 5, 4)
    target = {k: v.clone() for k, v in agent.head.critic_target.state_dict().items()}
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    metrics = update_only(agent, "auxiliary", batch, noise)
    assert set(metrics) == {name for o in agent.objectives for name in o.metric_names}
    assert all(torch.equal(v, target[k]) for k, v in agent.head.critic_target.state_dict().items())
    for name in ("similarity.weight", "head.critic.encoder.convs.0.weight", "head.critic.encoder.projection.0.weight"):
        assert not torch.equal(agent.state_dict()[name], before[name])


def test_a_contrastive_loss_needs_augmentation():
    with pytest.raises(UserError, match="contrastive is on, but augment is none"):
        configs.make(contrastive=True)
    with pytest.raises(UserError, match="contrastive_lr is 0.01, but augment is none"):
        configs.make(preset="curl", augment="none", contrastive_lr=0.01)
    agent = configs.make(preset="curl", augment="none")
    assert agent.views == (1, 1, 0)
