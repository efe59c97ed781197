# Builds an image that contains only graceful. Needs BuildKit and the image of golang:
#
#	docker build -t graceful .
#
# For several architectures, with labels for version, commit and source:
#
#	docker buildx build --platform linux/amd64,linux/arm64,linux/arm/v7,linux/riscv64 \
#		--build-arg VERSION=v1.2.0 --build-arg REVISION=$(git rev-parse HEAD) --build-arg SOURCE=URL -t graceful .
#
# In the image of your service:
#
#	COPY --from=graceful /graceful /graceful
#	ENTRYPOINT ["/graceful", "run", "--"]
#	CMD ["./myservice"]
#
# Dockerfile.prebuilt makes the same image from an existing binary.

# The build runs on the builder's architecture: to cross-compile is faster than to emulate.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH TARGETVARIANT VERSION REVISION
# TARGETVARIANT selects the version of arm (v6, v7). For other architectures, Go's default is the lowest version.
RUN x=graceful/runner/build; \
	if [ "$TARGETARCH" = arm ]; then export GOARM=${TARGETVARIANT#v}; fi; \
	CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
	-ldflags "-s -w -X $x.version=$VERSION -X $x.commit=$REVISION" -o /graceful .

# graceful needs no other file, no user and no privilege. It runs with any --user.
FROM scratch
ARG VERSION REVISION SOURCE
LABEL org.opencontainers.image.title="graceful" \
	org.opencontainers.image.description="Run a program, stop it properly, leave nothing behind" \
	org.opencontainers.image.version="$VERSION" \
	org.opencontainers.image.revision="$REVISION" \
	org.opencontainers.image.licenses="MIT" \
	org.opencontainers.image.source="$SOURCE"
COPY --from=build /graceful /graceful
ENTRYPOINT ["/graceful", "run", "--"]
