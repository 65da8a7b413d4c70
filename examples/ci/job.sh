#!/bin/sh
# A job of CI: checks the manifest, builds, tests, and pushes the image. Needs root, and runner in PATH.
#
#   REGISTRY      has the base, and gets the image; default localhost:5050
#   RUNNER_STORE  a directory that the jobs share: a job takes from there the steps that have not changed
set -eu
cd "$(dirname "$0")"
export CI=true
set -- --set "registry=${REGISTRY:-localhost:5050}"
runner validate "$@"
runner apply --keep-going --report build.html --report build.xml "$@"
