#!/bin/sh
# fio's verify job and, as root, frames of every size and a transfer both ways through a pair, under every memory model, IOMMU mode, device mask,
# segment boundary and bounce pool. One line for each; exits 1 if one of them fails. `tools/verify-memory.sh [CAUSEWAY [MEGABYTES]]`; a quarter
# of an hour with 64 MiB.
set -u
checks=$(dirname "$0")/network/checks.sh
causeway=${1:-.build/release/causeway}
megabytes=${2:-64}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP PIPE
failed=0

# What the device's memory has counted, apart from zeroes.
counts() {
    found=$(grep -oE '"(bounced-[a-z-]+|iotlb-(hits|misses)|iommu-faults|unmappable)": *[1-9][0-9]*' "$scratch/status.json" |
        tr -d '"' | tr '\n' ' ')
    echo "${found:-nothing bounced}"
}

for model in p2m identity vp; do
    for iommu in off strict deferred; do
        for limits in "" "--dma-boundary 12" "--dma-boundary 16" "--dma-mask 32 --bounce-pool 8M" \
            "--dma-mask 36 --dma-boundary 14 --bounce-pool 4M" "--bounce-pool 1M"; do
            truncate -s "${megabytes}M" "$scratch/disk.img"
            # shellcheck disable=SC2086,SC2016 # options are words; $uri is the command's
            if "$causeway" pair --quiet --memory-model "$model" --iommu "$iommu" $limits --disk "$scratch/disk.img,raw,xvda,w" -- \
                sh -c 'fio --name=v --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-1M --iodepth=32 \
                    --size="$2"m --verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal >"$3/fio.log" 2>&1 &&
                    "$1" status --json >"$3/status.json"' \
                sh "$causeway" "$megabytes" "$scratch" 2>"$scratch/errors"; then
                echo "ok    $model, IOMMU $iommu $limits: $(counts)"
            else
                failed=1
                echo "FAIL  $model, IOMMU $iommu $limits: $(tail -n 3 "$scratch/errors" "$scratch/fio.log" 2>/dev/null)"
            fi
            rm -f "$scratch/disk.img"
            [ "$(id -u)" -eq 0 ] || continue
            # shellcheck disable=SC2086,SC2016 # as above
            if "$causeway" pair --quiet --memory-model "$model" --iommu "$iommu" $limits --vif mac=00:16:3e:0a:0b:0c -- \
                sh -c '"$2" sizes echo >"$3/checks.log" 2>&1 && "$1" status --json >"$3/status.json"' \
                sh "$causeway" "$checks" "$scratch" 2>"$scratch/errors"; then
                echo "ok    $model, IOMMU $iommu $limits, network: $(counts)"
            else
                failed=1
                echo "FAIL  $model, IOMMU $iommu $limits, network: $(tail -n 3 "$scratch/errors" "$scratch/checks.log" 2>/dev/null)"
            fi
        done
    done
done
exit $failed
