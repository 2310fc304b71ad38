"""The list of heads: the settings and the algorithm of each. No other module repeats this list.

Importing this module imports neither of them, and not PyTorch, so the command line can list the names quickly.
"""

from typing import TYPE_CHECKING, Any

from sacae.errors import UserError, did_you_mean
from sacae.registry import found

if TYPE_CHECKING:
    from sacae.agents.head import Head
    from sacae.groups import HeadSettings


class HeadEntry:
    """A head's settings and its algorithm, each a class or the path of one, such as "sacae.agents.sac:SAC"."""

    def __init__(self, settings: "type[HeadSettings] | str", head: "type[Head] | str") -> None:
        self._settings, self._head = settings, head

    @property
    def settings(self) -> "type[HeadSettings]":
        """The dataclass of the settings. Importing it does not import PyTorch."""
        settings: type[HeadSettings] = found(self._settings)
        return settings

    @property
    def head(self) -> "type[Head]":
        """The algorithm."""
        head: type[Head] = found(self._head)
        return head


def _in_package(name: str, class_name: str) -> HeadEntry:
    return HeadEntry(f"sacae.agents.settings.{name}:{class_name}Settings", f"sacae.agents.{name}:{class_name}")


HEADS: dict[str, HeadEntry] = {
    "sac": _in_package("sac", "SAC"),
    "sac_v": _in_package("sac_v", "SACV"),
    "td3": _in_package("td3", "TD3"),
    "ddpg": _in_package("ddpg", "DDPG"),
    "discrete_sac": _in_package("discrete_sac", "DiscreteSAC"),
    "dqn": _in_package("dqn", "DQN"),
    "drqv2": _in_package("drqv2", "DrQV2"),
}
"""The heads by the name that `--agent` takes. A new head needs settings, an algorithm and a line here."""


def find_head(name: Any) -> HeadEntry:
    """The head of that name. Raises UserError, with all names, if there is none."""
    if not isinstance(name, str) or name not in HEADS:
        raise UserError(f"agent is {name}, but it must be one of {', '.join(HEADS)}{did_you_mean(name, HEADS)}")
    return HEADS[name]
