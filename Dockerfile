FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# No cache is mounted: Cargo takes a file for unchanged by its time, so a cache that two checkouts
# share can put the program of one into the image of the other.
RUN cargo build --release --locked -p kubeagents \
    && packaging/licenses.py "$(rustc --print host-tuple)" >target/THIRD-PARTY

# The C library, the certificates of public authorities, and nothing to run but the server.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/kubeagents /usr/local/bin/kubeagents
COPY --from=build /src/LICENSE /src/target/THIRD-PARTY /usr/share/doc/kubeagents/
ARG VERSION
ARG REVISION
ARG CREATED
ARG SOURCE
LABEL org.opencontainers.image.title="kubeagents" \
    org.opencontainers.image.description="Server that AI coding agents report to" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.created="$CREATED" \
    org.opencontainers.image.source="$SOURCE"
ENV HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/kubeagents", "health"]
ENTRYPOINT ["/usr/local/bin/kubeagents"]
