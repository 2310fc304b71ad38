"""The one style of all pictures: an algorithm's colour, which every reader can tell from those beside it."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from sacae.heads import HEADS
from sacae.presets import PRESETS
from sacae.training import figures
from sacae.training.figures import COLOURS

# Machado, Oliveira and Fernandes (2009), for severity 1; on linear RGB.
VISION = {
    "usual": np.eye(3),
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "without blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
COMPARED = [
    ("sac_ae", "sac", "drq", "drqv2", "rad", "curl"),
    ("sac_ae", "sac_v", "td3", "ddpg", "drqv2", "discrete_sac", "dqn"),
    ("sac", "sac_v", "td3", "ddpg", "ppo", "option_critic"),
    ("sac", "ace", "td3", "ppo", "trpo", "npg", "vpg"),
    ("ppo", "trpo", "npg", "vpg", "option_critic", "q_learning"),
]


def lab(colour, vision):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(vision) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ seen / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("names", COMPARED, ids=" ".join)
def test_colours_of_algorithms_that_are_compared_differ_for_every_eye(names, vision):
    for one, other in itertools.combinations(names, 2):
        difference = lab(COLOURS[one], VISION[vision]) - lab(COLOURS[other], VISION[vision])
        assert np.linalg.norm(difference) > 15, (one, other)  # 2 is just noticed


@pytest.mark.parametrize("name", sorted({*HEADS, *(name for name, settings in PRESETS.items() if "agent" in settings)}))
def test_every_head_and_every_preset_that_is_an_algorithm_has_a_colour(name):
    assert name in COLOURS


@pytest.mark.parametrize(
    ("arm", "algorithm"),
    [("sac-rae batch_size=8", "sac_ae"), ("sac-vae", "sac_ae"), ("sac-none", "sac"), ("sac-state", "sac"),
     ("sac_v-rae", "sac_v"), ("discrete_sac-none", "discrete_sac"), ("drq-none", "drq"), ("drqv2-none", "drqv2"),
     ("ppo", "ppo"), ("dueling_double_dqn", "dqn"), ("her_ddpg", "her_ddpg"), ("ddpg_without_her", "ddpg"),
     ("dqn_2013", "dqn"), ("mine-rae", "mine")],
)  # fmt: skip
def test_an_arm_is_of_an_algorithm(arm, algorithm):
    assert figures.algorithm(arm) == algorithm


def test_an_arm_has_its_algorithms_colour_and_several_of_one_algorithm_have_shades_of_it():
    alone = figures.styles(["td3-rae", "sac-none", "mine-rae"])
    assert alone["td3-rae"]["color"] == COLOURS["td3"]
    assert alone["sac-none"]["color"] == COLOURS["sac"]
    assert alone["mine-rae"]["color"] not in (COLOURS["td3"], COLOURS["sac"])
    sweep = figures.styles(["sac-rae batch_size=8", "sac-rae batch_size=16", "td3-rae", "sac-rae batch_size=32"])
    assert sweep["td3-rae"]["color"] == COLOURS["td3"]
    assert sweep["sac-rae batch_size=8"]["color"] == COLOURS["sac_ae"]
    light = [lab(look["color"], VISION["usual"])[0] for arm, look in sweep.items() if arm != "td3-rae"]
    assert light == sorted(light)
    assert len({look["linestyle"] for look in sweep.values()}) == 3
    assert len({look["color"] for look in sweep.values()}) == len({look["marker"] for look in sweep.values()}) == 4


def test_algorithms_that_share_a_colour_have_two_where_they_meet():
    looks = figures.styles(["drq-none", "discrete_sac-rae", "ace-rae", "mine-rae"])
    assert looks["drq-none"]["color"] == COLOURS["drq"] == COLOURS["discrete_sac"]
    assert len({look["color"] for look in looks.values()}) == 4
    every = figures.styles([*COLOURS, "mine"])
    assert {look["color"] for look in every.values()} == {*COLOURS.values(), figures.GREY}


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (950, "950"), (40_000, "40k"), (1_500_000, "1.5M")])
def test_steps_are_short(value, text):
    assert figures.short(value) == text
