"""Sends evaluations with their videos to a Weights & Biases run of one's own: python examples/wandb_videos.py.

`sacae train --logger wandb` sends all numbers and pictures; use a callback for what that leaves out.
"""

from pathlib import Path

import wandb  # pip install -c constraints.txt -e '.[wandb]'; WANDB_MODE=offline needs no account

import sacae


class Videos:
    """Logs the mean return and the video of each evaluation."""

    def __init__(self, run: wandb.Run, folder: Path) -> None:
        self.run, self.folder = run, folder

    def on_evaluation(self, row: dict) -> None:
        """The first episode's video lies under the environment step's number."""
        said = {"env_step": row["env_step"], "episode_return": row["episode_return"]}
        video = self.folder / "video" / f"{row['env_step']}.mp4"
        if video.exists():
            said["video"] = wandb.Video(str(video), format="mp4")
        self.run.log(said)


def main(**settings: object) -> None:
    """Trains with the laptop's sizes, unless the settings say otherwise."""
    config = sacae.make_config(**{"domain": "cheetah", "task": "run", "preset": "laptop"} | settings)
    with wandb.init(project="sacae-videos", config={"task": config.task_name, "agent": config.variant}) as run:
        sacae.train(config, callbacks=[Videos(run, config.work_dir)])


if __name__ == "__main__":
    main()
