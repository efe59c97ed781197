# An image with graceful and nothing else, as it is built (by BuildKit) where golang's image can be had:
#
#	docker build -t graceful .
#
# For more than one architecture, and with what is known of the source:
#
#	docker buildx build --platform linux/amd64,linux/arm64,linux/arm/v7,linux/riscv64 \
#		--build-arg VERSION=v1.2.0 --build-arg REVISION=$(git rev-parse HEAD) --build-arg SOURCE=URL -t graceful .
#
# Put it before your program:
#
#	COPY --from=graceful /graceful /graceful
#	ENTRYPOINT ["/graceful", "run", "--"]
#	CMD ["./myservice"]
#
# Dockerfile.prebuilt makes the same image from a binary that was built outside.

# Go compiles for another architecture faster than an emulator runs Go.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH TARGETVARIANT VERSION REVISION
# TARGETVARIANT is that of arm (v6, v7); of the others Go takes the lowest.
RUN x=graceful/runner/build; \
	if [ "$TARGETARCH" = arm ]; then export GOARM=${TARGETVARIANT#v}; fi; \
	CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
	-ldflags "-s -w -X $x.version=$VERSION -X $x.commit=$REVISION" -o /graceful .

# It needs no file, no user and no right of its own, so any --user will do.
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
