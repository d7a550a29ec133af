#!/bin/sh
# Recover and extract from autoencoders that were trained with each protection: `experiments/protection/run.sh STORE`.
set -e
store=${1:?give the folder of the store}
shift  # what is left is set in every run

each() {
    set -- experiment=protection seed=0,1,2 "store=$store" "$@"
    memorization-recover -m degradation=random_80 operator=known recovery=energy,pnp_admm "$@"
    memorization-extract -m search.queries=50000 "$@"
}

each rungs=all "$@"  # without protection, and stopped early
each training.shift=1,2 "$@"
each training.input_noise=0.03,0.1,0.3 "$@"
each training.weight_decay=0.1,1,10 "$@"
each architecture.dropout=0.05,0.2 "$@"
each training.mirror=true "$@"
