FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p kubeagents \
    && cp target/release/kubeagents /kubeagents

# The C library, the certificates of public authorities, and nothing to run but the server.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /kubeagents /usr/local/bin/kubeagents
ENV HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/kubeagents", "health"]
ENTRYPOINT ["/usr/local/bin/kubeagents"]
