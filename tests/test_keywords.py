"""Keyword arguments in words such as gravity=9.8."""

import numpy as np
import pytest

import sacae
from sacae import config as configs
from sacae.commands.settings_file import started_from, together
from sacae.errors import UserError
from sacae.keywords import are_keyword_arguments, keyword_arguments, words_of


def test_values_are_yaml_scalars_and_numbers_with_exponents():
    words = ["a=1", "b=2.5", "c=true", "d=null", "e=text", "f=1e-3", "g=", "h='7'", "i=x=y", "j=2020-01-01", "k=a: b:"]
    expected = {"a": 1, "b": 2.5, "c": True, "d": None, "e": "text", "f": 0.001, "g": "", "h": "7", "i": "x=y"}
    assert keyword_arguments(words) == expected | {"j": "2020-01-01", "k": "a: b:"}


@pytest.mark.parametrize(
    "words", [["gravity"], ["=1"], ["two words=1"], ["a=1", "a=2"], ["a=[1, 2]"], ["a={b: 1}"], ["a=.inf"]]
)
def test_words_of_another_form_are_refused(words):
    assert not are_keyword_arguments(words)
    with pytest.raises(UserError, match="env_kwargs is .*, but it must be words of the form name=value, .*; change"):
        configs.make(env="Pendulum-v1", env_kwargs=words)


@pytest.mark.parametrize(
    "arguments", [{}, {"a": 1, "b": -2.5, "c": 1e-9, "d": True, "e": None, "f": "text", "g": "", "h": "a: [b"}]
)
def test_a_mapping_stands_for_the_words_that_give_its_values(arguments):
    assert keyword_arguments(words_of(arguments)) == arguments


@pytest.mark.parametrize("text", ["7", "null", "true", "1e-3", "[1]", " x", "'q'", "2020-01-01"])
def test_a_text_that_looks_like_another_value_stays_a_text(text):
    (word,) = words_of({"name": text})
    assert keyword_arguments([word]) == {"name": text}


@pytest.mark.parametrize("value", [[1, 2], {"b": 1}, float("nan"), object(), np.arange(2)])
def test_a_mapping_with_other_values_is_refused(value):
    with pytest.raises(UserError, match="env_kwargs: .* there must be words of the form name=value"):
        sacae.make_config(env="Pendulum-v1", env_kwargs={"g": value})


def test_python_and_a_file_may_give_a_mapping(tmp_path):
    config = sacae.make_config(env="Pendulum-v1", env_kwargs={"g": np.float64(1.5), "name": "slow"})
    assert config.task.env_kwargs == ("g=1.5", "name=slow")
    (tmp_path / "c.yaml").write_text("env: Pendulum-v1\nenv_kwargs: {g: 1.5, name: slow}\n")
    known = configs.every_setting()
    assert started_from(tmp_path / "c.yaml", {}, known, together)["env_kwargs"] == config.task.env_kwargs


def test_they_are_for_their_own_kind_of_environment_only():
    with pytest.raises(UserError, match="env_kwargs is .*, but env is None: .* only if env is given; leave"):
        configs.make(env_kwargs=["g=1"])
    with pytest.raises(UserError, match="task_kwargs is .*, but env is Pendulum-v1"):
        configs.make(env="Pendulum-v1", task_kwargs=["time_limit=1"])
