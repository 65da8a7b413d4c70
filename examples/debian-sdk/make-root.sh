#!/bin/sh
# Makes images/debian.tar, the Debian root that build.yaml starts from. Needs root and mmdebstrap.
#
#   SUITE   the release; default bookworm
#   MIRROR  where its packages are; default what apt of this host uses for that release, or else mmdebstrap's own default
set -eu
cd "$(dirname "$0")"
suite=${SUITE:-bookworm}
part=images/.debian.tar.part
mkdir -p images
trap 'rm -f "$part"' EXIT

make() {
    # mmdebstrap puts the host's name and resolv.conf in, which are no business of an image.
    mmdebstrap --mode=root --variant=minbase --format=tar \
        --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' "$suite" "$part" "$@"
}

# The lines `deb URI SUITE COMPONENT` of the release, of its updates and of its security updates.
lines() {
    for codename in "$suite" "$suite-updates" "$suite-security"; do
        apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' \
            'Created-By: Packages' 'Origin: Debian' "Codename: $codename"
    done | sort -u
}

if [ -n "${MIRROR:-}" ]; then
    make "$MIRROR"
elif [ -n "$(lines)" ]; then
    lines | make -
else
    make
fi
# Renamed when whole: a build never sees half of it.
mv "$part" images/debian.tar
