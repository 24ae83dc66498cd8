#!/bin/sh
# A small labelled data set: a hundred clips in folders by action, and the same clips in
# archives for WebDataset. Killed at any moment and started again, it goes on where it was.
#
#     sh examples/small_dataset.sh FOLDER [CLIPS]
set -eu
folder=${1:?"usage: sh examples/small_dataset.sh FOLDER [CLIPS]"}
clips=${2:-100}

mocogen sample --count "$clips" --seed 0 --frames 32 \
    --out "$folder/clips/{action}/{seed:06d}.mp4"

mocogen sample --count "$clips" --seed 0 --frames 32 \
    --shards "$folder/shards/clips-{shard:05d}.tar" --shard-size 25

# The manifest has a line for every clip: how many of each action are there?
for action in wave1 wave2 jack bend; do
    printf '%s: %s clips\n' "$action" "$(grep -c "\"action\": \"$action\"" "$folder/clips/manifest.jsonl" || true)"
done
