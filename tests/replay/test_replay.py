"""FrameReplay against a replay that stores whole transitions; what it holds; what it refuses."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from replay_oracle import (
    EPISODE,
    PIXELS,
    EveryRow,
    NaiveReplay,
    Player,
    assert_equal,
    columns,
    layouts,
    make_frame,
    many_examples,
    pair,
)

from sacae.errors import UserError
from sacae.replay import FrameReplay, MemoryPlan
from sacae.types import EnvSpec


@many_examples
@given(layouts(), st.lists(EPISODE, max_size=30))
@example(
    {"spec": PIXELS, "capacity": 5, "num_streams": 1, "n_step": 3, "discount": 0.99, "episode_length": None},
    [(0, 1, "terminated"), (0, 1, "cut off"), (0, 0, "cut off"), (0, 12, "truncated")] * 5,
)
def test_every_transition_is_that_of_a_replay_of_whole_transitions(layout, episodes):
    replay, oracle = pair(layout)
    player = Player(layout["spec"], replay, oracle)
    for stream, length, end in episodes:
        player.episode(stream % layout["num_streams"], length, end)
        assert_equal(replay, oracle)


@many_examples
@given(layouts(), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=150))
def test_every_transition_is_right_after_every_single_step_of_interleaved_streams(layout, steps):
    replay, oracle = pair(layout)
    player = Player(layout["spec"], replay, oracle)
    running = set()
    for draw, what in steps:
        stream = draw % layout["num_streams"]
        if stream not in running or what == 0:
            player.begin(stream)
            running.add(stream)
        else:
            player.step(stream, terminated=what == 1, truncated=what == 2)
            running -= {stream} if what <= 2 else set()
        assert_equal(replay, oracle)


@many_examples
@given(layouts(), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=12))
def test_observation_is_the_stack_of_the_latest_frame(layout, episodes):
    replay, oracle = pair(layout)
    player = Player(layout["spec"], replay, oracle)
    for stream in range(layout["num_streams"]):
        player.begin(stream)
    for stream, length in episodes:
        player.episode(stream % layout["num_streams"], length, "cut off")
        latest = [played[-1] for played in oracle.episodes]
        expected = np.stack([e.stack(len(e.frames) - 1, layout["spec"].frame_stack) for e in latest])
        np.testing.assert_array_equal(replay.observations().numpy(), expected, strict=True)


@many_examples
@given(layouts(), st.lists(EPISODE, max_size=15), st.integers(0, 40), st.integers(1, 9))
def test_the_newest_transitions_are_those_of_every_stream_in_the_order_of_time(layout, episodes, count, part):
    layout |= {"n_step": 1}
    replay, oracle = pair(layout)
    player = Player(layout["spec"], replay, oracle)
    for stream, length, end in episodes:
        player.episode(stream % layout["num_streams"], length, end)
    expected, each = [], count // layout["num_streams"]
    for stream in range(layout["num_streams"]):
        only = copy.copy(oracle)
        only.episodes = [e if i == stream else [] for i, e in enumerate(oracle.episodes)]
        of_stream = only.transitions()
        expected += of_stream[max(len(of_stream) - each, 0) :]
    parts = [*replay.latest(count, part)]
    assert all(len(rewards) <= part for _, _, rewards in parts)
    got = [row for obs, actions, rewards in parts for row in zip(obs.numpy(), actions, rewards, strict=True)]
    assert len(got) == len(expected)
    for (obs, action, reward), wanted in zip(got, expected):
        np.testing.assert_array_equal(obs, wanted[0])
        np.testing.assert_array_equal(action, wanted[1])
        assert np.float32(reward) == wanted[2]


@many_examples
@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.data())
def test_a_full_replay_holds_its_capacity_when_episodes_have_the_planned_length(
    capacity, num_streams, n_step, frame_stack, episode_length, data
):
    spec = EnvSpec((1, 1, 1), "uint8", frame_stack, 1)
    replay = FrameReplay(spec, capacity, num_streams, n_step, episode_length=episode_length)
    share = -(-capacity // num_streams)
    player = Player(spec, replay)
    added = 0
    for length in data.draw(st.lists(st.integers(episode_length, episode_length + 5), min_size=3, max_size=12)):
        end = data.draw(st.sampled_from(["terminated", "truncated", "cut off"]))
        for stream in range(num_streams):
            player.begin(stream)
        for i in range(length):
            for stream in range(num_streams):
                player.step(stream, end == "terminated" and i == length - 1, end == "truncated" and i == length - 1)
            added += 1
            assert len(replay) >= num_streams * min(share, added - (n_step - 1))


@pytest.mark.parametrize("capacity", [1, 2, 5, 6, 10, 11])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("frame_stack", [1, 3])
def test_one_row_fewer_would_not_hold_the_capacity(capacity, n_step, frame_stack):
    length = 5
    spec = EnvSpec((1, 1, 1), "uint8", frame_stack, 1)
    rows = MemoryPlan(spec, capacity, 1, n_step, length).rows_per_stream
    oracle = NaiveReplay(spec, 1, n_step, 0.99, rows)
    player = Player(spec, oracle)
    # The worst case: as many episode ends as can be, and the oldest transition needs a whole stack.
    player.episode(0, length + frame_stack, "truncated")
    for _ in range(-(-capacity // length) - 1):
        player.episode(0, length, "truncated")
    player.begin(0)
    for _ in range(n_step - 1):
        player.step(0)
    assert len(oracle.transitions()) == capacity
    oracle.rows_per_stream -= 1
    assert len(oracle.transitions()) == capacity - 1


def test_an_explicit_capacity_counts_transitions_and_not_rows():
    replay = FrameReplay(PIXELS, 100, episode_length=10)
    player = Player(PIXELS, replay)
    for _ in range(30):
        player.episode(0, 10, "truncated")
    assert 100 <= len(replay) <= 103


def test_sampling_is_uniform_over_streams_of_different_fill():
    replay = FrameReplay(EnvSpec((1, 1, 1), "uint8", 1, 1), 60, num_streams=3, episode_length=1)
    player = Player(replay.spec, replay)
    for stream, episodes in enumerate([1, 5, 14]):
        for _ in range(episodes):
            player.episode(stream, 1, "terminated")
    draws = 40_000
    reward = replay.sample(draws, np.random.default_rng(0)).reward.flatten()
    values, counts = torch.unique(reward, return_counts=True)
    expected = draws / 20
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert len(values) == len(replay) == 20
    assert chi_squared < 45  # The 99.9 % quantile with 19 degrees of freedom is 43.8.


def test_a_batch_takes_one_draw_of_the_generator_whatever_the_streams():
    class Counting(EveryRow):
        calls = 0

        def integers(self, high, size):
            self.calls += 1
            return np.zeros(size, np.int64)

    replay = FrameReplay(PIXELS, 20, num_streams=2)
    player = Player(PIXELS, replay)
    player.episode(0, 5, "truncated")
    player.episode(1, 5, "truncated")
    rng = Counting()
    replay.sample(8, rng)
    assert rng.calls == 1


@pytest.mark.parametrize("state_dim", [0, 3])
def test_a_batch_has_the_shapes_and_dtypes_of_its_contract(state_dim):
    spec = dataclasses.replace(PIXELS, state_dim=state_dim)
    replay = FrameReplay(spec, 20)
    Player(spec, replay).episode(0, 5, "truncated")
    batch = replay.sample(7, np.random.default_rng(0))
    state = {"state": ((7, 3), torch.float32)} if state_dim else {}
    assert {name: (tuple(column.shape), column.dtype) for name, column in columns(batch).items()} == state | {
        "obs": ((7, 9, 4, 4), torch.uint8),
        "action": ((7, 2), torch.float32),
        "reward": ((7, 1), torch.float32),
        "discount": ((7, 1), torch.float32),
        "next_obs": ((7, 9, 4, 4), torch.uint8),
    }
    assert batch.obs.is_contiguous()
    assert batch.next_obs.is_contiguous()


def test_a_batch_stays_as_it_was_when_the_replay_goes_on():
    replay = FrameReplay(PIXELS, 4)
    player = Player(PIXELS, replay)
    player.episode(0, 4, "truncated")
    batch = replay.sample(4, EveryRow())
    before = [column.clone() for column in columns(batch).values()]
    player.episode(0, 9, "truncated")
    replay.sample(8, np.random.default_rng(0))
    assert all(torch.equal(old, new) for old, new in zip(before, columns(batch).values(), strict=True))


def test_a_frame_is_copied_whatever_its_strides():
    replay = FrameReplay(PIXELS, 4)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    frame = image[::-1].transpose(2, 0, 1)
    replay.begin(0, frame)
    expected = np.concatenate([frame] * 3)
    image[:] = 0
    np.testing.assert_array_equal(replay.observations()[0].numpy(), expected)


def test_frames_on_the_host_reach_another_device_unchanged():
    # "cpu:0" is a device unlike "cpu", so this takes the path from host memory to a GPU on any machine.
    layout = {"spec": PIXELS, "capacity": 9, "num_streams": 2, "n_step": 2, "discount": 0.9, "episode_length": 3}
    oracle = pair(layout)[1]
    replay = FrameReplay(**layout, device="cpu:0", storage="cpu")
    player = Player(PIXELS, replay, oracle)
    for length in (3, 5, 1, 4):
        player.episode(length % 2, length, "truncated")
        assert_equal(replay, oracle)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("storage", ["cpu", "cuda"])
def test_a_gpu_gets_the_batches_of_a_cpu_wherever_frames_lie(storage, tmp_path):
    on_cpu = FrameReplay(PIXELS, 20, 2, 3)
    on_gpu = FrameReplay(PIXELS, 20, 2, 3, device="cuda", storage=storage)
    player = Player(PIXELS, on_cpu, on_gpu)
    for length in (3, 5, 1, 4, 9, 7):
        player.episode(length % 2, length, "truncated")
    loaded = FrameReplay(PIXELS, 20, 2, 3, device="cuda", storage=storage)
    loaded.load(tmp_path, on_gpu.save(tmp_path))
    for replay in (on_gpu, loaded):
        batches = [columns(r.sample(32, np.random.default_rng(0))).values() for r in (on_cpu, replay)]
        assert all(b.is_cuda and torch.equal(a, b.cpu()) for a, b in zip(*batches, strict=True))
        assert torch.equal(on_cpu.observations(), replay.observations().cpu())


def test_adding_before_an_episode_begins_is_refused():
    replay = FrameReplay(PIXELS, 4)
    with pytest.raises(RuntimeError, match="stream 0 has no running episode: begin"):
        Player(PIXELS, replay).step(0)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_adding_after_an_episode_has_ended_is_refused(end):
    replay = FrameReplay(PIXELS, 4, num_streams=2)
    player = Player(PIXELS, replay)
    player.episode(1, 2, end)
    with pytest.raises(RuntimeError, match="stream 1 has no running episode: begin"):
        player.step(1)


def test_sampling_an_empty_replay_is_refused():
    replay = FrameReplay(PIXELS, 4, n_step=2)
    player = Player(PIXELS, replay)
    player.begin(0)
    player.step(0)
    with pytest.raises(RuntimeError, match="no complete transition to sample"):
        replay.sample(1, np.random.default_rng(0))


def test_an_observation_before_the_first_frame_is_refused():
    replay = FrameReplay(PIXELS, 4, num_streams=2)
    Player(PIXELS, replay).begin(0)
    with pytest.raises(RuntimeError, match="stream 1 has no frame yet"):
        replay.observations()


@pytest.mark.parametrize("frame", [np.zeros((4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.float32)])
def test_a_frame_unlike_the_specification_is_refused_and_changes_nothing(frame):
    replay = FrameReplay(PIXELS, 4)
    player = Player(PIXELS, replay)
    player.episode(0, 2, "cut off")
    for call in (
        lambda: replay.begin(0, frame),
        lambda: replay.add(0, np.zeros(2, np.float32), 0.0, False, False, frame),
    ):
        with pytest.raises(ValueError, match="a frame is"):
            call()
    player.step(0)
    assert len(replay) == 3


@pytest.mark.parametrize(
    ("state_dim", "state"),
    [(0, np.zeros(2, np.float32)), (2, None), (2, np.zeros(3, np.float32)), (2, np.zeros(2, np.float64))],
)
def test_a_state_unlike_the_specification_is_refused_and_changes_nothing(state_dim, state):
    spec = dataclasses.replace(PIXELS, state_dim=state_dim)
    replay = FrameReplay(spec, 4)
    player = Player(spec, replay)
    player.episode(0, 2, "cut off")
    for call in (
        lambda: replay.begin(0, make_frame(spec, 0), state),
        lambda: replay.add(0, np.zeros(2, np.float32), 0.0, False, False, make_frame(spec, 0), state),
    ):
        with pytest.raises(ValueError, match="a frame's state is"):
            call()
    player.step(0)
    assert len(replay) == 3


def test_without_a_state_no_memory_is_taken_for_one():
    without, with_one = (MemoryPlan(dataclasses.replace(PIXELS, state_dim=n), 100) for n in (0, 5))
    assert with_one.bytes - without.bytes == 5 * 4 * without.rows
    assert "state" not in FrameReplay(PIXELS, 4)._columns


@pytest.mark.parametrize(
    ("setting", "change"),
    [("replay_capacity", {"capacity": 0}), ("num_envs", {"num_streams": 0}), ("n_step", {"n_step": 0})],
)
def test_a_number_below_one_is_refused_by_the_name_of_its_setting(setting, change):
    with pytest.raises(UserError, match=f"{setting} is 0, but it must be at least 1"):
        FrameReplay(**{"spec": PIXELS, "capacity": 4} | change)


def test_frames_on_another_gpu_than_the_batches_are_refused():
    with pytest.raises(UserError, match="cannot lie on cuda:1"):
        FrameReplay(PIXELS, 4, device="cpu", storage="cuda:1")


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_batch_and_the_newest_observations_have_the_state_of_the_newest_frame(n_step):
    spec = EnvSpec((1, 2, 2), "uint8", 2, 1, state_dim=2, sees_state=True)
    replay = FrameReplay(spec, 20, num_streams=2, n_step=n_step)

    def look(number):
        return np.full((1, 2, 2), number, np.uint8), np.array([number, -number], np.float32)

    for stream in range(2):
        replay.begin(stream, *look(100 * stream))
        for step in range(1, 30):
            frame, state = look(100 * stream + step)
            replay.add(stream, np.zeros(1, np.float32), 0.0, False, step % 5 == 0, frame, state)
            if step % 5 == 0:
                replay.begin(stream, *look(100 * stream + step))
    batch = replay.sample(200, np.random.default_rng(0))
    for obs, state in ((batch.obs, batch.state), (batch.next_obs, batch.next_state)):
        newest = obs[:, -1, 0, 0].float()
        assert torch.equal(state, torch.stack([newest, -newest], 1))
    observations = replay.observations()
    assert observations["pixels"][:, -1, 0, 0].tolist() == [29, 129]
    assert observations["state"].tolist() == [[29, -29], [129, -129]]
