# What a user needs: up, down, test, bench. What a developer needs besides: images, check, fmt.
# Everything a target needs is installed by its own set-up (Debian's packages, npm for kubectl).

SHELL := /bin/bash
DATA_DIR ?= /var/lib/pintle
BIND ?= 0.0.0.0:6443
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pintle
CARGO_TARGET_DIR ?= $(CURDIR)/target
IMAGES := $(CACHE)/images
PINTLE := $(CARGO_TARGET_DIR)/release/pintle
export DATA_DIR BIND CACHE CARGO_TARGET_DIR IMAGES PINTLE

.PHONY: up down test bench images check fmt build setup setup-test setup-check

up: setup build images ## starts a cluster on this machine and runs the guestbook on it
	@scripts/up

down: ## undoes up
	@scripts/down

setup:
	@scripts/setup up

setup-test:
	@scripts/setup test

setup-check:
	@scripts/setup check

build:
	@echo "building pintle (release)"
	@cargo build --release -p pintle

images: setup ## makes the guestbook's images from Debian's packages
	@scripts/images

test: setup-test images ## every test, live ones included
	@scripts/test

bench: setup-test images build ## measures, and prints the table of ARCHITECTURE.md section 6
	@scripts/bench

check: setup-check ## fmt, clippy with warnings denied, tidy, deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo run -q -p xtask -- tidy
	@scripts/deny

fmt:
	cargo fmt --all
