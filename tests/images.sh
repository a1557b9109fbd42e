#!/usr/bin/env bash
# Builds the image by Debian's Docker, which has no BuildKit, and by Buildah, and runs it as the guides
# say. Needs root and Debian. The base images are made here, from Debian's packages and the installed
# Rust, under the names that the Dockerfile gives them.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
bases=$repository/target/images
work=$(mktemp -d)
export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=0

cleanup() {
    if [ -f "$work/docker.pid" ]; then
        docker ps --quiet | xargs --no-run-if-empty docker stop --time 1 >/dev/null || true
        kill "$(cat "$work/docker.pid")" || true
        for _ in $(seq 100); do
            [ -f "$work/docker.pid" ] || break
            sleep 0.1
        done
        umount "$work"/exec/netns/* 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

missing=$(for program in dockerd:docker.io buildah:buildah debootstrap:debootstrap \
    docker-compose:docker-compose; do
    command -v "${program%%:*}" >/dev/null || echo "${program##*:}"
done)
if [ -n "$missing" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing >/dev/null
fi

mapfile -t names < <(sed -n 's/^FROM \([^ ]*\).*/\1/p' "$repository/Dockerfile")
mkdir -p "$bases"

# The image in which the program is built: Debian with a compiler of C and Python, and this machine's Rust.
build=$bases/build-with-python.tar
if [ ! -f "$build" ]; then
    root=$work/build
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
        sed -n 's/^URIs: *//p; s/^deb \(\[.*\] \)\?\([^ ]*\) .*/\2/p' | head -n 1 || true)
    debootstrap --variant=minbase --include=gcc,libc6-dev,python3 bookworm "$root" "$mirror" >"$work/log" ||
        { cat "$work/log" && exit 1; }
    toolchain=$(cd "$repository" && rustc --print sysroot)
    cp -a "$toolchain"/bin/{cargo,rustc} "$root/usr/local/bin/"
    cp -a "$toolchain"/lib/lib* "$root/usr/local/lib/"
    mkdir -p "$root/usr/local/lib/rustlib"
    cp -a "$toolchain/lib/rustlib/x86_64-unknown-linux-gnu" "$root/usr/local/lib/rustlib/"
    mkdir -p "$root/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    tar -C "$root" -cf "$build.new" .
    mv "$build.new" "$build"
fi

# The image in which it runs: the C library and the certificates.
if [ ! -f "$bases/run.tar" ]; then
    root=$work/run
    mkdir -p "$root/etc/ssl/certs" "$root/lib64" "$root/lib/x86_64-linux-gnu" "$root/tmp"
    cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
    for library in libc.so.6 libm.so.6 libgcc_s.so.1; do
        cp -L "/lib/x86_64-linux-gnu/$library" "$root/lib/x86_64-linux-gnu/"
    done
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    echo 'nonroot:x:65532:65532::/:/' >"$root/etc/passwd"
    echo 'nonroot:x:65532:' >"$root/etc/group"
    tar -C "$root" -cf "$bases/run.tar.new" .
    mv "$bases/run.tar.new" "$bases/run.tar"
fi

# Other work on the machine goes first.
nice -n 19 dockerd --bridge=none --iptables=false --host "$DOCKER_HOST" --data-root "$work/docker" \
    --exec-root "$work/exec" --pidfile "$work/docker.pid" >"$work/dockerd.log" 2>&1 &
for _ in $(seq 600); do
    docker info >/dev/null 2>&1 && break
    sleep 0.1
done
docker info >/dev/null || { cat "$work/dockerd.log" && exit 1; }

docker import "$build" "${names[0]}" >/dev/null
docker import --change 'USER nonroot' "$bases/run.tar" "${names[1]}" >/dev/null
docker build --network host --build-arg VERSION=1.2.3 --tag kubeagents:test "$repository" >"$work/log" 2>&1 ||
    { cat "$work/log" && exit 1; }
label() { docker inspect --format "{{ index .Config.Labels \"org.opencontainers.image.$1\" }}" kubeagents:test; }
[ "$(label title) $(label version)" = "kubeagents 1.2.3" ] || { echo "it is labelled $(label version)" && exit 1; }
docker run --detach --rm --network host --read-only --cap-drop ALL --name kubeagents \
    --env PORT=0 --env AUTH_MODE=open --env ALLOWED_HOSTS=kubeagents kubeagents:test >/dev/null
for _ in $(seq 600); do
    address=$(docker logs kubeagents 2>&1 | sed -n 's/.*address=[^ ]*:\([0-9]*\).*/127.0.0.1:\1/p' | head -n 1)
    [ -z "$address" ] || break
    sleep 0.1
done
curl --silent --show-error --fail "http://$address/ready" >/dev/null
user=$(docker top kubeagents -o pid,uid | awk "END { print \$2 }")
[ "$user" = 65532 ] || { echo "it runs as user $user" && exit 1; }
docker cp kubeagents:/usr/share/doc/kubeagents "$work/doc"
grep --quiet '^tokio ' "$work/doc/THIRD-PARTY" || { echo "it comes without licences" && exit 1; }
cmp "$work/doc/LICENSE" "$repository/LICENSE"
docker stop --time 20 kubeagents >/dev/null
echo "built and run by Docker"

docker-compose --file "$repository/docker-compose.yml" config --quiet
echo "docker-compose takes the file"

storage=(--root "$work/buildah" --runroot "$work/buildah-run" --storage-driver vfs)
for image in "$build:0" "$bases/run.tar:1"; do
    container=$(buildah "${storage[@]}" from scratch)
    buildah "${storage[@]}" add --quiet "$container" "${image%:*}" / >/dev/null
    [ "${image##*:}" = 0 ] || buildah "${storage[@]}" config --user nonroot "$container"
    buildah "${storage[@]}" commit --quiet --rm "$container" "${names[${image##*:}]}" >/dev/null
done
nice -n 19 buildah "${storage[@]}" build --isolation chroot --pull-never --tag kubeagents:test \
    "$repository" >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
container=$(buildah "${storage[@]}" from --pull-never kubeagents:test)
buildah "${storage[@]}" run --isolation chroot "$container" -- kubeagents --version
echo "built and run by Buildah"
