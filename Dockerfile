# syntax=docker/dockerfile:1.7
# `make image` builds it. deploy/image/README.md says how, and what is in it.

# rust-toolchain.toml's.
ARG RUST_VERSION=1.95.0
# The libraries in the image are this Debian's.
ARG DEBIAN=bookworm

FROM --platform=$BUILDPLATFORM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
ARG RUST_VERSION TARGETARCH
ARG CARGO_AUDITABLE=0.7.7
# Else the toolchain file would bring the tools of developers.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
WORKDIR /src
COPY deploy/image/ deploy/image/
RUN --mount=type=cache,target=/usr/local/cargo/registry deploy/image/build.sh prepare
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=fanfare-target-${TARGETARCH} \
    deploy/image/build.sh compile

FROM scratch
ARG VERSION=0.1.0 REVISION=unknown
LABEL org.opencontainers.image.title="fanfare" \
      org.opencontainers.image.description="A horizontally scaled realtime message broker" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs/ /
# By number: Kubernetes's runAsNonRoot does not look names up.
USER 65532:65532
EXPOSE 8080 9090 7400
ENTRYPOINT ["/usr/bin/fanfare"]
CMD ["serve"]
