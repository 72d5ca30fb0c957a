#!/bin/sh
# Submit one recipe to Slurm: an array of trainings, an array of scorings, and the rest, each after the one before.
# Usage: submit.sh [SBATCH-OPTIONS] RECIPE [TRAININGS] [SCORINGS]      on a folder that all nodes see. For example
#        submit.sh --partition=short --account=lab --cpus-per-task=8 --time=01:00:00 recipe.toml 8 16
set -eu
here=$(cd "$(dirname "$0")" && pwd)
options=
while [ "${1-}" != "${1#-}" ]; do
    case $1 in
    --*=* | --exclusive) options="$options $1" ;;
    *) echo "write the option $1 as --name=value" >&2 && exit 2 ;;
    esac
    shift
done
[ $# -gt 0 ] || { echo "usage: submit.sh [SBATCH-OPTIONS] RECIPE [TRAININGS] [SCORINGS]" >&2 && exit 2; }
recipe=$1 trainings=${2:-8} scorings=${3:-16}

# submit WHEN ARGUMENTS...: prints the number of the job, or array, that starts when job WHEN has succeeded ("": at once).
submit() {
    when=$1
    shift
    # shellcheck disable=SC2086 # options are words
    sbatch --parsable $options ${when:+--dependency=afterok:$when --kill-on-invalid-dep=yes} "$@"
}

train=$(submit "" --array="1-$trainings" "$here/job.sbatch" train "$recipe" "$trainings")
search=$(submit "$train" --array="1-$scorings" "$here/job.sbatch" search "$recipe" "$scorings")
run=$(submit "$search" "$here/job.sbatch" run "$recipe")
echo "train: $train, search: $search, run: $run. See them with: squeue --me"
