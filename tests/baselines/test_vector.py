"""Several environments side by side: the same answers as Gymnasium's vector environment, and no step across a reset."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from sacae import envs
from sacae.envs import GymEnv, make_stepper

COUNT = 8


def recipe(i, action_repeat):
    return lambda: GymEnv("CartPole-v1", seed=i, action_repeat=action_repeat)


@pytest.mark.parametrize("action_repeat", [1, 2])
def test_stepping_answers_as_gymnasiums_vector_environment_with_resets_in_the_same_step(action_repeat):
    recipes = [recipe(i, action_repeat) for i in range(COUNT)]
    ours = make_stepper(recipes, in_processes=False)
    theirs = SyncVectorEnv(recipes, autoreset_mode=AutoresetMode.SAME_STEP)
    first_frames, _ = ours.reset()
    assert np.array_equal(np.stack(first_frames), theirs.reset()[0])
    rng, ends = np.random.default_rng(0), 0
    for _ in range(100):
        actions = rng.integers(2, size=(COUNT, 1))
        ours.send(actions)
        result = ours.receive()
        obs, reward, terminated, truncated, infos = theirs.step(actions)
        assert np.array_equal(result.reward, reward)
        assert np.array_equal(result.terminated, terminated)
        assert np.array_equal(result.truncated, truncated)
        for i in range(COUNT):
            ended = bool(terminated[i] or truncated[i])
            ends += ended
            assert np.array_equal(result.frame[i], infos["final_obs"][i] if ended else obs[i])
            assert (result.first_frame[i] is not None) == ended
            if ended:
                assert np.array_equal(result.first_frame[i], obs[i])
    assert ends > COUNT
    ours.close()
    theirs.close()


def test_no_transition_that_is_sampled_leads_across_a_reset():
    """CartPole moves little in a step: the position after a reset is elsewhere than where the episode ended."""
    from sacae.replay import FrameReplay

    stepper = make_stepper([recipe(i, 1) for i in range(COUNT)], in_processes=False)
    replay = FrameReplay(envs.spec_of(stepper.env_info, 1), 1000, COUNT)
    for i, frame in enumerate(stepper.reset()[0]):
        replay.begin(i, frame)
    rng, lasts = np.random.default_rng(0), []
    for _ in range(100):
        actions = rng.integers(2, size=(COUNT, 1))
        stepper.send(actions)
        result = stepper.receive()
        for i in range(COUNT):
            terminated = bool(result.terminated[i])
            replay.add(i, actions[i], result.reward[i], terminated, bool(result.truncated[i]), result.frame[i])
            if result.first_frame[i] is not None:
                lasts.append(result.frame[i])
                replay.begin(i, result.first_frame[i])
    assert len(lasts) > COUNT
    batch = replay.sample(5000, rng)
    # CartPole's law of motion by Euler steps of 0.02 s: position and angle follow from the velocities before.
    obs, after = batch.obs.numpy(), batch.next_obs.numpy()
    assert np.allclose(after[:, 0], obs[:, 0] + 0.02 * obs[:, 1], atol=1e-5)
    assert np.allclose(after[:, 2], obs[:, 2] + 0.02 * obs[:, 3], atol=1e-5)
    over = batch.discount.numpy()[:, 0] == 0
    assert over.any()
    assert not over.all()
    assert {tuple(row) for row in after[over]} <= {tuple(row) for row in lasts}
