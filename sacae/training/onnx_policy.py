"""An agent's deterministic policy as an ONNX model, compared with the agent by onnxruntime."""

import io
import warnings
from importlib import util

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sacae.agents import Agent
from sacae.errors import UserError, how_to_install
from sacae.training.trained import TrainedAgent
from sacae.types import EnvSpec

FILE = "policy.onnx"
PACKAGES = ("onnx", "onnxruntime")

LARGEST_DIFFERENCE = 1e-4
"""Between an action of the agent and one of the model; both compute in float32, in another order."""

CHECKED = 16
"""Random observations on which agent and model are compared."""

HOW_TO = f"""
`{FILE}` is the deterministic policy: `obs` as above, a batch of any size, to `action`.

```python
import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
(action,) = session.run(["action"], {{"obs": obs[None]}})
```
"""


class _Policy(nn.Module):
    """(N, *obs_shape) -> (N, A), without exploration."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.agent.act(obs)


def require_packages() -> None:
    """Raises UserError if a package is missing."""
    missing = [name for name in PACKAGES if util.find_spec(name) is None]
    if missing:
        raise UserError(f"format is onnx, but {' and '.join(missing)} cannot be imported; {how_to_install('onnx')}")


def convert(agent: TrainedAgent) -> bytes:
    """The content of an ONNX file with the policy. agent: on the CPU.

    Raises UserError if it cannot be converted, or does not act as the agent does.
    """
    if agent.config.replay.augment == "crop":
        raise UserError(
            "format is onnx, but augment is crop: the window on which this policy acts cannot be written as ONNX; "
            "export without --format onnx"
        )
    if agent.spec.sees_state:
        raise UserError(
            "format is onnx, but obs is pixels+state: only a policy of images or of state vectors alone is written as "
            "ONNX; export without --format onnx"
        )
    observations = _observations(agent.spec)
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # of the exporter that needs no further package, and of traced constants
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Policy(agent.network).eval(), (torch.from_numpy(observations[:2]),),
                buffer,  # type: ignore[arg-type]  # this exporter takes a file
                dynamo=False, input_names=["obs"], output_names=["action"],
                dynamic_axes={"obs": {0: "N"}, "action": {0: "N"}},
            )  # fmt: skip
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"format is onnx, but this policy cannot be written as ONNX: {reason}") from None
    _check(buffer.getvalue(), agent, observations)
    return buffer.getvalue()


def _observations(spec: EnvSpec) -> NDArray[np.uint8 | np.float32]:
    rng = np.random.default_rng(0)
    shape = (CHECKED, *spec.obs_shape)
    if spec.frame_dtype == "uint8":
        return rng.integers(0, 256, shape, np.uint8)
    return rng.standard_normal(shape, np.float32)


def _check(model: bytes, agent: TrainedAgent, observations: NDArray[np.uint8 | np.float32]) -> None:
    """Raises UserError where the model's actions differ from the agent's, in a batch or one by one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = agent.predict(observations)
    alone = np.concatenate([session.run(["action"], {"obs": one[None]})[0] for one in observations[:2]])
    (together,) = session.run(["action"], {"obs": observations})
    difference = max(np.abs(together - wanted).max(), np.abs(alone - wanted[:2]).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"format is onnx, but its actions differ from the agent's by up to {difference:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}; export without --format onnx"
        )
