"""YAML files of settings: what a person may have done to them is one line, at once."""

import os
import random
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sacae import config as configs
from sacae import yaml_file
from sacae.errors import UserError
from sacae.experiments import sweep

ALIASES = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)

REFUSED = {
    "nested aliases": (ALIASES, "more than 200,000 values, aliases written out"),
    "an alias of itself": ("a: &a [*a]", "stands for nothing before it"),
    "deep nesting": ("[" * 100_000, "nested more than 20 deep"),
    "deep mappings": ("".join(" " * i + "a:\n" for i in range(50)), "nested more than 20 deep"),
    "a tag": ("!!python/object/apply:os.system ['echo ran']", "could not determine a constructor"),
    "half a list": ("settings: [1, 2", "line 1"),
    "a tab": ("settings:\n\ttask: 1", "line 2"),
    "two documents": ("a: 1\n---\nb: 2", "expected a single document|another document"),
    "a name twice": ("a: 1\nb: 2\na: 3", "line 3: a is given twice"),
    "the last of many names again": ("".join(f"a{i}: 1\n" for i in range(5_000)) + "a0: 2", "a0 is given twice"),
    "a list as a key": ("? [a]\n: 1", "unhashable key"),
    "zeros": ("\0" * 100, "special characters"),
    "a long number": ("a: " + "9" * 5000, "digits"),
}


def test_mappings_that_are_merged_and_names_of_other_types_stand_twice(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("p: &a {x: 1}\nq: &b {<<: *a, x: 2}\nr: {<<: *a, <<: *b}\ns: {<<: *b}\n1: a\n'1': b\n")
    assert yaml_file.read(path, "a sweep") == yaml.safe_load(path.read_text())


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_yaml_is_one_line_at_once(text, words, tmp_path, capfd):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(UserError, match=words) as caught:
        yaml_file.read(path, "a run's settings")
    assert time.process_time() - began < 5
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert capfd.readouterr().out == ""


def test_aliases_that_stand_for_little_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &x [1, 2]\nb: *x\n")
    assert yaml_file.read(path, "a test") == {"a": [1, 2], "b": [1, 2]}


def test_a_named_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(UserError, match=r"not a file|is a directory"):
            yaml_file.read(tmp_path / path, "a test")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    with open(path, "wb") as file:
        file.truncate(yaml_file.MAX_BYTES + 1)
    with pytest.raises(UserError, match="8,000,001 bytes, and at most 8,000,000"):
        yaml_file.read(path, "a test")


def test_text_of_another_encoding_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("settings: é".encode("latin-1"))
    with pytest.raises(UserError, match="it is not text in UTF-8"):
        yaml_file.read(path, "a test")


def written(path, **changes):
    """A config.yaml in which some settings have other values."""
    groups = configs.to_yaml(configs.make(obs="state"))
    for name, value in changes.items():
        group = next((group for group, values in groups.items() if name in values), "train")
        groups[group][name] = value
    path.write_text(yaml.safe_dump({"settings": groups}))
    return path


@pytest.mark.parametrize("value", ["1e-3", 0.001, "0.001"])
def test_a_number_that_yaml_takes_for_a_word_is_a_number_as_in_a_sweep(value, tmp_path):
    config = configs.load(written(tmp_path / "config.yaml", critic_lr=value), configs.Config())
    assert config.agent.critic_lr == 1e-3 == sweep.typed("critic_lr", value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"critic_lr": "fast"}, "critic_lr is fast, but it must be a number"),
        ({"critic_lr": [1e-3]}, r"critic_lr is \[0\.001\], but it must be a number"),
        ({"critic_lr": {"a": 1}}, r"critic_lr is \{'a': 1\}, but it must be a number"),
        ({"critic_lr": None}, "critic_lr is None, but it must be a number"),
        ({"domain": None}, "domain is None, but it must be a name"),
        ({"critic_lr": True}, "critic_lr is True, but it must be a number"),
        ({"batch_size": 2.5}, "batch_size is 2.5, but it must be a whole number"),
        ({"batch_size": "x" * 1000}, r"batch_size is x{77}\.\.\., but"),
        ({"batch_size": -1}, "batch_size is -1, but it must be at least 1"),
        ({"save_video": "perhaps"}, "save_video is perhaps, but it must be true or false"),
        ({"agent": "sacc"}, "agent is sacc, but it must be one of"),
        ({"agent": ["sac"]}, r"agent is \['sac'\], but it must be one of"),
        ({"obs": 3}, r"obs is 3, but it must be one of pixels, state, pixels\+state$"),
        ({"preset": "drq_v2"}, r"preset is drq_v2, but it must be one of .*, curl; did you mean drqv2, drq\?$"),
        ({"batch_sizes": 3}, "there is no setting 'batch_sizes'; did you mean batch_size"),
        ({5: 3}, "there is no setting '5'"),
    ],
)
def test_a_value_of_another_type_names_file_key_value_and_what_is_allowed(changes, words, tmp_path):
    path = tmp_path / "config.yaml"
    written(path)
    content = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        group = next((group for group, values in content["settings"].items() if name in values), "train")
        content["settings"][group][name] = value
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=words) as caught:
        configs.load(path, configs.Config())
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [None, 3, [], {}, {"settings": None}, {"settings": [1]}, {"settings": {"task": 3}}])
def test_a_file_without_settings_in_groups_is_refused_by_name(content, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="must hold settings in groups"):
        configs.load(path, configs.Config())


def test_a_file_that_lost_its_end_is_not_filled_with_defaults(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("settings:\n  task:\n    domain: cartpole\n")
    with pytest.raises(UserError, match=r"config\.yaml has no settings of train: a part of it is missing"):
        configs.load(path, configs.Config())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted(configs.make(obs="state").applying())


@settings(max_examples=60)
@given(st.sampled_from(NAMES), PLAIN)
def test_no_value_of_a_setting_ends_in_anything_but_settings_or_one_line(tmp_path_factory, name, value):
    path = written(tmp_path_factory.getbasetemp() / "config.yaml", **{name: value})
    try:
        configs.load(path, configs.Config())
    except UserError as error:
        assert "\n" not in " ".join(str(error).split())  # noqa: PT017


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_no_damage_to_a_config_file_ends_in_anything_but_settings_or_one_line(tmp_path_factory, seed):
    path = written(tmp_path_factory.getbasetemp() / "config.yaml")
    draw, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(content))
        content[at : at + draw.choice((0, 1, 1, 40))] = draw.randbytes(draw.choice((0, 1, 1, 5)))
    path.write_bytes(content)
    try:
        configs.load(path, configs.Config())
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017
