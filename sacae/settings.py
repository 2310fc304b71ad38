"""The settings of a run: groups of declared settings, how they are changed, and how they are checked."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from sacae import invocation
from sacae.declaration import Declared, OnlyWhere, Role, declared, in_words
from sacae.errors import UserError, did_you_mean, flag_of
from sacae.groups import NamedTask, RunConfig
from sacae.limits import Text

S = TypeVar("S", bound="Settings")

Condition = tuple[str, bool, str]
"""A condition on a setting: the setting's name, whether the condition holds, and the allowed values in words."""

OTHER_NAMES: Mapping[str, Sequence[str]] = {
    "gamma": ["discount"],
    "lr": ["critic_lr", "actor_lr"],
    "learning_rate": ["critic_lr", "actor_lr"],
    "algo": ["agent"],
    "algorithm": ["agent"],
    "total_timesteps": ["num_train_steps"],
    "total_steps": ["num_train_steps"],
    "steps": ["num_train_steps"],
    "init_steps": ["seed_steps"],
    "buffer_size": ["replay_capacity"],
    "replay_buffer_capacity": ["replay_capacity"],
    "train_freq": ["update_every"],
    "gradient_steps": ["updates_per_step"],
    "frame_skip": ["action_repeat"],
    "env_id": ["env"],
    "env_name": ["env"],
    "domain_name": ["domain"],
    "task_name": ["task"],
    "eval_freq": ["eval_every"],
    "decoder_type": ["decoder"],
    "decoder_latent_lambda": ["latent_penalty"],
    "gpu": ["device"],
    "cuda": ["device"],
}
"""What other codebases of the field (pytorch_sac_ae, stable-baselines3, CleanRL) call settings of this one."""


def meant_by(name: str, known: Iterable[str]) -> str:
    """'; did you mean a?' with this package's settings for a name that others use, or else the similar ones, or ''."""
    others = [one for one in OTHER_NAMES.get(name, ()) if one in known]
    return f"; did you mean {', '.join(others)}?" if others else did_you_mean(name, known)


@dataclass(frozen=True)
class Settings:
    """The settings of a run, in groups; immutable.

    Each field is a group: a dataclass of settings. Each kind of run has these two and adds its own.
    """

    task: NamedTask = field(default_factory=NamedTask)
    train: RunConfig = field(default_factory=RunConfig)

    FORMER: ClassVar[frozenset[str]] = frozenset()
    """Names that files of older versions may contain although this run does not have them; they are ignored."""

    # The groups.

    def groups(self) -> dict[str, type]:
        """The dataclass of each group, by the group's name."""
        return {f.name: type(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def declared(self) -> dict[str, Declared]:
        """The declaration of every setting, by name."""
        return {name: one for kind in self.groups().values() for name, one in declared(kind).items()}

    def flat(self) -> dict[str, Any]:
        """The value of every setting by name, including settings that do not apply."""
        return {name: getattr(getattr(self, g), name) for g, kind in self.groups().items() for name in declared(kind)}

    def idle(self) -> dict[str, OnlyWhere]:
        """The settings that do not apply given the others, each with the first condition that does not hold."""
        values = self.flat()
        return {
            name: condition
            for name, one in self.declared().items()
            for condition in reversed(one.only_where())  # the last value of a repeated key wins
            if not condition.holds(values)
        }

    def applying(self) -> dict[str, Any]:
        """The value of every setting that applies, by name."""
        idle = self.idle()
        return {name: value for name, value in self.flat().items() if name not in idle}

    def with_role(self, role: Role) -> list[str]:
        """The names of the settings that have this role."""
        return [name for name, one in self.declared().items() if role in one.marks]

    def replace(self, **settings: Any) -> Self:
        """A copy with the named settings changed. Raises UserError for an unknown name."""
        group_of = {name: group for group, kind in self.groups().items() for name in declared(kind)}
        groups: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in group_of:
                raise UserError(self.unknown(name, value))
            group = group_of[name]
            groups.setdefault(group, {})[name] = declared(self.groups()[group])[name].converted(value)
        changed = {group: dataclasses.replace(getattr(self, group), **values) for group, values in groups.items()}
        return dataclasses.replace(self, **changed)

    def unknown(self, name: str, _value: Any) -> str:
        """The error message for a setting that this run does not have."""
        return f"there is no setting {name!r}{meant_by(name, self.declared())}"

    def conditions(self) -> Sequence[Condition]:
        """Conditions that the fields do not declare."""
        return ()

    def conditions_of_new_runs(self) -> Sequence[Condition]:
        """Conditions that only new runs must fulfil, because runs of older versions may not."""
        return ()

    def defaults_for(self, _values: Mapping[str, Any]) -> Self:
        """The defaults of a run of this kind whose settings include these values."""
        return type(self)()

    # The run.

    @property
    def task_name(self) -> str:
        """The task's name in files and tables, such as cheetah_run, Pendulum-v1, ALE_Pong-v5."""
        if self.task.env:
            return self.task.env.replace("/", "_").replace(":", "_")
        return f"{self.task.domain}_{self.task.task}"

    @property
    def variant(self) -> str:
        """The run's name among the runs of a task, such as sac-rae or sac-state."""
        raise NotImplementedError

    def how_to_play(self, folder: Path) -> str:
        """What plays the run back that lies in the folder, as one would type it."""
        return f"{invocation.command('eval')} {folder}"

    @property
    def keeps_state(self) -> bool:
        """Whether the replay stores the physical state with each frame."""
        return False

    def full_run(self) -> Self:
        """The default settings on this task."""
        return self.defaults_for({})

    def cheaper_than(self, _full: Self) -> str:
        """Why updates of a full run take longer than those of this run, as the end of a sentence; may be empty."""
        return ""

    @property
    def work_dir(self) -> Path:
        """The run folder."""
        return self.train.work_dir or Path("runs", self.task_name, self.variant, str(self.train.seed))

    @property
    def num_agent_steps(self) -> int:
        """Agent steps in the whole run, summed over all environments."""
        return -(-self.train.num_train_steps // self.task.action_repeat)


def check(settings: Settings, new_run: bool = True, given: Iterable[str] = ()) -> None:
    """Raises UserError for the first invalid setting, with its name, its value and the allowed values.

    new_run: whether the settings are for a new run. An existing run may be from an older version that allowed more.
    given: the names of the settings that the user gave; these must apply.
    """
    values = settings.flat()

    def require(name: str, holds: bool, allowed: str, hint: str = "") -> None:
        if not holds:
            raise not_allowed(name, values[name], allowed, hint)

    for name, one in settings.declared().items():
        if one.choices:
            named, hint = ", ".join(map(str, one.choices)), did_you_mean(values[name], one.choices)
            require(name, values[name] in one.choices, f"one of {named}", hint)
        check_value(one, values[name])
    whole_name = Text().holds(settings.task_name)
    require("env" if settings.task.env else "task", whole_name, f"shorter: the task's name is {Text().allowed}")
    refuse_idle(settings, given)
    idle = settings.idle()
    for name, one in settings.declared().items():
        for must in one.musts() if name not in idle else ():
            require(name, must.holds(values) or (must.of_new_runs and not new_run), must.allowed)
    for condition in (*settings.conditions(), *(settings.conditions_of_new_runs() if new_run else ())):
        require(*condition)


def check_value(one: Declared, value: Any) -> None:
    """Raises UserError if the value of a setting or an option exceeds one of its limits."""
    broken = one.broken_by(value)
    if broken:
        raise not_allowed(one.name, value, broken.allowed)


def not_allowed(name: str, value: Any, allowed: str, hint: str = "") -> UserError:
    """The error for a value that is not allowed. allowed: the allowed values in words. hint: what to try instead."""
    return UserError(f"{name} is {in_words(value)}, but it must be {allowed}; change {flag_of(name)}{hint}")


def refuse_idle(settings: Settings, given: Iterable[str]) -> None:
    """Raises UserError for the first of the given names whose setting does not apply."""
    values, idle = settings.flat(), settings.idle()
    for name in given:
        if name in idle:
            condition = idle[name]
            raise UserError(
                f"{name} is {in_words(values[name])}, but {condition.actual(values)}: this setting applies only if "
                f"{condition.text}; leave {flag_of(name)} out"
            )


def _plain(value: Any) -> Any:
    """A setting's value as YAML reads it again."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def plain(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings that apply, as mappings of group and name that YAML can represent."""
    values = settings.applying()
    return {
        group: {name: _plain(values[name]) for name in declared(kind) if name in values}
        for group, kind in settings.groups().items()
    }
