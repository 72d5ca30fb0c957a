#!/bin/sh
# Submit one recipe to Slurm: an array of trainings, an array of scorings, and the rest, each after the one before.
# Usage: submit.sh RECIPE [TRAININGS] [SCORINGS]      on a folder that all nodes see.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
recipe=$1 trainings=${2:-8} scorings=${3:-16}
train=$(sbatch --parsable --array="1-$trainings" "$here/share.sbatch" train "$recipe" "$trainings")
search=$(sbatch --parsable --array="1-$scorings" --dependency="afterok:$train" "$here/share.sbatch" search "$recipe" "$scorings")
sbatch --dependency="afterok:$search" "$here/run.sbatch" "$recipe"
