# The commands that contributors use. `just` lists them.

# A backtrace per request makes the WebAssembly hosts twenty times slower.
unexport RUST_BACKTRACE

_list:
    @just --list

# Run the server in memory, on port 8080
run *flags:
    cargo run --release -- {{ flags }}

# Run every test, or those of one package: just test kubeagents-core
test package="":
    cargo test {{ if package == "" { "--workspace" } else { "--package " + package } }}

# Check formatting, dependencies, lints, documentation, and that the core builds for WebAssembly
check:
    cargo fmt --all --check
    cargo deny --workspace check licenses bans sources
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
    cargo doc --workspace --no-deps --document-private-items --locked
    cargo check --package kubeagents-core --target wasm32-wasip2 --locked
    cargo check --package kubeagents --no-default-features --locked

# Build the Spin component and serve it in open mode
spin:
    spin build
    spin up --variable auth_mode=open

# Serve the wasmCloud component under wash, in open mode
[working-directory("host-wasmcloud")]
wasmcloud:
    wash dev

# Measure every host and storage beside its limit
bench *options:
    cargo run --release --package kubeagents-bench -- {{ options }}
