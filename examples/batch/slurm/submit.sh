#!/bin/sh
# Submit one recipe to Slurm: an array of trainings, an array of scorings, and the rest, each after the one before. With
# FINETUNES, the ranking is a job, and the real fine-tunes are arrays too, one for each of the first three rungs.
# Usage: submit.sh [SBATCH-OPTIONS] RECIPE [TRAININGS] [SCORINGS] [FINETUNES]      on a folder that all nodes see. For example
#        submit.sh --partition=short --account=lab --cpus-per-task=8 --time=01:00:00 recipe.toml 8 16 4
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
[ $# -gt 0 ] || { echo "usage: submit.sh [SBATCH-OPTIONS] RECIPE [TRAININGS] [SCORINGS] [FINETUNES]" >&2 && exit 2; }
recipe=$1 trainings=${2:-8} scorings=${3:-16} finetunes=${4:-}

# submit WHEN ARGUMENTS...: prints the number of the job, or array, that starts when job WHEN has succeeded ("": at once).
submit() {
    when=$1
    shift
    # shellcheck disable=SC2086 # options are words
    sbatch --parsable $options ${when:+--dependency=afterok:$when --kill-on-invalid-dep=yes} "$@"
}

train=$(submit "" --array="1-$trainings" "$here/job.sbatch" train "$recipe" "$trainings")
search=$(submit "$train" --array="1-$scorings" "$here/job.sbatch" search "$recipe" "$scorings")
before=$search confirms=
if [ "$finetunes" ]; then
    before=$(submit "$before" "$here/job.sbatch" search "$recipe") # joins the shares and ranks
    # A rung needs the scores of the one before. An array that finds no rung left ends at once.
    for _ in 1 2 3; do
        before=$(submit "$before" --array="1-$finetunes" "$here/job.sbatch" confirm "$recipe" "$finetunes")
        confirms="$confirms confirm: $before,"
    done
fi
run=$(submit "$before" "$here/job.sbatch" run "$recipe")
echo "train: $train, search: $search,$confirms run: $run. See them with: squeue --me"
