# Where things lie, and what is run. Source it: . book/server/settings.sh
# Absolute paths, on a disk that all nodes see; a value that is set already is kept.
export RNASYNTH_DATA="${RNASYNTH_DATA:-/scratch/$USER/rnasynth/data}"  # fetched files and built cohorts
export RNASYNTH_RUNS="${RNASYNTH_RUNS:-/scratch/$USER/rnasynth/runs}"  # trained models
export RNASYNTH_HOME="${RNASYNTH_HOME:-/scratch/$USER/rnasynth}"       # build/, results of pages
# export RNASYNTH_MIRROR=/shared/public-files    # a folder that holds the public files already
export COHORT="${COHORT:-her2st}"  # a name, or the absolute path of your own manifest
export PRESET="${PRESET:-paper}"   # demo, gpu or paper
mkdir -p "$RNASYNTH_DATA" "$RNASYNTH_RUNS" "$RNASYNTH_HOME"
