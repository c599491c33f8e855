#!/bin/sh
# Print which file says what MODEL_TYPE bakes into the image; nothing for `base`.
#
# which-config.sh SOURCE
set -eu

source=$1
type=${MODEL_TYPE:-base}

case $type in
base) exit 0 ;;
config) file=$source/config.yml ;;
*) file=$source/configs/$type.yml ;;
esac
if [ -f "$file" ]; then
    echo "$file"
    exit 0
fi
there=$(cd "$source/configs" && for name in *.yml; do printf ' %s' "${name%.yml}"; done)
echo "error: there is no MODEL_TYPE '$type'. There is: base, config (what config.yml says), and$there" >&2
exit 2
