#!/bin/bash
# A workflow as a Slurm array: each task of the array takes its part of the cells. Afterwards the same corvid batch
# command without an array gathers what the parts made.
#
#   sbatch --array=1-8 configs/cluster/slurm.sh WORKFLOW.yaml [FLAGS OF corvid batch…]
#   corvid batch WORKFLOW.yaml [THE SAME FLAGS]
#
#SBATCH --job-name=corvid
#SBATCH --output=corvid-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@60

# A minute before the time limit, and when Slurm takes the node away, corvid stores what is finished and exits with 75;
# a process that was killed leaves 137. Both go on where they were when the task is queued again.
corvid batch "$@" &
trap 'kill -TERM $! 2>/dev/null' TERM
wait $!
status=$?
if [ $status = 143 ]; then  # it was the wait that the signal ended
  wait $!
  status=$?
fi
if { [ $status = 75 ] || [ $status = 137 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" && sleep infinity
fi
exit $status
