# Training and evaluation in a container; it renders with EGL, on an NVIDIA GPU or on the CPU. See docs/rendering.md.
FROM python:3.11-slim-bookworm

# Mesa's EGL renders on the CPU; libglvnd finds the driver of an NVIDIA GPU.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libgles2 libglvnd0 \
    && rm -rf /var/lib/apt/lists/*
# The default is without graphics, and then frames are rendered on the CPU although there is a GPU.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics,video

WORKDIR /opt/sacae
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt -e '.[report]'

RUN useradd --create-home --uid 1000 sacae \
    && install --directory --owner sacae /data /data/runs
USER sacae
WORKDIR /data
# Runs are written to runs/ in the working folder.
VOLUME /data/runs
ENTRYPOINT ["sacae"]
CMD ["doctor"]
