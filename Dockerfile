# An image with graceful and nothing else, as it is built where golang's image can be had:
#
#	docker build -t graceful .
#
# Put it before your program:
#
#	COPY --from=graceful /graceful /graceful
#	ENTRYPOINT ["/graceful", "run", "--"]
#	CMD ["./myservice"]
#
# Dockerfile.prebuilt makes the same image from a binary that was built outside.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /graceful .

# It needs no file, no user and no right of its own, so any --user will do.
FROM scratch
COPY --from=build /graceful /graceful
ENTRYPOINT ["/graceful", "run", "--"]
