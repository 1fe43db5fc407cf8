# shellcheck shell=bash
# What the peers' scripts share: where things are, and processes that end with the script.
set -euo pipefail

peers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# All that is downloaded or built, outside of what git keeps.
cache=${PEER_CACHE:-$peers/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# Seconds that a script waits for windows to be measured, beyond the windows themselves.
SLACK=180

fail() {
  echo "$*" >&2
  exit 1
}

# The folder of a run's logs and files, made anew.
fresh() {
  rm -rf "${cache:?}/run/$1"
  mkdir -p "$cache/run/$1"
  echo "$cache/run/$1"
}

# The release binary of a package in this folder, built if need be: binary NAME.
binary() {
  local target=${CARGO_TARGET_DIR:-$cache/target}
  CARGO_TARGET_DIR=$target cargo build --quiet --release --locked \
    --manifest-path "$peers/$1/Cargo.toml" >&2
  echo "$target/release/peer-$1"
}

started=()

# Starts a process that ends with the script: start LOG COMMAND...
start() {
  local log=$1
  shift
  "$@" >>"$log" 2>&1 &
  started+=($!)
  # The shell would report each that is killed.
  disown
}

# Ends what was started, the last first, and waits for it.
stop_all() {
  local i
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill "${started[i]}" 2>/dev/null || true
  done
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    for _ in $(seq 50); do
      kill -0 "${started[i]}" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "${started[i]}" 2>/dev/null || true
  done
  started=()
}
trap stop_all EXIT

# How long a measurement may take: seconds WARM.
seconds() {
  echo $((${WARM:-$1} + ${WINDOW:-5} * ${WINDOWS:-5} + SLACK))
}

# Waits for a line of a file that begins so, and prints the last one: await FILE BEGIN SECONDS.
await() {
  local file=$1 begin=$2 end=$((SECONDS + $3)) line
  while ((SECONDS < end)); do
    if [ -e "$file" ]; then
      grep '^failed' "$file" >&2 && fail "the peer failed"
      line=$(grep "^$begin" "$file" | tail -n 1) || true
      if [ -n "$line" ]; then
        echo "$line"
        return
      fi
    fi
    sleep 0.05
  done
  fail "no '$begin' in $file within $3 s: see the logs beside it"
}

# Kills the sink's process three times and prints how long it took until a new one had a record:
# kills FILE SECONDS [COMMAND...]; the command runs before each. The sink says `first PID NANOS`.
kills() {
  local file=$1 patience=$2 trial pid began next
  shift 2
  await "$file" first "$patience" >/dev/null
  for ((trial = 0; trial < ${TRIALS:-3}; trial++)); do
    "$@"
    # Time for whatever the engine does in the background, and for its checkpoints.
    sleep "${SETTLE:-20}"
    pid=$(grep '^first' "$file" | tail -n 1 | cut -d ' ' -f 2)
    : >"$file"
    began=$(date +%s%N)
    kill -9 "$pid"
    next=$(await "$file" first "$patience" | cut -d ' ' -f 3)
    awk -v from="$began" -v to="$next" \
      'BEGIN { printf "sample kill %.3f s\n", (to - from) / 1e9 }'
  done
}
