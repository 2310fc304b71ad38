#!/usr/bin/env bash
# Everything that only a GPU can tell, in seven parts of about nine minutes each:
#   1  what the machine has; the tests that need a GPU; captured updates beside eager ones, and the test of them that a
#      run makes; resumed trainings beside uninterrupted ones
#   2  updates per second beside the reference's, where the time goes, environment steps per second, sampling
#   3  two tasks at the paper's sizes, with and without the decoder, side by side on the card, as far as they get
#   4  four tasks with the laptop preset, with and without the decoder, two seeds, likewise
#   5  the heads with the laptop preset, two tasks, three seeds, likewise
#   6  SAC-AE's descendants at that preset's sizes, one task, three seeds, likewise
#   7  three-step returns with that preset, the four tasks of part 4, two seeds, likewise
# usage: gpu_day.sh [PART] --out DIR [--reference DIR] [--dry-run]
# Without PART all seven. --reference: a checkout of pytorch_sac_ae for part 2. --dry-run: every step on the CPU with
# tiny sizes. Each part leaves at most 5 files in DIR. A step that fails does not stop the next; the status is then 1.
# Ctrl-C ends the step, of trainings with checkpoints, and all that would follow; the status is then 130.
# Environment: PYTHON, the interpreter. SITE, a folder or a tar file of packages that the interpreter lacks; libraries such
# as libEGL are taken from its folder lib. For parts 3 to 7: SEED, the first seed, 1 unless given; TASKS, other tasks, such
# as walker_walk,finger_spin; RUNS, the folder of runs, where the same part goes on with what it did not end; a temporary one
# unless given.
set -uo pipefail

usage() { echo "usage: gpu_day.sh [1|2|3|4|5|6|7] --out DIR [--reference DIR] [--dry-run]; $1" >&2; exit 2; }

parts="1 2 3 4 5 6 7" out="" reference="" dry=""
while (($#)); do
    case $1 in
    [1-7]) parts=$1 ;;
    --out) out=${2:-}; shift ;;
    --reference) reference=${2:-}; shift ;;
    --dry-run) dry=yes ;;
    *) usage "$1 is unknown" ;;
    esac
    shift || usage "a value is missing"
done
[[ $out ]] || usage "--out is missing"
[[ ! $reference || -d $reference ]] || usage "--reference $reference is no folder"
[[ ! $reference ]] || reference=$(cd "$reference" && pwd) || exit 2
unpacked="" mps="" of_mps=""
clean() {
    [[ ! $mps ]] || echo quit | timeout 10 "$mps"
    rm -rf ${unpacked:+"$unpacked"} ${of_mps:+"$of_mps"}
}
trap clean EXIT
job="" stopped=""
trap 'stopped=yes; [[ ! $job ]] || kill -INT $job' INT TERM HUP
if [[ -f ${SITE:-} ]]; then
    unpacked=$(mktemp -d) || exit 2
    tar xf "$SITE" -C "$unpacked" || exit 2
    SITE=$unpacked
fi
[[ ! ${SITE:-} ]] || SITE=$(cd "$SITE" && pwd) || exit 2
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
[[ ! ${RUNS:-} ]] || { mkdir -p "$RUNS" && RUNS=$(cd "$RUNS" && pwd); } || exit 2
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH=$PWD${SITE:+:$SITE}${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
[[ ! ${SITE:-} ]] || export LD_LIBRARY_PATH=$SITE/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# A container may have NVIDIA's EGL where libEGL does not look for it.
vendor=/usr/local/nvidia/share/glvnd/egl_vendor.d/10_nvidia.json
[[ ! -f $vendor ]] || export __EGL_VENDOR_LIBRARY_FILENAMES=${__EGL_VENDOR_LIBRARY_FILENAMES:-$vendor}
python=${PYTHON:-python3}

device=cuda workers=(-n 6) tests=(-k "captured or tf32 or gpu") checks=(--steps 3000) sizes=(--rounds 5 --updates-per-round 100) precisions="bf16 tf32 fp32"
captured=(--modes captured --precisions bf16) env_steps=3000 stored="10000 1000000"
paper=(--num-train-steps 100000 --eval-every 10000 --num-eval-envs 5)
laptop=(--preset laptop --precision fp32 --num-eval-envs 5) four=reacher_easy,ball_in_cup_catch,cartpole_swingup,cheetah_run
# The descendants' presets have sizes of their own.
family=(--image-size 48 --num-filters 16 --hidden-dim 256 --batch-size 64 --updates-per-step 1 --seed-steps 1000
    --render-quality fast --num-train-steps 100000 --precision fp32)
# By default DQN explores too long for 100,000 steps, and copies its target too seldom.
dqn=(--critic-tau 0.01 --encoder-tau 0.05 --critic-target-update-freq 2 --exploration-steps 10000)
parallel=16
if [[ $dry ]]; then
    device=cpu workers=() precisions=fp32 env_steps=16 stored=16 parallel=2
    tests=(-k captured) tiny=(--hidden-dim 8 --batch-size 2) sizes=(--rounds 1 --updates-per-round 1 --replay-size 16)
    checks=(--precisions fp32 --updates 6 --steps 1040 --seconds 1800 "${tiny[@]}") sizes+=("${tiny[@]}")
    captured=(--modes eager --precisions fp32)
    short=(--num-train-steps 80 --eval-every 80 --seed-steps 10 --num-filters 4 --initial-updates 1 --num-eval-episodes 1
        --action-repeat 8 --render-quality fast "${tiny[@]}")
    paper=("${short[@]}") laptop+=("${short[@]}") family+=("${short[@]}")
fi
"$python" -c "import xdist" 2>/dev/null || workers=()
[[ ! $reference ]] || compared=(--reference "$reference")

failed=0 patience=1
[[ ! $dry ]] || patience=10 # a CPU may be busy
step() { # step SECONDS COMMAND...: runs it with a limit, and goes on whatever becomes of it
    [[ ! $stopped ]] || return
    local limit=$1 started=$SECONDS status
    shift
    echo "=== $*"
    # In the background, because timeout's own group of processes hears no Ctrl-C, and a shell only after its command.
    timeout --kill-after 20 $((limit * patience)) "$@" 2>&1 &
    job=$!
    wait $job
    status=$?
    while kill -0 $job 2>/dev/null; do # a signal ends a wait: the command may still save what it has
        wait $job
        status=$?
    done
    job=""
    ((status == 0)) || failed=1
    echo "=== status $status after $((SECONDS - started)) s"
}

merge() { # merge NAME FILE...: one file of rows, NAME, in place of several, of which it may be the first
    "$python" -c 'import json, pathlib, sys
out, *parts = map(pathlib.Path, sys.argv[1:])
rows = [row for part in parts if part.exists() for row in json.loads(part.read_text())]
out.write_text(json.dumps(rows, indent=2) + "\n")
for part in parts:
    if part != out: part.unlink(missing_ok=True)' "$@" || failed=1
}

part1() {
    step 40 "$python" -m sacae doctor
    # -vv names each test as it ends, should time run out.
    step 140 "$python" -m pytest -vv -p no:cacheprovider "${workers[@]}" -rs "${tests[@]}" \
        -m "not learning and not faults" tests/agents/test_gpu.py tests/agents/test_fast_paths.py \
        tests/replay/test_replay.py
    step 110 "$python" benchmarks/gpu_checks.py --check captured --device $device "${checks[@]}" \
        --json "$out/captured.json"
    step 200 "$python" benchmarks/gpu_checks.py --check resume --device $device "${checks[@]}" \
        --json "$out/resume.json"
}

part2() { # first what matters most
    local precision parts=()
    for precision in $precisions; do
        step 48 "$python" benchmarks/throughput.py --device $device --decoders rae --precisions "$precision" \
            --modes captured eager "${sizes[@]}" "${compared[@]}" --json "$out/throughput-$precision.json"
        parts+=("$out/throughput-$precision.json")
    done
    step 35 "$python" benchmarks/profile_update.py --device $device --precision "${captured[3]}" \
        --markdown "$out/profile.md" ${dry:+--updates 2 --batch-size 2 --layers 2}
    for num_envs in 1 4; do
        step 45 "$python" benchmarks/throughput.py --device $device --decoders rae "${captured[@]}" "${sizes[@]}" \
            --env-steps $env_steps --num-envs $num_envs --json "$out/training-$num_envs-envs.json"
    done
    merge "$out/training.json" "$out"/training-{1,4}-envs.json
    # What cuDNN would gain by trying its algorithms.
    step 30 "$python" benchmarks/throughput.py --device $device --decoders rae "${captured[@]}" "${sizes[@]}" --search \
        --json "$out/throughput-search.json"
    merge "$out/throughput.json" "${parts[@]}" "$out/throughput-search.json"
    # shellcheck disable=SC2086  # a list of sizes
    step 85 "$python" benchmarks/scaling.py --device $device --batch-sizes --layers --image-sizes --stored-frames $stored \
        ${dry:+--base-batch-size 2 --hidden-dim 8 --rounds 1 --updates-per-round 1} --output "$out/sampling"
    rm -f "$out/sampling.png"
    for precision in $precisions; do # last, because it takes long to start and needs a C compiler
        step 48 "$python" benchmarks/throughput.py --device $device --decoders rae --precisions "$precision" \
            --modes compiled "${sizes[@]}" "${compared[@]}" --json "$out/throughput-$precision-compiled.json"
        merge "$out/throughput.json" "$out/throughput.json" "$out/throughput-$precision-compiled.json"
    done
}

share() { # lets kernels of several processes run at once, where NVIDIA's MPS is there
    [[ ! $dry && ! $mps ]] || return 0
    mps=$(command -v nvidia-cuda-mps-control || ls /usr/local/nvidia/bin/nvidia-cuda-mps-control 2>/dev/null)
    [[ $mps ]] || { echo "no nvidia-cuda-mps-control: the runs take turns on the GPU"; return 0; }
    of_mps=$(mktemp -d)
    export CUDA_MPS_PIPE_DIRECTORY=$of_mps CUDA_MPS_LOG_DIRECTORY=$of_mps
    timeout 10 "$mps" -d || mps=""
}

train() { # train NAME MINUTES ABLATION TASKS SEEDS FLAG...: its runs side by side, and their evaluations in one archive
    local name=$1 limit=$2 ablation=$3 tasks=$4 number=$5 runs=${RUNS:-} remove=""
    shift 5
    [[ ! $dry ]] || tasks=cheetah_run number=1
    share
    [[ $runs ]] || { runs=$(mktemp -d) && remove=$runs; }
    mkdir -p "$runs/$name"
    step $((60 * limit)) "$python" -m sacae ablate "$ablation" --tasks "${TASKS:-$tasks}" --seeds "$number" \
        --first-seed "${SEED:-1}" --parallel "$parallel" --device $device --no-save-video --num-threads 1 "$@" \
        --work-dir "$runs/$name"
    (cd "$runs" && find "$name" -name eval.csv | grep . | tar czf "$out/$name.tar.gz" -T -) || failed=1
    [[ ! $remove ]] || rm -rf "$remove"
}

part3() { train paper 8 decoder cheetah_run,cartpole_swingup 1 "${paper[@]}"; }

part4() { train laptop 8 decoder "$four" 2 "${laptop[@]}"; }

part5() {
    train heads 5 heads cartpole_swingup,cheetah_run 3 --arms td3,ddpg,discrete_sac "${laptop[@]}"
    train dqn 3 heads cartpole_swingup,cheetah_run 3 --arms dqn "${laptop[@]}" "${dqn[@]}"
}

part6() { train family 8 family cheetah_run 3 --arms drq,drqv2,rad,curl "${family[@]}"; }

part7() { train n-step 8 n-step "$four" 2 --arms n_step=3 "${laptop[@]}"; }

for part in $parts; do
    [[ ! $stopped ]] || break
    exec 3> >(trap "" INT TERM HUP; exec tee "$out/part$part.log")
    log=$!
    "part$part" >&3 2>&1 3>&-
    exec 3>&-
    wait $log # the log is whole
done
[[ ! $stopped ]] || exit 130
exit $failed
