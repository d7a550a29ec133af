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

# A mean image in the autoencoder would not be protected, so differential privacy is compared with these.
uncentred() { each architecture.centre=false "$@"; }
cut() { uncentred training.clip=0.1 training.micro_batch=10 training.final_rate=0.1 "$@"; }

uncentred 'rungs=[3e-2,1e-2,1e-3,1e-5]' "$@"
cut training.privacy_noise=0.25,1,5.3 training.max_steps=100 training.learning_rate=5e-3 \
    'training.ladder=[0.5,0.4,0.3,0.25,0.2,0.15,0.1,0.08,0.06,0.05,0.04,0.03,0.02,0.01]' "$@"
cut training.max_steps=600 "$@"  # gradients are cut, and no noise is added
