#!/usr/bin/env bash
# Builds what a release publishes: for each target an archive of static programs, and a package for Debian.
# usage: packaging/build.sh [target...]; by default all, to target/dist
# Needs rustup, git, a compiler of C for this machine, and Python with venv. One of the targets must run on this
# machine, since the program itself makes its manual and completions.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl)

version=$(packaging/version.sh)
# What is packed twice is the same twice.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# SQLite and ring have C in them: Zig's compiler makes it for any target.
tools=target/packaging
if ! cmp --silent packaging/requirements.txt "$tools/installed"; then
    python3 -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement packaging/requirements.txt
    cp packaging/requirements.txt "$tools/installed"
fi
PATH=$PWD/$tools/bin:$PATH
command -v cargo-deb >/dev/null || cargo install cargo-deb --version 3.8.0 --locked

# Zig's linker makes programs for a fixed address unless it is told otherwise.
for target in "${targets[@]}"; do
    rustup target add "$target"
    RUSTFLAGS="-C relocation-model=pie -C link-arg=-pie" \
        cargo zigbuild --release --locked --package kubeagents --target "$target"
done

package=target/package
rm -rf "$package" target/dist
mkdir -p "$package/completions" target/dist
for target in "${targets[@]}"; do
    program=target/$target/release/kubeagents
    "$program" man "$package/man" 2>/dev/null || continue
    "$program" completions bash >"$package/completions/kubeagents.bash"
    "$program" completions zsh >"$package/completions/_kubeagents"
    "$program" completions fish >"$package/completions/kubeagents.fish"
    break
done
[ -d "$package/man" ] || { echo "none of ${targets[*]} runs on this machine" >&2 && exit 1; }
# The other program has no commands and no flags.
echo '.so man1/kubeagents-hook.1' >"$package/man/kubeagents-watcher.1"
cat >"$package/changelog" <<END
kubeagents ($version-1) stable; urgency=medium

  * What has changed is in /usr/share/doc/kubeagents/NEWS.gz.

 -- The kubeagents authors <kubeagents@users.noreply.github.com>  $(LC_ALL=C date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")
END

for target in "${targets[@]}"; do
    name=kubeagents-$version-$target
    mkdir "$package/$name"
    packaging/licenses.py "$target" >"$package/THIRD-PARTY"
    cp -r "target/$target/release/kubeagents" "target/$target/release/kubeagents-watcher" \
        "$package/man" "$package/completions" "$package/THIRD-PARTY" \
        README.md CHANGELOG.md LICENSE "$package/$name/"
    tar --directory "$package" --sort name --owner 0 --group 0 --numeric-owner --mtime "@$SOURCE_DATE_EPOCH" \
        --create "$name" | gzip --no-name --best >"target/dist/$name.tar.gz"
    cargo deb --package kubeagents --target "$target" --no-build --no-strip --locked --output target/dist
done
(cd target/dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
