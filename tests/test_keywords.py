"""Keyword arguments in words such as gravity=9.8."""

import pytest

from sacae import config as configs
from sacae.errors import UserError
from sacae.keywords import are_keyword_arguments, keyword_arguments


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


def test_they_are_for_their_own_kind_of_environment_only():
    with pytest.raises(UserError, match="env_kwargs is .*, but env is None: .* only if env is given; leave"):
        configs.make(env_kwargs=["g=1"])
    with pytest.raises(UserError, match="task_kwargs is .*, but env is Pendulum-v1"):
        configs.make(env="Pendulum-v1", task_kwargs=["time_limit=1"])
