#!/bin/bash
# A SLURM cluster of one node on this machine's loopback, from Debian's packages, as root: `cluster.sh up`, `cluster.sh down`.
# It has two CPUs and 4 GB, whatever the machine has; everything of it lies in $FOLDER, and SLURM_CONF there names it.
set -eu
FOLDER=/run/memorization-slurm

up() {
  command -v slurmctld slurmd srun munged >/dev/null ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurmctld slurmd munge >/dev/null; }
  down
  mkdir -p -m 755 $FOLDER/state $FOLDER/spool
  head -c 1024 /dev/urandom >$FOLDER/munge.key && chmod 600 $FOLDER/munge.key
  cat >$FOLDER/slurm.conf <<CONF
ClusterName=memorization
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$FOLDER/munge.socket,cred_expire=15
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MpiDefault=none
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES State=UP
CONF
  export SLURM_CONF=$FOLDER/slurm.conf
  munged --force --key-file=$FOLDER/munge.key --socket=$FOLDER/munge.socket --pid-file=$FOLDER/munged.pid \
    --log-file=$FOLDER/munged.log --seed-file=$FOLDER/munged.seed 2>/dev/null
  slurmctld
  slurmd
  for _ in $(seq 60); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && return
    sleep 1
  done
  tail -n 20 $FOLDER/*.log >&2
  return 1
}

down() {
  for name in slurmd slurmctld munged; do
    if [ -f $FOLDER/$name.pid ]; then
      number=$(cat $FOLDER/$name.pid)
      kill "$number" 2>/dev/null || true
      for _ in $(seq 50); do kill -0 "$number" 2>/dev/null || break; sleep 0.2; done
    fi
  done
  rm -rf $FOLDER
}

"$1"
