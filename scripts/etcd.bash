# Functions of scripts that start their own etcd: a folder, processes that end with the script, and
# waiting. The script defines a function `fail`, and a function `say` that prints progress, and
# sources this file after `set -euo pipefail`.

# start FOLDER/LOG COMMAND...: runs a process that ends with the script at the latest. Its id is
# $started.
start() {
  local log=$1
  shift
  setpriv --pdeathsig KILL "$@" >"$log" 2>&1 </dev/null &
  started=$!
}

# kill_started PID...: ends these processes, or everything that `start` started. It uses the shell's
# own kill, because not every machine has another one, and hides the shell's reports of killed
# processes.
kill_started() {
  local ids=("$@")
  (($#)) || mapfile -t ids < <(jobs -pr)
  {
    ((${#ids[@]} == 0)) || kill -KILL "${ids[@]}"
    wait "${ids[@]}"
  } 2>/dev/null || true
}

running() { jobs -pr | grep -qx "$1"; }

seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; }

# wait_for SECONDS WHAT COMMAND...: repeats a command until it succeeds, and prints what it waits
# for.
wait_for() {
  local limit=$1 what=$2 from=$EPOCHREALTIME deadline=$((SECONDS + $1)) said=$SECONDS
  shift 2
  say "Waiting until $what, at most $limit s ..."
  until "$@" >/dev/null 2>&1; do
    ((SECONDS <= deadline)) || fail "not within $limit s: $what"
    if ((SECONDS >= said + 5)); then
      said=$SECONDS
      say "... still waiting, $(seconds_since "$from")"
    fi
    sleep 0.1
  done
  say "... $(seconds_since "$from")"
}

etcd_is_healthy() {
  running "$etcd" || return 0 # looked at below
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'GET /health HTTP/1.0\r\n\r\n' >&3
  grep -q '"health":"true"' <&3
}

# start_etcd FOLDER: an etcd on 127.0.0.1, at $port, with its data and its log in the folder.
start_etcd() {
  local attempt peer_port
  for attempt in {1..10}; do
    port=$((12000 + RANDOM % 10000))
    peer_port=$((port + 10000))
    start "$1/etcd.log" "${AXM_ETCD_3_4:-etcd}" --data-dir="$1/etcd" --logger=zap \
      --log-outputs=stderr \
      --listen-client-urls="http://127.0.0.1:$port" \
      --advertise-client-urls="http://127.0.0.1:$port" \
      --listen-peer-urls="http://127.0.0.1:$peer_port" \
      --initial-advertise-peer-urls="http://127.0.0.1:$peer_port" \
      --initial-cluster="default=http://127.0.0.1:$peer_port"
    etcd=$started
    wait_for 60 "etcd answers on port $port" etcd_is_healthy
    if running "$etcd"; then
      return
    fi
    grep -q 'address already in use' "$1/etcd.log" && ((attempt < 10)) || fail "etcd does not start"
    say "The port is taken, trying another."
    rm -rf "$1/etcd"
  done
}
