# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cargo build --release --locked --bin mathesis && cp target/release/mathesis /mathesis

FROM debian:bookworm-slim
# ca-certificates for Claude; no PostgreSQL, since a container is given DATABASE_URL.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /app --shell /usr/sbin/nologin mathesis
WORKDIR /app
COPY --from=build /mathesis /app/mathesis
COPY --chown=mathesis workflows /app/workflows
RUN mkdir -p /app/config/deep_research && chown -R mathesis /app/config
USER mathesis
# With PORT set and a key (MATHESIS_BOOTSTRAP_KEY), the server listens on every address.
ENV PORT=8080
EXPOSE 8080
CMD ["/app/mathesis", "serve"]
