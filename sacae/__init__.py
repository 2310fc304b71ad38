"""SAC-AE: continuous control from pixels with a shared, reconstruction-trained encoder.

`make_config`, `train`, `resume` and `load_agent` are the package from Python; docs/python.md describes them. Each is
imported on first use, so that `import sacae` takes no time.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sacae.api import load_agent, make_config, resume, train

    __version__: str

__all__ = ["__version__", "load_agent", "make_config", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = _version() if name == "__version__" else getattr(importlib.import_module("sacae.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """The installed version; that of a checkout that is not installed is unknown."""
    from importlib import metadata

    try:
        return metadata.version("sacae")
    except metadata.PackageNotFoundError:
        return "unknown"


# Only where Gymnasium is imported already: its import takes time. `import sacae.envs` always registers them.
if "gymnasium" in sys.modules:
    importlib.import_module("sacae.gymnasium_ids").register()
